"""Scans of a BIDS dataset, found with pybids."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..system.errors import DatasetError
from ..system.files import read_text, require_regular
from .filters import check_filters, to_pybids
from .ignored import NAME, read_bidsignore
from .names import MODALITIES, ScanName
from .near_misses import is_utf8, near_misses

_OTHER_DATATYPES = (
    'func|dwi|fmap|perf|meg|eeg|ieeg|beh|pet|micr|nirs|motion|mrs|emg|'
    'code|stimuli|sourcedata|derivatives|models|phenotype|figures|logs'
)
# Most reasons in the message that no scan is found.
_MOST_REASONS = 3
_DEFAULTS: dict[str, Any] = {
    'datatype': 'anat',
    'suffix': 'T1w',
    'extension': ['.nii', '.nii.gz'],
    # Phase images of complex acquisitions share the suffix; None stands for "no part entity".
    'part': ['mag', None],
}


@dataclass(frozen=True)
class Scan:
    """One scan of a dataset.

    Parameters
    ----------
    path : Path
        The file, absolute.
    relative : str
        Path relative to the root of the dataset, with forward slashes.
    name : ScanName
        Parsed file name.
    """

    path: Path
    relative: str
    name: ScanName

    @property
    def label(self) -> str:
        """Name of the scan in logs: the file name without extension."""
        return self.name.stem


@dataclass(frozen=True)
class Selection:
    """The selected scans.

    Parameters
    ----------
    scans : tuple of Scan
        Scans, sorted by path.
    missing : tuple of str
        One line for each requested participant without a matching scan, each folder without
        permission to read it, and each scan that exists both as .nii and as .nii.gz or has the
        entities of another one with another suffix.
    empty : tuple of str
        Participants (``sub-...``) without a matching scan, if all were requested.
    notes : tuple of str
        One line for each scan that is not found because it is not quite BIDS, and for scans that
        ``.bidsignore`` leaves out.
    """

    scans: tuple[Scan, ...]
    missing: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_dataset(bids_dir: Path) -> dict[str, Any]:
    """Check that a folder is a BIDS dataset.

    Parameters
    ----------
    bids_dir : Path
        The folder.

    Returns
    -------
    dict
        Content of its ``dataset_description.json``.

    Raises
    ------
    DatasetError
        If the folder or its description is missing, unreadable or not JSON.
    """
    if not bids_dir.exists():
        raise DatasetError(f'{bids_dir}: no such folder; give the root of a BIDS dataset')
    if not bids_dir.is_dir():
        raise DatasetError(f'{bids_dir} is a file; give the root folder of a BIDS dataset')
    path = bids_dir / 'dataset_description.json'
    try:
        description = json.loads(read_text(path, 'utf-8-sig'))
    except FileNotFoundError:
        raise DatasetError(
            f'{bids_dir} has no dataset_description.json, so it is not the root of a BIDS '
            'dataset: add one with "Name" and "BIDSVersion", or point at the right folder'
        ) from None
    except PermissionError:
        raise DatasetError(f'{path}: no permission to read it') from None
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path}: cannot be read as JSON ({error}); mend the file') from None
    if not isinstance(description, dict):
        raise DatasetError(f'{path}: expected a JSON object with "Name" and "BIDSVersion"')
    return description


def why_absent(path: Path) -> str | None:
    """Return the reason why a scan cannot be opened, None if it can.

    Parameters
    ----------
    path : Path
        The scan.

    Returns
    -------
    str or None
        One line that also says what to do.
    """
    if path.is_symlink() and not path.exists():
        # DataLad datasets contain links to files that are downloaded on request.
        return f'{path}: is a link to a file that is not here; run: datalad get {path}'
    try:
        require_regular(path)
    except FileNotFoundError:
        return f'{path}: is gone'
    except OSError as error:
        return f'{path}: {error.strerror}; replace or remove it'
    if not os.access(path, os.R_OK):
        return f'{path}: no permission to read it'
    return None


def find_siblings(scan: Scan, suffixes: Sequence[str]) -> list[Path]:
    """Find the other scans that a model takes, in the folder of the T1w scan.

    Parameters
    ----------
    scan : Scan
        The T1w scan.
    suffixes : sequence of str
        BIDS suffixes of the other scans, e.g. ``['T2w']``.

    Returns
    -------
    list of Path
        For each suffix, the file with the entities of the T1w scan, or else the only file.

    Raises
    ------
    DatasetError
        If there is none, or several of which none has the same entities.
    """
    found = []
    for suffix in suffixes:
        folder = scan.path.parent
        beside = [
            path
            for end in ('.nii', '.nii.gz')
            for path in folder.glob(f'*_{suffix}{end}')
            # A file of another participant or session may lie in this folder by mistake.
            if path.name.startswith(f'{"_".join(scan.name.folder.parent.parts)}_')
        ]
        stem = f'{scan.name.prefix}_{suffix}'
        own = [path for path in beside if path.name.partition('.')[0] == stem]
        chosen = own or beside
        if len(chosen) != 1:
            names = ', '.join(sorted(path.name for path in chosen)) or 'none'
            raise DatasetError(
                f'{scan.path}: needs one {suffix} beside it for the model, there are: {names}'
            )
        found += chosen
    return found


def list_participants(bids_dir: Path) -> list[str]:
    """List the participants of a dataset from its folders, without indexing it.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.

    Returns
    -------
    list of str
        Labels without ``sub-``, sorted.

    Raises
    ------
    DatasetError
        If the folder cannot be listed.
    """
    try:
        entries = [entry for entry in bids_dir.iterdir() if entry.name.startswith('sub-')]
        return sorted(
            entry.name[4:] for entry in entries if is_utf8(entry.name) and entry.is_dir()
        )
    except PermissionError as error:
        raise DatasetError(f'{error.filename}: no permission to read it') from None


def find_scans(
    bids_dir: Path,
    *,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
    filters: dict[str, Any] | None = None,
    database_dir: Path | None = None,
) -> Selection:
    """Find the selected scans.

    Only the anatomical folders of the selected participants are indexed, so that the time does
    not depend on the size of the dataset. With a database, the anatomical folders of all
    participants are indexed once and the index is kept.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.
    participants, sessions : tuple of str
        Labels without prefix; empty means all.
    filters : dict, optional
        Further filters as in `read_filters`, which replace the defaults (T1w, ``anat``, NIfTI,
        no phase).
    database_dir : Path, optional
        Folder of the index; created if it does not exist.

    Returns
    -------
    Selection

    Raises
    ------
    DatasetError
        If nothing matches; the message lists the labels that exist.
    SettingsError
        If the filters have an unknown entity or value.
    """
    filters = check_filters(filters or {}, 'filters')
    suffix = filters.get('suffix')
    if not isinstance(suffix, str) or suffix not in MODALITIES:
        suffix = 'T1w'
    existing = list_participants(bids_dir)
    ignores, notes = read_bidsignore(bids_dir)
    if not existing:
        notes += near_misses(bids_dir, (), (), ignores, suffix)
        why = '; '.join(notes[:_MOST_REASONS]) or 'the dataset is empty'
        raise DatasetError(f'{bids_dir} has no participant folders (sub-...): {why}')
    chosen = [label for label in participants or existing if label in existing]
    missing = [
        f'sub-{label}: no such participant in {bids_dir} (there are: {_shorten(existing)})'
        for label in participants
        if label not in existing
    ]
    unreadable = {label: _unreadable(bids_dir / f'sub-{label}') for label in chosen}
    missing += [f'sub-{label}: {why}' for label, why in unreadable.items() if why]
    chosen = [label for label in chosen if not unreadable[label]]
    if not chosen:
        raise DatasetError('; '.join(missing))
    layout = _index(bids_dir, chosen, database_dir)
    query = {**_DEFAULTS, 'subject': chosen, **to_pybids(filters)}
    if sessions:
        query['session'] = list(sessions)
    try:
        files = layout.get(return_type='filename', invalid_filters='allow', **query)
    except Exception as error:  # Those of SQLAlchemy for numbers and patterns included
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(
            f'the filters {filters} are not understood by pybids: {reason}'
        ) from None
    scans, left_out = _name_scans(bids_dir, files)
    missing += left_out
    scans, ignored = _leave_out(scans, ignores)
    notes += [*ignored, *near_misses(bids_dir, chosen, list(map(Path, files)), ignores, suffix)]
    without = [label for label in chosen if label not in {scan.name.subject for scan in scans}]
    what = f'{suffix} scan{f" in session {_shorten(list(sessions))}" if sessions else ""}'
    if not scans:
        message = _nothing(bids_dir, layout, what, chosen, sessions, filters)
        raise DatasetError('; '.join([message, *notes[:_MOST_REASONS]]))
    if participants:
        missing += [f'sub-{label}: no {what} that matches in {bids_dir}' for label in without]
        without = []
    empty = tuple(f'sub-{label}' for label in without)
    return Selection(scans, tuple(missing), empty, tuple(notes))


def _name_scans(bids_dir: Path, files: Iterable[str]) -> tuple[tuple[Scan, ...], list[str]]:
    """Return the scans, and a line for each file that is left out."""
    by_entities: dict[str, Scan] = {}
    left_out = []
    for path in map(Path, sorted(files)):
        try:
            scan = Scan(path, path.relative_to(bids_dir).as_posix(), ScanName.parse(path))
        except DatasetError as error:
            left_out.append(f'{path}: left out: {error}')
            continue
        folders, owner = PurePosixPath(scan.relative).parent.parts, scan.name.folder.parent
        said = PurePosixPath(*(name for name in folders if name.startswith(('sub-', 'ses-'))))
        if said != owner:
            left_out.append(
                f'{path}: left out: its folder says {said}, its name {owner}; move or rename it'
            )
            continue
        # The derivatives of both would have the same names.
        first = by_entities.setdefault(scan.name.prefix, scan)
        if first.label != scan.label:
            left_out.append(
                f'{scan.path}: left out: its results would have the names of those of '
                f'{first.path.name}; process one suffix at a time, each into a folder of its own'
            )
        elif first is not scan:
            left_out.append(f'{scan.path}: {scan.label} is there twice; keep .nii or .nii.gz')
    return tuple(by_entities.values()), left_out


def _leave_out(
    scans: tuple[Scan, ...], ignores: Callable[[str], bool]
) -> tuple[tuple[Scan, ...], list[str]]:
    """Return the scans that ``.bidsignore`` does not leave out, and a line on the others."""
    ignored = [scan for scan in scans if ignores(scan.relative)]
    if not ignored:
        return scans, []
    names = _shorten([scan.label for scan in ignored])
    kept = tuple(scan for scan in scans if scan not in ignored)
    return kept, [f'{NAME} leaves out {names}']


def _index(bids_dir: Path, chosen: list[str], database_dir: Path | None) -> Any:
    """Index the anatomical files of the selected participants, or of all for a database."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    # The index is a database, which stores no names that are not UTF-8.
    ignore = [re.compile(rf'/({_OTHER_DATATYPES})(/|$)'), re.compile('/\\.|[\ud800-\udfff]')]
    if database_dir is None:
        labels = '|'.join(re.escape(label) for label in chosen)
        ignore.append(re.compile(rf'^/sub-(?!(?:{labels})(?:/|$))'))
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=ignore)
    try:
        return BIDSLayout(
            str(bids_dir), validate=False, indexer=indexer, database_path=database_dir
        )
    except PermissionError as error:
        raise DatasetError(f'{error.filename}: no permission to read it') from None
    except Exception as error:  # SQLAlchemy's and pybids' own errors have no common base
        where = f' (or remove the index in {database_dir})' if database_dir else ''
        raise DatasetError(f'{bids_dir} cannot be indexed by pybids: {error}{where}') from None


def _unreadable(folder: Path) -> str | None:
    """Return a line on the first folder without read permission, which pybids would skip."""
    try:
        for path in (folder, *_subfolders(folder, 'anat'), *_subfolders(folder, 'ses-')):
            next(path.iterdir(), None)
            for inner in _subfolders(path, 'anat'):
                next(inner.iterdir(), None)
    except PermissionError as error:
        return f'no permission to read {error.filename}: ask for it, or leave this one out'
    return None


def _subfolders(folder: Path, start: str) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(start) and path.is_dir()]


def _nothing(
    bids_dir: Path,
    layout: Any,
    what: str,
    chosen: list[str],
    sessions: tuple[str, ...],
    filters: dict[str, Any] | None,
) -> str:
    """Return a message that nothing matches and that lists what exists."""
    who = f'sub-{chosen[0]}' if len(chosen) == 1 else f'{len(chosen)} participants'
    message = f'{bids_dir}: no {what} for {who}'
    if filters:
        message += f' with the filters {filters}'
    if sessions:
        existing = layout.get_sessions(subject=chosen)
        message += f' (sessions there: {_shorten(existing) or "none"})'
    else:
        message += f' (participants there: {_shorten(list_participants(bids_dir))})'
    return message


def _shorten(labels: list[str], most: int = 12) -> str:
    """Join the first labels in one line, and count the others."""
    shown = ', '.join(labels[:most])
    return f'{shown} and {len(labels) - most} more' if len(labels) > most else shown
