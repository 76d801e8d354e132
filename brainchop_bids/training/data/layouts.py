"""Public datasets of labelled scans with folder layouts of their own.

iSeg-2017 (Wang et al. 2019, doi:10.1109/TMI.2019.2901712): infants of six months, T1w and T2w,
144 x 192 x 256 voxels of 1 mm as Analyze. MRBrainS (https://mrbrains13.isi.uu.nl/data/ and
https://mrbrains18.isi.uu.nl/data/): adults, T1w, inversion recovery and FLAIR, 48 slices of 3 mm.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ...image.headers import SUFFIXES, stem
from ...system.errors import DatasetError, SettingsError
from .datasets import Example

_ISEG: Mapping[str, Sequence[str]] = {'T1w': ('T1',), 'T2w': ('T2',)}
# The labels are on the grid of the FLAIR; images that are registered to it come first.
_MRBRAINS: Mapping[str, Sequence[str]] = {
    'T1w': ('reg_T1', 'T1'),
    'FLAIR': ('FLAIR', 'T2_FLAIR'),
    'IR': ('reg_IR', 'IR', 'T1_IR'),
}
_MRBRAINS_LABELS = ('LabelsForTraining', 'segm')


def iseg2017(folder: Path, channels: tuple[str, ...]) -> list[Example]:
    """Find the labelled subjects of iSeg-2017.

    Parameters
    ----------
    folder : Path
        Has ``subject-N-T1``, ``subject-N-T2`` and ``subject-N-label``, perhaps in subfolders, as
        published (``.hdr`` and ``.img``) or converted to NIfTI.
    channels : tuple of str
        Some of ``'T1w'`` and ``'T2w'``.

    Returns
    -------
    list of Example
        In the order of the numbers; test subjects, which have no labels, are ignored.

    Raises
    ------
    SettingsError
        If a channel does not exist.
    DatasetError
        If there are no labels, or a labelled subject lacks a channel.
    """
    names = _names(channels, _ISEG, 'iseg2017')
    by_number: dict[int, Path] = {}
    for path in sorted(folder.rglob('subject-*-label.*')):
        match = re.fullmatch(r'subject-(\d+)-label', stem(path))
        if match is None:
            continue
        number = int(match[1])
        if number in by_number:
            raise DatasetError(
                f'{path}: subject {number} is there twice, in {by_number[number]} too; keep one'
            )
        by_number[number] = path
    if not by_number:
        raise DatasetError(f'{folder}: no iSeg-2017 labels; expected subject-1-label.hdr, ...')
    examples = []
    for number, labels in sorted(by_number.items()):
        start = f'subject-{number}-'
        images = tuple(
            _find_image([labels.parent], [start + name for name in options], f'subject {number}')
            for options in names
        )
        examples.append(Example(str(number), f'sub-{number}', images, labels))
    return examples


def mrbrains(folder: Path, channels: tuple[str, ...]) -> list[Example]:
    """Find the labelled subjects of MRBrainS 2013 or 2018.

    Parameters
    ----------
    folder : Path
        Has a folder for each subject with ``LabelsForTraining`` or ``segm``, and scans in it or
        in ``pre``: ``T1`` or ``reg_T1``, ``FLAIR`` or ``T2_FLAIR``, ``T1_IR`` or
        ``reg_IR``.
    channels : tuple of str
        Some of ``'T1w'``, ``'FLAIR'`` and ``'IR'``.

    Returns
    -------
    list of Example
        In the order of the folders' names; folders without labels are ignored.

    Raises
    ------
    SettingsError
        If a channel does not exist.
    DatasetError
        If there are no labels, or a labelled subject lacks a channel.
    """
    names = _names(channels, _MRBRAINS, 'mrbrains')
    examples = []
    for subject in sorted(path for path in folder.iterdir() if path.is_dir()):
        labels = _first_image(subject, _MRBRAINS_LABELS)
        if labels is None:
            continue
        images = tuple(
            _find_image([subject / 'pre', subject], options, subject.name) for options in names
        )
        examples.append(Example(subject.name, f'sub-{subject.name}', images, labels))
    if not examples:
        raise DatasetError(
            f'{folder}: no MRBrainS labels; expected folders with LabelsForTraining.nii or '
            'segm.nii.gz'
        )
    return examples


LAYOUTS: dict[str, Callable[[Path, tuple[str, ...]], list[Example]]] = {
    'iseg2017': iseg2017,
    'mrbrains': mrbrains,
}


def _names(
    channels: Sequence[str], known: Mapping[str, Sequence[str]], layout: str
) -> list[Sequence[str]]:
    unknown = [channel for channel in channels if channel not in known]
    if unknown:
        raise SettingsError(
            f'data.channels: {layout} has no {", ".join(unknown)}; expected some of '
            f'{", ".join(known)}'
        )
    return [known[channel] for channel in channels]


def _find_image(folders: Iterable[Path], names: Sequence[str], owner: str) -> Path:
    for folder in folders:
        path = _first_image(folder, names)
        if path is not None:
            return path
    raise DatasetError(
        f'{folder}: {owner} has labels but no {" or ".join(names)}; fetch it, or leave the '
        'channel out of data.channels'
    )


def _first_image(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the image of the first of some names that exists, or None."""
    options = (folder / f'{name}{suffix}' for name in names for suffix in SUFFIXES)
    return next((path for path in options if path.is_file()), None)
