"""Labelled scans from a table of paths or from BIDS datasets."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bids.label_maps import find_label_maps, scan_entities
from ...bids.names import ScanName
from ...bids.query import Scan, check_dataset, find_scans, find_siblings, why_absent
from ...image.io import read_geometry
from ...system.errors import DatasetError, SettingsError
from ...system.files import read_text
from ..options import DataOptions
from .alignment import CONFORMED_GRID, SCAN_GRID, matching_grid

TRAINING, VALIDATION, TEST = 'train', 'validation', 'test'
_SPLITS = {'train': TRAINING, 'training': TRAINING, 'validation': VALIDATION, 'val': VALIDATION}
_SPLITS['test'] = TEST
_NONE = ('', 'n/a')


@dataclass(frozen=True)
class Example:
    """The scans of one head, one for each channel, with their label map.

    Parameters
    ----------
    subject : str
        Participant's label, without ``sub-``.
    name : str
        Unique name for messages, such as ``'sub-01_ses-1'``.
    images : tuple of Path
        One scan for each channel.
    labels : Path
        The label map.
    split : str
        ``'train'``, ``'validation'`` or ``'test'`` if the dataset assigns it, else empty.
    """

    subject: str
    name: str
    images: tuple[Path, ...]
    labels: Path
    split: str = ''


def bare(subject: str) -> str:
    """Return a participant's label without ``sub-``."""
    return subject.strip().removeprefix('sub-')


def from_table(data: DataOptions) -> list[Example]:
    """Read the examples of a table.

    Parameters
    ----------
    data : DataOptions
        Path of the table, and its channels. Columns are ``subject``, ``labels``, one for each
        channel, and optionally ``session`` and ``split``.

    Returns
    -------
    list of Example
        In the order of the rows.

    Raises
    ------
    DatasetError
        If the table cannot be read or lacks a column, or a file is not named or missing.
    """
    path = Path(data.table).expanduser()
    try:
        # Spreadsheets write a byte order mark before the first column's name.
        text = read_text(path, 'utf-8-sig')
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or 'no UTF-8 text'
        raise DatasetError(f'{path}: table cannot be read ({reason}); see data.table') from error
    lines = text.splitlines()
    delimiter = '\t' if lines and '\t' in lines[0] else ','
    reader = csv.DictReader(lines, delimiter=delimiter)
    needed = ('subject', 'labels', *data.channels)
    missing = [column for column in needed if column not in (reader.fieldnames or ())]
    if missing:
        raise DatasetError(
            f'{path}: has no column {", ".join(missing)}; found {", ".join(_named(reader))}'
        )
    examples = [_row(path, reader.line_num, row, data.channels) for row in reader]
    if not examples:
        raise DatasetError(f'{path}: has no rows; expected one for each scan')
    return examples


def _named(reader: 'csv.DictReader[str]') -> list[str]:
    return [name or "''" for name in reader.fieldnames or ()] or ['nothing']


def _row(table: Path, line: int, row: dict[str, str], channels: Sequence[str]) -> Example:
    # Missing cells at the end of a row are None.
    cells = {key: (value or '').strip() for key, value in row.items() if key is not None}
    subject = bare(cells['subject'])
    if subject in _NONE:
        raise DatasetError(f'{table}, line {line}: names no subject')
    files = []
    for column in (*channels, 'labels'):
        if cells[column] in _NONE:
            raise DatasetError(
                f'{table}, line {line}: sub-{subject} has no {column}; name its file or take the '
                'row out'
            )
        file = table.parent / Path(cells[column]).expanduser()
        if absent := why_absent(file):
            raise DatasetError(f'{table}, line {line}: {column} of sub-{subject}: {absent}')
        files.append(file)
    session = cells.get('session', '').removeprefix('ses-')
    name = f'sub-{subject}' + (f'_ses-{session}' if session not in _NONE else '')
    part = cells.get('split', '').lower()
    if part not in _NONE and part not in _SPLITS:
        raise DatasetError(
            f'{table}, line {line}: split is {part!r}; expected {TRAINING}, {VALIDATION} or {TEST}'
        )
    return Example(subject, name, tuple(files[:-1]), files[-1], _SPLITS.get(part, ''))


def from_bids(data: DataOptions, warnings: list[str]) -> list[Example]:
    """Match the scans of a raw dataset with the label maps of a derivative dataset.

    If a scan has several label maps, the one on its own grid is preferred to the one on the
    conformed grid; maps in a template's space are ignored.

    Parameters
    ----------
    data : DataOptions
        Paths of both datasets, channels and ``seg`` entity.
    warnings : list of str
        Extended by a line for each scan that is skipped.

    Returns
    -------
    list of Example
        In the order of the scans' paths.

    Raises
    ------
    DatasetError
        If a dataset is missing, no scan has all channels and labels, or several label maps
        match a scan.
    InputError
        If a header cannot be read.
    """
    raw, derivatives = Path(data.bids).expanduser(), Path(data.derivatives).expanduser()
    if not data.derivatives:
        raise SettingsError('data.bids needs data.derivatives, the dataset of label images (dseg)')
    check_dataset(raw)
    if not derivatives.is_dir():
        raise DatasetError(f'{derivatives}: no such folder; see data.derivatives')
    first, *others = data.channels
    selection = find_scans(raw, filters=None if first == 'T1w' else {'suffix': first})
    warnings += selection.missing
    warnings += [f'{subject}: left out: no {first} in {raw}' for subject in selection.empty]
    wanted = {'seg': data.segmentation} if data.segmentation else {}
    maps = find_label_maps(derivatives, wanted)
    examples = []
    for scan in selection.scans:
        try:
            images = (scan.path, *find_siblings(scan, others))
        except DatasetError as error:
            warnings.append(f'{scan.label}: left out: {error}')
            continue
        absent = [why for why in map(why_absent, images) if why]
        labels = None if absent else _labels_of(scan, selection.scans, maps)
        if labels is None:
            why = absent[0] if absent else _without(scan, derivatives, data.segmentation)
            warnings.append(f'{scan.label}: left out: {why}')
            continue
        examples.append(Example(scan.name.subject, scan.name.prefix, images, labels))
    if not examples:
        more = f'; {warnings[0]}' if warnings else ''
        raise DatasetError(
            f'{raw} and {derivatives}: no scan has {", ".join(data.channels)} and labels{more}'
        )
    return examples


def _labels_of(
    scan: Scan, scans: Sequence[Scan], maps: Sequence[tuple[ScanName, Path]]
) -> Path | None:
    """Return the label map that is aligned with a scan, or None."""
    candidates = _candidates(scan, scans, maps)
    if not candidates:
        return None
    geometry, _ = read_geometry(scan.path)
    grids = [matching_grid(read_geometry(path)[0], geometry) for _, path in candidates]
    for wanted in (SCAN_GRID, CONFORMED_GRID, ''):
        # A map on another grid whose name has no space- is an error, raised when it is loaded.
        matches = [
            path
            for (name, path), grid in zip(candidates, grids, strict=True)
            if grid == wanted and (grid or 'space' not in name.entities)
        ]
        if len(matches) > 1:
            names = ', '.join(path.name for path in matches[:4])
            raise DatasetError(
                f'{scan.label}: several label maps ({names}); choose one by data.segmentation, or '
                'name them in a table (data.table)'
            )
        if matches:
            return matches[0]
    return None


def _candidates(
    scan: Scan, scans: Sequence[Scan], maps: Sequence[tuple[ScanName, Path]]
) -> list[tuple[ScanName, Path]]:
    own = scan_entities(scan.name)
    exact = [item for item in maps if scan_entities(item[0]) == own]
    visit = (scan.name.subject, scan.name.session)
    alone = sum((other.name.subject, other.name.session) == visit for other in scans) == 1
    if exact or not alone:
        return exact
    # Tools that merge the runs of a session drop the entities by which these differ.
    return [
        (name, path)
        for name, path in maps
        if (name.subject, name.session) == visit and scan_entities(name).items() <= own.items()
    ]


def _without(scan: Scan, derivatives: Path, segmentation: str) -> str:
    seg = f' with seg-{segmentation}' if segmentation else ''
    return f'no label map (dseg){seg} of {scan.name.prefix} on its grid in {derivatives}'
