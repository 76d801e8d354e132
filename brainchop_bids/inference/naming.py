"""Names of the outputs of several scans in one folder."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..image.dicom import is_dicom
from ..image.headers import SUFFIXES, stem
from ..image.mgh import is_mgh
from ..system.errors import SettingsError


def list_scans(paths: Iterable[Path]) -> list[Path]:
    """Replace folders by the scans in them, unless they hold a DICOM series.

    Parameters
    ----------
    paths : iterable of Path
        Scans and folders.

    Returns
    -------
    list of Path
        Scans; those of a folder in the order of their names, without those of its own folders.

    Raises
    ------
    SettingsError
        If a folder has no scan or cannot be read, or a scan is given twice.
    """
    scans: list[Path] = []
    for path in paths:
        if not path.is_dir():
            scans.append(path)
            continue
        try:
            inside = [name for name in sorted(os.listdir(path)) if not name.startswith('.')]
        except OSError as error:
            raise SettingsError(f'{path}: cannot be read ({error.strerror})') from error
        found = [path / name for name in inside if name.lower().endswith(SUFFIXES)]
        if not found and not any(is_dicom(path / name) for name in inside):
            raise SettingsError(f'{path}: has no scan ({", ".join(SUFFIXES)}, DICOM)')
        scans += found or [path]
    # Links to one file may be scans of several names, as in datasets of git-annex.
    twice = [name for name, number in Counter(map(os.path.abspath, scans)).items() if number > 1]
    if twice:
        raise SettingsError(f'{twice[0]}: is given twice; give each scan once')
    return scans


def distinct_names(scans: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Choose a name for the outputs of each scan, which is the name of its file if possible.

    Parameters
    ----------
    scans : sequence of Path
        The scans.

    Returns
    -------
    names : list of str
        The names, without suffix. Scans of the same name, also if only upper and lower case
        differ, have the names of their folders before it.
    notes : list of str
        One line for each name that got those of folders.

    Raises
    ------
    SettingsError
        If they cannot be told apart by their folders.

    Examples
    --------
    >>> distinct_names([Path('/a/T1.nii.gz'), Path('/b/T1.nii.gz'), Path('/b/T2.nii')])[0]
    ['a_T1', 'b_T1', 'T2']
    """
    # Unlike `Path.resolve`, this keeps links, which may be all that tells scans apart.
    parts = [Path(os.path.abspath(scan)).parts[1:-1] for scan in scans]
    stems = [stem(scan) for scan in scans]
    names, depths = list(stems), [0] * len(stems)
    while same := _repeated(names):
        if all(depths[place] >= len(parts[place]) for place in same):
            raise SettingsError(
                f'{scans[same[0]]} and {scans[same[1]]}: both would be written as '
                f'{names[same[0]]}; rename one of them'
            )
        # Not only these, so that scans of one name have the names of as many folders.
        alike = {stems[place].casefold() for place in same}
        for place, own in enumerate(stems):
            if own.casefold() in alike:
                depths[place] += 1
                names[place] = '_'.join([*parts[place][-depths[place] :], own])
    notes = [
        f'{scan}: another scan has this name, too; its outputs are named {name}'
        for scan, own, name in zip(scans, stems, names, strict=True)
        if name != own
    ]
    return names, notes


def image_suffix(scan: Path) -> str:
    """Return the suffix for images of a scan, which is that of the scan if it can be written.

    Examples
    --------
    >>> image_suffix(Path('T1.mgh')), image_suffix(Path('T1.nii')), image_suffix(Path('T1.hdr'))
    ('.mgz', '.nii', '.nii.gz')
    """
    name = scan.name.lower()
    if is_mgh(name):
        return '.mgz'
    return '.nii' if name.endswith('.nii') else '.nii.gz'


def _repeated(names: Sequence[str]) -> list[int]:
    """Return the positions of the first name that occurs several times."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name.casefold(), []).append(place)
    return next((same for same in places.values() if len(same) > 1), [])
