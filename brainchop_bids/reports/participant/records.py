"""What the derivatives say of each scan, read back for the reports.

Only the derivatives are read, so that pages can be rebuilt without the scans. They may have been
edited, truncated or copied by hand since: whatever cannot be read becomes a note of the record.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...bids.derivatives import FIGURES, ScanOutputs, sidecar
from ...bids.names import ScanName
from ...system.errors import BrainchopError
from ..sidecars import (
    LabelStyle,
    LabelVolume,
    number,
    plain,
    read_facts,
    read_label_table,
    read_volumes,
    unreadable,
)


@dataclass(frozen=True)
class Grid:
    """The grid of an image.

    Parameters
    ----------
    name : str
        Which image.
    shape : tuple of int
        Voxels along each axis.
    zooms : tuple of float
        Voxel sizes in mm.
    orientation : str
        Where the axes point, for instance ``'LIA'``.
    """

    name: str
    shape: tuple[int, ...]
    zooms: tuple[float, ...]
    orientation: str


@dataclass(frozen=True)
class FlagRecord:
    """Something about a result that should be looked at.

    Parameters
    ----------
    name : str
        Which check.
    reason : str
        Why, in a sentence with numbers.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class ScanRecord:
    """The results of one scan and one model.

    Parameters
    ----------
    name : ScanName
        The source scan, by the entities of its derivatives.
    slug : str
        The model's name in file names.
    finished : bool
        Whether the label image, which is written last, is there.
    facts : dict
        The sidecar of the label image as it stands; empty where it cannot be read.
    volumes : tuple of LabelVolume
        The labels in the table of volumes, background left out.
    styles : dict of int to LabelStyle
        The model's label table.
    grids : tuple of Grid
        Of the scan and of the conformed scan.
    figures : dict of str to Path
        The figures that are there, see `ScanOutputs.figures`.
    notes : tuple of str
        What could not be read, each one line.
    """

    name: ScanName
    slug: str
    finished: bool
    facts: dict[str, Any] = field(default_factory=dict)
    volumes: tuple[LabelVolume, ...] = ()
    styles: dict[int, LabelStyle] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()
    figures: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The scan's file name without its extension."""
        return self.name.stem

    @property
    def anchor(self) -> str:
        """Its id on the page, see `ScanOutputs.anchor`."""
        return ScanOutputs(Path(), self.name, self.slug).anchor

    @property
    def model(self) -> str:
        """Name of the model; the one in file names where the sidecar tells none."""
        return self.text('Model', 'Name') or self.slug

    @property
    def source(self) -> str:
        """Path of the scan in its dataset, as the sidecar tells it."""
        sources = self.facts.get('Sources')
        if isinstance(sources, list):
            for uri in sources:
                if isinstance(uri, str) and uri.startswith('bids:raw:'):
                    return uri.removeprefix('bids:raw:')
        return ''

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the run, as the sidecar lists them."""
        listed = self.facts.get('Warnings')
        if isinstance(listed, str):
            return (listed,)
        return tuple(plain(text) for text in listed) if isinstance(listed, list) else ()

    @property
    def lacks_figures(self) -> bool:
        """Whether a figure is missing."""
        return self.figures.keys() != FIGURES.keys()

    @property
    def notes_and_warnings(self) -> tuple[str, ...]:
        """Warnings of the run, then what could not be read."""
        return self.warnings + self.notes

    @property
    def flags(self) -> tuple[FlagRecord, ...] | None:
        """What stands out, as the sidecar lists it; None where nobody has looked."""
        listed = self.facts.get('Flags')
        if not isinstance(listed, list):
            return None
        return tuple(
            FlagRecord(plain(flag.get('Name', '')), plain(flag.get('Reason', '')))
            for flag in listed
            if isinstance(flag, dict)
        )

    @property
    def measures(self) -> dict[str, float]:
        """Image quality measures by name, those that are numbers."""
        known = {name: number(value) for name, value in self.table('Measures').items()}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def brain_volume(self) -> float | None:
        """Volume of the brain mask in mm^3."""
        return number(self.facts.get('BrainVolume'))

    @property
    def labelled_volume(self) -> float:
        """Sum of the volumes of all labels in mm^3."""
        return sum(row.volume or 0.0 for row in self.volumes)

    def table(self, *keys: str) -> dict[str, Any]:
        """Return an object of the sidecar, empty where it is missing or something else."""
        value: Any = self.facts
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def text(self, *keys: str) -> str:
        """Return a value of the sidecar as text, empty where it is missing or no plain value."""
        value = self.table(*keys[:-1]).get(keys[-1])
        return plain(value) if isinstance(value, (str, int, float)) else ''


def collect_scans(
    output_dir: str | Path, participant: str, session: str | None = None
) -> list[ScanRecord]:
    """Read all results of a participant.

    Parameters
    ----------
    output_dir : str or Path
        Root of the derivatives.
    participant : str
        Label, with or without ``sub-``.
    session : str, optional
        Label, with or without ``ses-``: only this session's results.

    Returns
    -------
    list of ScanRecord
        One for each scan and model, by name; empty where there is none. What was derived from a
        model's labels by a table is left out.
    """
    root = Path(output_dir)
    subject = participant.removeprefix('sub-')
    if not subject or Path(subject).name != subject:
        return []
    wanted = session.removeprefix('ses-') if session else None
    found: dict[tuple[str, str], ScanOutputs] = {}
    for path in _candidates(root / f'sub-{subject}', wanted):
        try:
            name = ScanName.parse(path)
        except BrainchopError:
            continue
        slug = name.entities.get('seg', '')
        entities = {key: value for key, value in name.entities.items() if key != 'seg'}
        # Labels of the conformed grid belong to the same scan; others' files are not ours.
        foreign = name.subject != subject or (wanted is not None and name.session != wanted)
        if name.suffix != 'dseg' or not slug or foreign or {'space', 'desc'} & entities.keys():
            continue
        source = ScanName(entities, 'T1w', '.nii.gz')
        found[source.stem, slug] = ScanOutputs(root, source, slug)
    records = (_read_scan(outputs) for _, outputs in sorted(found.items()))
    # Pages show the labels that others follow from.
    return [record for record in records if 'DerivedBy' not in record.facts]


def newest_changes(output_dir: Path, participant: str) -> frozenset[tuple[Path, int]]:
    """Return the results of a participant with the times of their last change.

    Parameters
    ----------
    output_dir : Path
        Root of the derivatives.
    participant : str
        Label, with or without ``sub-``.

    Returns
    -------
    frozenset of (Path, int)
        Equal as long as nobody writes there.
    """
    found = set()
    for path in _candidates(output_dir / f'sub-{participant.removeprefix("sub-")}', None):
        with suppress(OSError):
            found.add((path, path.stat().st_mtime_ns))
    return frozenset(found)


def _candidates(folder: Path, session: str | None) -> list[Path]:
    """List the files that may be results of a participant; none where that is not allowed."""
    pattern = 'ses-*' if session is None else f'ses-{session}'
    found: list[Path] = []
    for folders in ('anat', f'{pattern}/anat'):
        # A name that the file system cannot hold is as good as a missing folder.
        with suppress(OSError, ValueError):
            found += folder.glob(f'{folders}/*_dseg.*')
    return found


def _read_scan(outputs: ScanOutputs) -> ScanRecord:
    """Read the files of one scan."""
    notes: list[str] = []
    facts = read_facts(sidecar(outputs.dseg), notes)
    table = outputs.root / f'seg-{outputs.slug}_dseg.tsv'
    styles: dict[int, LabelStyle] = {}
    volumes: tuple[LabelVolume, ...] = ()
    try:
        styles = read_label_table(table)
    except (OSError, ValueError, csv.Error) as error:
        notes.append(unreadable(table, error, 'label colours are unknown'))
    try:
        volumes = tuple(read_volumes(outputs.volumes, styles))
    except (OSError, ValueError, csv.Error) as error:
        notes.append(unreadable(outputs.volumes, error, 'volumes are unknown'))
    finished = os.path.isfile(outputs.dseg)
    if not finished:
        notes.append(f'{outputs.dseg.name} is missing: this scan is not finished, run it again')
    figures = {name: path for name, path in outputs.figures.items() if os.path.isfile(path)}
    absent = next((path for path in outputs.figures.values() if not os.path.isfile(path)), None)
    if absent is not None:
        notes.append(f'figures/{absent.name} is missing: run with --reports-only to draw it again')
    for row in volumes:
        if styles and row.index not in styles:
            notes.append(f'label {row.index} ({row.name}) is not in {table.name}')
    grids = tuple(_read_grids(outputs, notes))
    return ScanRecord(
        outputs.name, outputs.slug, finished, facts, volumes, styles, grids, figures, tuple(notes)
    )


def _read_grids(outputs: ScanOutputs, notes: list[str]) -> Iterator[Grid]:
    """Read the grids of the results from the image headers."""
    from ...image.io import read_geometry

    for name, path in (('scan', outputs.dseg), ('conformed scan', outputs.preproc)):
        if not os.path.isfile(path):
            continue
        try:
            geometry, _ = read_geometry(path)
        except BrainchopError as error:
            notes.append(str(error).replace(str(path), path.name))
            continue
        yield Grid(
            name,
            tuple(int(size) for size in geometry.shape),
            tuple(float(zoom) for zoom in geometry.zooms),
            geometry.orientation,
        )
