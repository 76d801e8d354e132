"""Label maps of a derivative dataset, by the scan that each was made from."""

from collections.abc import Mapping
from pathlib import Path

from ..image.headers import SUFFIXES
from ..system.errors import BrainchopError, DatasetError
from .names import ScanName

# Entities that identify a scan; all others describe how a derivative was made.
_OF_THE_SCAN = ('sub', 'ses', 'sample', 'task', 'acq', 'ce', 'rec', 'dir', 'run', 'echo', 'part')


def scan_entities(name: ScanName) -> dict[str, str]:
    """Return the entities of a name that identify the scan.

    Examples
    --------
    >>> scan_entities(ScanName.parse('sub-01_run-2_space-conform_seg-tissue_dseg.nii.gz'))
    {'sub': '01', 'run': '2'}
    """
    return {key: value for key, value in name.entities.items() if key in _OF_THE_SCAN}


def find_label_maps(folder: Path, wanted: Mapping[str, str]) -> list[tuple[ScanName, Path]]:
    """Find the label maps (``dseg``) of a dataset.

    Parameters
    ----------
    folder : Path
        The dataset.
    wanted : mapping of str to str
        Entities that their names must have, e.g. ``{'seg': 'tissue'}``.

    Returns
    -------
    list of (ScanName, Path)
        Sorted by path.

    Raises
    ------
    DatasetError
        If there is none.
    """
    found = []
    for path in sorted(folder.rglob('sub-*_dseg.*')):
        try:
            name = ScanName.parse(path)
        except BrainchopError:
            continue
        if name.extension in SUFFIXES and wanted.items() <= name.entities.items():
            found.append((name, path))
    if not found:
        entities = ', '.join(f'{key}-{value}' for key, value in wanted.items())
        raise DatasetError(
            f'{folder}: no label maps; expected sub-*_dseg.nii.gz'
            + (f' with {entities}' if entities else '')
        )
    return found
