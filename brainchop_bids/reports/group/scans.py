"""What the group level reads of each scan: labels' volumes, measures and flags.

Only the derivatives are read. They may have been edited, cut short or copied by hand since:
whatever cannot be read is missing from the scan and told in one line, and nothing fails.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...bids.derivatives import ScanOutputs, sidecar
from ...bids.names import ScanName
from ...system.errors import BrainchopError
from ..sidecars import (
    LabelStyle,
    number,
    plain,
    read_facts,
    read_label_table,
    read_volumes,
    unreadable,
)
from ..text import log_line, one_line

# Nothing that is measured comes near; differences and sums of such numbers still are numbers.
_LARGEST = 1e100


@dataclass(frozen=True)
class Flag:
    """What makes a result implausible.

    Parameters
    ----------
    name : str
        Such as ``'brain-volume'``.
    reason : str
        A sentence, or an empty string.
    """

    name: str
    reason: str = ''


@dataclass(frozen=True)
class GroupScan:
    """The results of one finished scan and one model.

    Parameters
    ----------
    outputs : ScanOutputs
        Where they lie.
    brain_volume : float or None
        Volume of the brain mask in mm^3.
    volumes : dict of int to float or None
        Volume of each label in mm^3, background left out.
    names : dict of int to str
        What the scan's own table calls them.
    measures : dict of str to float or None
        Quality measures of the image, by their names in the sidecar.
    flags : tuple of Flag or None
        None where the sidecar tells nothing of flags.
    source_sha256, model_sha256 : str
        Checksums of scan and model; empty where the sidecar tells none.
    """

    outputs: ScanOutputs
    brain_volume: float | None = None
    volumes: dict[int, float | None] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    measures: dict[str, float | None] = field(default_factory=dict)
    flags: tuple[Flag, ...] | None = None
    source_sha256: str = ''
    model_sha256: str = ''

    @property
    def participant_id(self) -> str:
        """Participant with ``sub-``."""
        return f'sub-{self.outputs.name.subject}'

    @property
    def bids_name(self) -> str:
        """File name of the scan without its extension."""
        return self.outputs.name.stem


@dataclass(frozen=True)
class Group:
    """All finished scans of one model.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    slug : str
        The model's name in file names.
    styles : dict of int to LabelStyle
        Its label table; empty where that cannot be read.
    scans : tuple of GroupScan
        By name.
    """

    root: Path
    slug: str
    styles: dict[int, LabelStyle]
    scans: tuple[GroupScan, ...]


def collect_groups(
    root: Path,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
) -> tuple[list[Group], list[str]]:
    """Read the results of all finished scans.

    Parameters
    ----------
    root : Path
        Root of the derivatives.
    participants, sessions : tuple of str
        Labels without prefix; empty means all.

    Returns
    -------
    groups : list of Group
        One for each model with a finished scan, by name.
    notes : list of str
        What could not be read or was left out, each one line that names the file.
    """
    notes: list[str] = []
    found: dict[str, list[ScanOutputs]] = {}
    for outputs in _find(root, participants, sessions, notes):
        if os.path.isfile(outputs.dseg):
            found.setdefault(outputs.slug, []).append(outputs)
        else:
            lost = outputs.dseg.relative_to(root)
            notes.append(f'{lost} is missing: {outputs.name.stem} is not finished, no row')
    groups = []
    for slug in sorted(found):
        styles = _read_styles(root / f'seg-{slug}_dseg.tsv', notes)
        scans = tuple(_read_scan(outputs, styles, notes) for outputs in found[slug])
        groups.append(Group(root, slug, styles, scans))
    return groups, [log_line(note) for note in notes]


def _find(
    root: Path, participants: tuple[str, ...], sessions: tuple[str, ...], notes: list[str]
) -> Iterator[ScanOutputs]:
    """Find results by their names, each once, in the order of their names."""
    found: dict[tuple[str, str], ScanOutputs] = {}
    for folder in _folders(root, participants):
        for path in _candidates(folder):
            try:
                name = ScanName.parse(path)
            except BrainchopError as error:
                notes.append(f'{path.relative_to(root)} is left out: {error}')
                continue
            if name.suffix != 'dseg' or {'space', 'desc'} & name.entities.keys():
                continue
            if sessions and name.session not in sessions:
                continue
            source = ScanName(
                {key: value for key, value in name.entities.items() if key != 'seg'},
                'T1w',
                '.nii.gz',
            )
            outputs = ScanOutputs(root, source, name.entities.get('seg', ''))
            if not outputs.slug or outputs.anat != path.parent:
                notes.append(f'{path.relative_to(root)} is left out: it does not belong there')
                continue
            found[source.stem, outputs.slug] = outputs
    return (outputs for _, outputs in sorted(found.items()))


def _folders(root: Path, participants: tuple[str, ...]) -> list[Path]:
    """List the participants' folders."""
    with suppress(OSError):
        return sorted(
            path
            for path in root.iterdir()
            if path.name.startswith('sub-')
            and path.is_dir()
            and (not participants or path.name.removeprefix('sub-') in participants)
        )
    return []


def _candidates(folder: Path) -> list[Path]:
    """List what may belong to a result; not what a killed run left half written."""
    found: list[Path] = []
    for folders in ('anat', 'ses-*/anat'):
        with suppress(OSError):
            found += folder.glob(f'{folders}/*_dseg.*')
    return sorted(path for path in found if not path.name.startswith('.'))


def _read_styles(path: Path, notes: list[str]) -> dict[int, LabelStyle]:
    """Read a model's label table; where that fails, say so."""
    try:
        return read_label_table(path)
    except (OSError, ValueError, csv.Error) as error:
        notes.append(unreadable(path, error, 'labels are called as in the tables of the scans'))
        return {}


def _read_scan(
    outputs: ScanOutputs, styles: Mapping[int, LabelStyle], notes: list[str]
) -> GroupScan:
    """Read the sidecar and the table of one scan."""
    own: list[str] = []
    facts = read_facts(sidecar(outputs.dseg), own)
    volumes, names = _read_table(outputs, styles, own)
    # The readers of pages name files alone; among thousands of scans a path is found sooner.
    folder = outputs.anat.relative_to(outputs.root).as_posix()
    notes += [f'{folder}/{note}' for note in own]
    return GroupScan(
        outputs,
        _measured(facts, 'BrainVolume', f'{folder}/{sidecar(outputs.dseg).name}', notes),
        volumes,
        names,
        _read_measures(facts, f'{folder}/{sidecar(outputs.dseg).name}', notes),
        _read_flags(facts.get('Flags')),
        _text(facts, 'Brainchop', 'SourceSHA256'),
        _text(facts, 'Model', 'SHA256') or _text(facts, 'Brainchop', 'ModelSHA256'),
    )


def _read_table(
    outputs: ScanOutputs, styles: Mapping[int, LabelStyle], notes: list[str]
) -> tuple[dict[int, float | None], dict[int, str]]:
    """Read the volumes of a scan, and what its table calls the labels."""
    path = outputs.volumes
    try:
        rows = list(read_volumes(path, dict(styles)))
    except (OSError, ValueError, csv.Error) as error:
        notes.append(unreadable(path, error, 'volumes are n/a'))
        return {}, {}
    volumes = {row.index: _sane(row.volume) for row in rows}
    names = {row.index: one_line(row.name) for row in rows}
    table = f'seg-{outputs.slug}_dseg.tsv'
    if len(volumes) < len(rows):
        notes.append(f'{path.name} lists a label twice: the last one counts')
    unknown = [index for index in volumes if styles and index not in styles]
    if unknown:
        notes.append(f'{path.name} has {_labels(unknown)}, which {table} does not know')
    absent = [index for index in styles if index and volumes.get(index) is None]
    absent += [index for index in unknown if volumes[index] is None]
    if absent:
        notes.append(f'{path.name} has no volume for {_labels(absent)}: n/a')
    renamed = [
        index
        for index, name in names.items()
        if index in styles and name != one_line(styles[index].name)
    ]
    if renamed:
        notes.append(f'{path.name} calls {_labels(renamed)} by other names than {table}')
    return volumes, names


def _read_measures(
    facts: Mapping[str, Any], file: str, notes: list[str]
) -> dict[str, float | None]:
    """Read the quality measures of a sidecar; none where it has none."""
    listed = facts.get('Measures', {})
    if not isinstance(listed, dict):
        notes.append(f'{file}: Measures is no JSON object: measures are n/a')
        return {}
    return {
        name: _measured(listed, key, file, notes)
        for key in listed
        if (name := one_line(key).replace(' ', '-'))
    }


def _read_flags(listed: object) -> tuple[Flag, ...] | None:
    """Read the flags of a sidecar as far as they can be understood."""
    if not isinstance(listed, list):
        return None
    flags = []
    for item in listed:
        table = item if isinstance(item, dict) else {'Name': item}
        # What cannot be read must not look like a scan without flags.
        name = one_line(plain(table.get('Name'))).replace(',', ' ') or 'n/a'
        reason = table.get('Reason')
        flags.append(Flag(name, one_line(plain(reason)) if reason is not None else ''))
    return tuple(flags)


def _measured(facts: Mapping[str, Any], key: str, file: str, notes: list[str]) -> float | None:
    """Return a number of a sidecar; where it has something else instead, say so."""
    value = facts.get(key)
    found = _sane(number(value))
    if found is None and value is not None:
        notes.append(f'{file}: {key} is {plain(value)[:40]!r}, no number: n/a')
    return found


def _sane(value: float | None) -> float | None:
    return None if value is None or abs(value) > _LARGEST else value


def _text(facts: Mapping[str, Any], *keys: str) -> str:
    """Return a text of a sidecar, empty where there is none."""
    value: Any = facts
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ''


def _labels(indices: Iterable[int]) -> str:
    """Name some labels.

    Examples
    --------
    >>> _labels([3]), _labels(range(1, 9))
    ('label 3', 'labels 1, 2, 3, 4, 5, 6, ...')
    """
    listed = [str(index) for index in indices]
    text = ', '.join(listed[:6]) + (', ...' if len(listed) > 6 else '')
    return f'label{"s" * (len(listed) > 1)} {text}'
