"""Scans with their labels, from a table of paths or from BIDS datasets."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bids.label_maps import find_label_maps, scan_entities
from ...bids.names import ScanName
from ...bids.query import Scan, check_dataset, find_scans, find_siblings, why_absent
from ...image.io import read_geometry
from ...system.errors import DatasetError, SettingsError
from ..options import Data
from .alignment import CONFORMED, OWN, placement

TRAINING, VALIDATION, TEST = 'train', 'validation', 'test'
_SPLITS = {'train': TRAINING, 'training': TRAINING, 'validation': VALIDATION, 'val': VALIDATION}
_SPLITS['test'] = TEST
_NONE = ('', 'n/a')


@dataclass(frozen=True)
class Example:
    """A scan, or several of one head, with the labels to learn.

    Parameters
    ----------
    subject : str
        Without ``sub-``.
    name : str
        Of its own, for messages: ``'sub-01_ses-1'``.
    images : tuple of Path
        One for each channel.
    labels : Path
        The label map.
    split : str
        ``'train'``, ``'validation'`` or ``'test'`` where the dataset says so, else empty.
    """

    subject: str
    name: str
    images: tuple[Path, ...]
    labels: Path
    split: str = ''


def bare(subject: str) -> str:
    """Return a participant's label without ``sub-``."""
    return subject.strip().removeprefix('sub-')


def from_table(data: Data) -> list[Example]:
    """Read the examples of a table.

    Parameters
    ----------
    data : Data
        Names the table and its columns: ``subject``, ``labels``, one for each channel, and
        perhaps ``session`` and ``split``.

    Returns
    -------
    list of Example
        In the order of the rows.

    Raises
    ------
    DatasetError
        Where the table cannot be read, lacks a column, or a row names no file or one that is
        not there.
    """
    path = Path(data.table).expanduser()
    try:
        # Spreadsheets put a mark before the first column's name.
        text = path.read_text(encoding='utf-8-sig')
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
    # A row that is too short has None in its last cells.
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


def from_bids(data: Data, warnings: list[str]) -> list[Example]:
    """Match the scans of a raw dataset with the label maps of a derivative one.

    Of several label maps of a scan that on the scan's own grid is taken, else that on the
    conformed one; those in a template's space never.

    Parameters
    ----------
    data : Data
        Names the datasets, the channels and the ``seg`` entity.
    warnings : list of str
        Gets a line for each scan that is left out.

    Returns
    -------
    list of Example
        In the order of the scans' paths.

    Raises
    ------
    DatasetError
        Where a dataset is missing, no scan has all its channels and labels, or a scan has
        several label maps that could be meant.
    InputError
        Where a header cannot be read.
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
    """Return the label map of a scan that lies on it, if there is one."""
    candidates = _candidates(scan, scans, maps)
    if not candidates:
        return None
    grid, _ = read_geometry(scan.path)
    places = [placement(read_geometry(path)[0], grid) for _, path in candidates]
    for wanted in (OWN, CONFORMED, ''):
        # What claims no other space, and yet lies elsewhere, is told when it is loaded.
        found = [
            path
            for (name, path), place in zip(candidates, places, strict=True)
            if place == wanted and (place or 'space' not in name.entities)
        ]
        if len(found) > 1:
            raise DatasetError(
                f'{scan.label}: several label maps ({", ".join(path.name for path in found[:4])});'
                ' choose by data.segmentation, or name them in a table (data.table)'
            )
        if found:
            return found[0]
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
    # Tools that merge the runs of a session leave out what told these apart.
    return [
        (name, path)
        for name, path in maps
        if (name.subject, name.session) == visit and scan_entities(name).items() <= own.items()
    ]


def _without(scan: Scan, derivatives: Path, segmentation: str) -> str:
    seg = f' with seg-{segmentation}' if segmentation else ''
    return f'no label map (dseg){seg} of {scan.name.prefix} on its grid in {derivatives}'
