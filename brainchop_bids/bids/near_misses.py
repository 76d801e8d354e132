"""Scans that are not found, because their names or places are almost those of BIDS."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ..system.text import printable

# Most lines that are reported of one dataset.
_MOST = 20
_LABEL = re.compile(r'[A-Za-z0-9+]+')
_PARTICIPANT = re.compile(r'sub[-_ ]?\w', re.IGNORECASE)
# By suffix.
_NEARLY = {
    suffix: re.compile(rf'(?:{names})(?![a-z0-9])', re.IGNORECASE)
    for suffix, names in {
        'T1w': 't1w|unit1|_t1',
        'T2w': 't2w|_t2',
        'FLAIR': '_flair',
        'PDw': 'pdw|_pd',
    }.items()
}
_IMAGE = re.compile(
    r'\.(?:nii|nii\.(?:gz|bz2|xz|zst|zip)|mg[hz]|img|hdr|nrrd|nhdr|mnc|mif|dcm)', re.IGNORECASE
)
_NIFTI = ('.nii', '.nii.gz')


def shown(name: str | Path) -> str:
    """Return a name with what cannot be printed escaped, e.g. bytes that are not UTF-8.

    Examples
    --------
    >>> print(shown('sub-\\udcff'))
    sub-\\xff
    """
    return printable(os.fsencode(name).decode('utf-8', 'backslashreplace'))


def is_utf8(name: str | Path) -> bool:
    """Return True if a name of a file is UTF-8, as BIDS requires."""
    return not re.search('[\ud800-\udfff]', str(name))


def near_misses(
    bids_dir: Path,
    participants: Collection[str],
    found: Collection[Path],
    ignores: Callable[[str], bool],
    suffix: str = 'T1w',
) -> list[str]:
    """Explain why files that look like scans are not found.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.
    participants : collection of str
        Labels of the selected participants.
    found : collection of Path
        Files that are found as scans.
    ignores : callable
        True for a path that ``.bidsignore`` leaves out.
    suffix : str
        Suffix of the scans, see `MODALITIES`.

    Returns
    -------
    list of str
        One line for each file or folder: what it is, and what to do. At most twenty, and then
        their number.
    """
    lines = []
    for path in _entries(bids_dir):
        name = path.name
        if not is_utf8(name):
            lines.append(f'{shown(path)}: its name is not UTF-8, left out; rename it')
        elif path.is_dir() and _PARTICIPANT.match(name) and not name.startswith('sub-'):
            lines.append(f'{shown(path)}: is no participant; BIDS has folders named sub-LABEL')
    for label in participants:
        lines += _of_participant(bids_dir / f'sub-{label}', found, ignores, suffix)
    if len(lines) > _MOST:
        lines[_MOST:] = [f'{len(lines) - _MOST} more files or folders are not in order either']
    return lines


def _of_participant(
    folder: Path, found: Collection[Path], ignores: Callable[[str], bool], suffix: str
) -> Iterator[str]:
    label = folder.name.removeprefix('sub-')
    if not _LABEL.fullmatch(label):
        better = ''.join(char for char in label if _LABEL.fullmatch(char))
        yield (
            f'{shown(folder)}: a label has only letters and digits; rename it and its files, '
            f'e.g. sub-{better or "01"}'
        )
        return
    root, own = folder.parent, {path for path in found if folder in path.parents}
    stems = {path.with_name(path.name.partition('.')[0]) for path in own}
    for place in _places(folder):
        reasons = {}
        for path in _entries(place):
            if not is_utf8(path.name):
                reasons[path] = 'its name is not UTF-8, left out; rename it'
            elif (
                # A copy in another format may lie beside a scan.
                path.with_name(path.name.partition('.')[0]) not in stems
                and not ignores(path.relative_to(root).as_posix())
                and (why := _why_not(path, suffix, alone=not own))
            ):
                reasons[path] = why
        is_session = place.name.startswith('ses-')
        if is_session and not own and not reasons and not (place / 'anat').is_dir():
            reasons[place] = f'has no folder anat, where BIDS has {suffix} scans'
        yield from (f'{shown(path)}: {why}' for path, why in reasons.items())


def _places(folder: Path) -> Iterator[Path]:
    """Return the folders in which scans may lie: the participant's, its sessions', and anat."""
    yield folder
    for path in _entries(folder):
        if is_utf8(path.name) and path.is_dir():
            if path.name.lower().startswith('ses'):
                yield path
                yield from (
                    inner
                    for inner in _entries(path)
                    if inner.name.lower() == 'anat' and inner.is_dir()
                )
            elif path.name.lower() == 'anat':
                yield path


def _why_not(path: Path, wanted: str, *, alone: bool) -> str | None:
    """Return why an image that looks like such a scan is none; None if it is, or does not."""
    stem, dot, rest = path.name.partition('.')
    extension = dot + rest
    if not _NEARLY[wanted].search(stem) or not _IMAGE.fullmatch(extension):
        return None
    if extension.lower() not in _NIFTI:
        return (
            f'BIDS has no {extension} scans; convert it to .nii.gz, or use brainchop-segment '
            'for this file'
        )
    if extension not in _NIFTI:
        return f'its extension is {extension}; rename it to {extension.lower()}'
    suffix = stem.rpartition('_')[2]
    if path.parent.name != 'anat':
        return f'is not in a folder anat, where BIDS has {wanted} scans; move it to one'
    if suffix == 'UNIT1':
        return (
            'is the only kind of T1-weighted image; to segment it, give {"t1w": {"suffix": '
            '"UNIT1"}} with --bids-filter-file'
            if alone
            else None
        )
    return None if suffix == wanted else f'its suffix is {shown(suffix)}; rename it to {wanted}'


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        # Folders without permission are reported elsewhere.
        return []
