"""Records: the results of one scan and model, read from the derivatives.

The derivatives may have been
edited, truncated or copied by hand since: nothing fails, and each file or value that cannot be
read becomes a note of the record.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..bids.derivatives import UNCERTAINTY, ScanOutputs, sidecar
from ..quality.flags import Flag
from ..quality.normative import LabelRow, tissue_volume
from ..system.errors import BrainchopError
from .sidecars import number, plain, read_label_table, read_sidecar, read_volumes, unreadable
from .text import one_line

DONE, FAILED, MISSING = 'done', 'failed', 'missing'
# No measurement comes near it; differences and sums of numbers below it stay finite.
_LARGEST = 1e100


@dataclass(frozen=True)
class Grid:
    """The grid of an image.

    Parameters
    ----------
    name : str
        Name of the image on the page.
    shape : tuple of int
        Voxels along each axis.
    zooms : tuple of float
        Voxel sizes in mm.
    orientation : str
        Anatomical directions of the axes, for instance ``'LIA'``.
    """

    name: str
    shape: tuple[int, ...]
    zooms: tuple[float, ...]
    orientation: str


@dataclass(frozen=True)
class ScanRecord:
    """The results of one scan and one model.

    Parameters
    ----------
    outputs : ScanOutputs
        Paths of the results.
    finished : bool
        Whether the label image, which is written last, exists.
    status, reason : str
        Of the group level: `DONE`; `FAILED` in the last run, even if results of an earlier one
        exist; or `MISSING`, and why.
    metadata : dict
        The sidecar of the label image; empty where it cannot be read.
    rows : tuple of LabelRow
        The labels in the scan's table of volumes, background left out.
    labels : mapping of int to LabelRow
        The model's label table; empty where it cannot be read.
    brain_volume : float or None
        Volume of the brain mask in mm^3.
    brain_measures, measures : dict of str to float or None
        Brain measures in mm^3, see `brainchop_bids.models.brain_measures`, and image quality
        measures by name; None for those that are no number.
    flags : tuple of Flag or None
        None where the sidecar has no list of flags.
    notes : tuple of str
        Files and values that could not be read, one line each.
    grids : tuple of Grid
        Grids of the scan and of the conformed scan; read for a participant's page alone.
    figures : dict of str to Path
        The existing figures, see `ScanOutputs.figures`; for a participant's page alone.
    """

    outputs: ScanOutputs
    finished: bool = True
    status: str = DONE
    reason: str = ''
    metadata: dict[str, Any] = field(default_factory=dict)
    rows: tuple[LabelRow, ...] = ()
    labels: Mapping[int, LabelRow] = field(default_factory=dict)
    brain_volume: float | None = None
    brain_measures: dict[str, float | None] = field(default_factory=dict)
    measures: dict[str, float | None] = field(default_factory=dict)
    flags: tuple[Flag, ...] | None = None
    notes: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    figures: dict[str, Path] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The model's name in file names."""
        return self.outputs.slug

    @property
    def participant_id(self) -> str:
        """Participant with ``sub-``."""
        return f'sub-{self.outputs.name.subject}'

    @cached_property
    def bids_name(self) -> str:
        """File name of the scan without its extension."""
        return self.outputs.name.stem

    @property
    def model(self) -> str:
        """Name of the model; the one in file names where the sidecar has none."""
        return self.text('Model', 'Name') or self.slug

    @property
    def source(self) -> str:
        """Path of the scan in its dataset; empty where the sidecar has none."""
        sources = self.metadata.get('Sources')
        if isinstance(sources, list):
            for uri in sources:
                if isinstance(uri, str) and uri.startswith('bids:raw:'):
                    return uri.removeprefix('bids:raw:')
        return ''

    @property
    def source_sha256(self) -> str:
        """Checksum of the scan; empty where the sidecar has none."""
        return self.text('Brainchop', 'SourceSHA256')

    @property
    def model_sha256(self) -> str:
        """Checksum of the model; empty where the sidecar has none."""
        return self.text('Model', 'SHA256') or self.text('Brainchop', 'ModelSHA256')

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the run."""
        listed = self.metadata.get('Warnings')
        if isinstance(listed, str):
            return (listed,)
        return tuple(plain(text) for text in listed) if isinstance(listed, list) else ()

    @property
    def lacks_figures(self) -> bool:
        """Whether a figure is missing."""
        return bool(self.expected_figures.keys() - self.figures.keys())

    @property
    def expected_figures(self) -> dict[str, Path]:
        """Figures that the page of this result has, see `ScanOutputs.figures`."""
        return _expected_figures(self.outputs, self.metadata)

    @property
    def labelled_volume(self) -> float:
        """Sum of the volumes of all labels in mm^3."""
        return sum(row.volume or 0.0 for row in self.rows)

    @cached_property
    def tissue_volume(self) -> float | None:
        """Volume of grey and white matter in mm^3, see `tissue_volume`."""
        return tissue_volume(self.rows)

    @property
    def intracranial_volume(self) -> float | None:
        """Intracranial volume in mm^3; None where the model does not measure it."""
        return number(self.metadata.get('IntracranialVolume'), _LARGEST)

    @cached_property
    def volumes(self) -> dict[int, float | None]:
        """Volume of each label in mm^3, background left out."""
        return {row.index: row.volume for row in self.rows}

    def table(self, *keys: str) -> dict[str, Any]:
        """Return an object of the sidecar, empty where it is missing or something else."""
        value: Any = self.metadata
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def text(self, *keys: str) -> str:
        """Return a value of the sidecar as text, empty where it is missing or no plain value."""
        value = self.table(*keys[:-1]).get(keys[-1])
        return plain(value) if isinstance(value, (str, int, float)) else ''


def read_labels(root: Path, slug: str, notes: list[str]) -> dict[int, LabelRow]:
    """Read a model's label table; where that fails, say so.

    Parameters
    ----------
    root : Path
        Root of the derivatives.
    slug : str
        The model's name in file names.
    notes : list of str
        A line is added where the table cannot be read.

    Returns
    -------
    dict of int to LabelRow
        By index; empty where the table cannot be read.
    """
    path = root / f'seg-{slug}_dseg.tsv'
    try:
        return read_label_table(path)
    except (OSError, ValueError, csv.Error) as error:
        effect = "label colours are unknown, names are those of the scans' tables"
        notes.append(unreadable(path, error, effect))
        return {}


def read_record(
    outputs: ScanOutputs,
    labels: Mapping[int, LabelRow],
    label_notes: Iterable[str] = (),
    *,
    images: bool = False,
) -> ScanRecord:
    """Read the results of one scan.

    Parameters
    ----------
    outputs : ScanOutputs
        Paths of the results.
    labels : mapping of int to LabelRow
        The model's label table, see `read_labels`.
    label_notes : iterable of str
        Notes about that table, for the record.
    images : bool
        Whether to read the headers of images and look for figures, too: groups do without.

    Returns
    -------
    ScanRecord
    """
    notes: list[str] = []
    path = sidecar(outputs.dseg)
    metadata = read_sidecar(path, notes)
    brain_volume = _number(metadata, 'BrainVolume', path.name, notes)
    brain_measures = _read_measures(metadata, 'BrainMeasures', path.name, notes)
    measures = _read_measures(metadata, 'Measures', path.name, notes)
    notes += label_notes
    rows = _read_rows(outputs, labels, notes)
    finished = os.path.isfile(outputs.dseg)
    if not finished:
        notes.append(f'{outputs.dseg.name} is missing: this scan is not finished, run it again')
    return ScanRecord(
        outputs=outputs,
        finished=finished,
        metadata=metadata,
        rows=rows,
        labels=labels,
        brain_volume=brain_volume,
        brain_measures=brain_measures,
        measures=measures,
        flags=_read_flags(metadata.get('Flags')),
        figures=_find_figures(outputs, metadata, notes) if images else {},
        grids=tuple(_read_grids(outputs, notes)) if images else (),
        notes=tuple(notes),
    )


def _read_rows(
    outputs: ScanOutputs, labels: Mapping[int, LabelRow], notes: list[str]
) -> tuple[LabelRow, ...]:
    """Read the volumes of a scan and compare its table with the model's."""
    path = outputs.volumes
    try:
        rows = tuple(read_volumes(path, labels, _LARGEST))
    except (OSError, ValueError, csv.Error) as error:
        notes.append(unreadable(path, error, 'volumes are unknown'))
        return ()
    table = f'seg-{outputs.slug}_dseg.tsv'
    by_index = {row.index: row for row in rows}
    if len(by_index) < len(rows):
        notes.append(f'{path.name} lists a label twice: the last one counts')
    unknown = [index for index in by_index if labels and index not in labels]
    if unknown:
        notes.append(f'{path.name} has {_list(unknown)}, not in {table}')
    expected = [index for index in labels if index] + unknown
    absent = [i for i in expected if i not in by_index or by_index[i].volume is None]
    if absent:
        notes.append(f'{path.name} has no volume for {_list(absent)}')
    renamed = [
        index
        for index, row in by_index.items()
        if index in labels and _names_differ(row.name, labels[index].name)
    ]
    if renamed:
        notes.append(f'{path.name} has other names for {_list(renamed)} than {table}')
    return tuple(by_index.values())


def _names_differ(name: str, other: str) -> bool:
    return name != other and one_line(name) != one_line(other)


def _expected_figures(outputs: ScanOutputs, metadata: Mapping[str, Any]) -> dict[str, Path]:
    run = metadata.get('Brainchop')
    settings = run.get('Settings') if isinstance(run, dict) else None
    uncertain = isinstance(settings, dict) and settings.get('uncertainty') is True
    return outputs.figures | {name: outputs.figure(name) for name in (UNCERTAINTY,) if uncertain}


def _find_figures(
    outputs: ScanOutputs, metadata: Mapping[str, Any], notes: list[str]
) -> dict[str, Path]:
    """Return the figures that exist."""
    expected = _expected_figures(outputs, metadata)
    figures = {name: path for name, path in expected.items() if os.path.isfile(path)}
    missing = [path.name for name, path in expected.items() if name not in figures]
    if missing:
        notes.append(f'figures/{missing[0]} is missing: run with --reports-only to draw it again')
    return figures


def _read_grids(outputs: ScanOutputs, notes: list[str]) -> Iterator[Grid]:
    """Read the grids of the results from the image headers."""
    from ..image.io import read_geometry

    for name, path in (('scan', outputs.dseg), ('conformed scan', outputs.preproc)):
        if not os.path.isfile(path):
            continue
        try:
            geometry, _ = read_geometry(path)
        except BrainchopError as error:
            notes.append(str(error).replace(str(path), path.name))
            continue
        shape = tuple(int(size) for size in geometry.shape)
        zooms = tuple(float(zoom) for zoom in geometry.zooms)
        yield Grid(name, shape, zooms, geometry.orientation)


def _read_measures(
    metadata: Mapping[str, Any], key: str, file: str, notes: list[str]
) -> dict[str, float | None]:
    """Read the measures under a key of a sidecar; none where it has none."""
    listed = metadata.get(key)
    if not isinstance(listed, dict):
        if listed is not None:
            notes.append(f'{file}: {key} is no JSON object: measures are unknown')
        return {}
    return {
        name: _number(listed, entry, file, notes)
        for entry in listed
        if (name := one_line(entry).replace(' ', '-'))
    }


def _read_flags(listed: object) -> tuple[Flag, ...] | None:
    """Read the flags of a sidecar as far as they can be understood."""
    if not isinstance(listed, list):
        return None
    flags = []
    for item in listed:
        entry = item if isinstance(item, dict) else {'Name': item}
        # What cannot be read must not look like a scan without flags; tables join names by commas.
        name = one_line(plain(entry.get('Name'))).replace(',', ' ') or 'n/a'
        reason = one_line(plain(entry.get('Reason', '')))
        flags.append(Flag(name, number(entry.get('Value')), reason))
    return tuple(flags)


def _number(metadata: Mapping[str, Any], key: str, file: str, notes: list[str]) -> float | None:
    """Return a number of a sidecar; where it has something else instead, say so."""
    value = metadata.get(key)
    result = number(value, _LARGEST)
    if result is None and value is not None:
        notes.append(f'{file}: {one_line(key)} is {plain(value)[:40]!r}, no number')
    return result


def _list(indices: Iterable[int]) -> str:
    """Name some labels.

    Examples
    --------
    >>> _list([3]), _list(range(1, 9))
    ('label 3', 'labels 1, 2, 3, 4, 5, 6, ...')
    """
    items = [str(index) for index in indices]
    text = ', '.join(items[:6]) + (', ...' if len(items) > 6 else '')
    return f'label{"s" * (len(items) > 1)} {text}'
