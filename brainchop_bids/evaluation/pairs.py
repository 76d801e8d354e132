"""Pairs of segmentation and reference, brought to one grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bids.label_maps import find_label_maps, scan_entities
from ..bids.names import ScanName
from ..image.headers import stem
from ..image.io import Volume, labels_in
from ..image.lookup import histogram
from ..image.resample import labels_to_grid
from ..models.mapping import LabelMapping
from ..system.errors import DatasetError, InputError

# Headers carry their numbers with about this precision, in mm.
_SAME = 1e-3
# Share of pairs of neighbouring voxels with labels that have the same one: 0.86 to 0.92 in four
# segmentations with 42 to 54 structures, and 0.11 to 0.19 in four scans with 182 to 530 values.
_LEAST_ALIKE, _MOST_VALUES = 0.4, 50


@dataclass(frozen=True)
class Pair:
    """A segmentation and its reference.

    Parameters
    ----------
    name : str
        Name of the scan in the table.
    predicted, reference : Path
        The two files.
    """

    name: str
    predicted: Path
    reference: Path


@dataclass(frozen=True)
class AlignedPair:
    """A pair on the grid of the reference.

    Parameters
    ----------
    predicted, reference : (X, Y, Z) uint8
        Label maps.
    zooms : (3,) array
        Voxel size in mm.
    note : str
        Description of the resampling; empty where none was needed.
    """

    predicted: np.ndarray
    reference: np.ndarray
    zooms: np.ndarray
    note: str


def find_pairs(
    predicted: Path,
    reference: Path,
    filters: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> tuple[list[Pair], list[str]]:
    """Match two files, or the label maps of two BIDS derivative datasets.

    Parameters
    ----------
    predicted, reference : Path
        Two files or two folders.
    filters : two mappings of str to str
        Entities that the files of either dataset must have, e.g. ``{'seg': 'tissue'}``.

    Returns
    -------
    pairs : list of Pair
        Scans that both have, by name.
    notes : list of str
        Scans that only one has.

    Raises
    ------
    DatasetError
        For a path that is missing, a folder without label maps, several that fit one scan, or
        no scan in common.
    """
    for path in (predicted, reference):
        if not path.exists():
            raise DatasetError(f'{path}: does not exist; give a label map or a BIDS dataset')
    if predicted.is_dir() != reference.is_dir():
        raise DatasetError(
            f'{predicted} and {reference}: one is a folder, the other a file; give two of a kind'
        )
    if not predicted.is_dir():
        return [Pair(stem(predicted), predicted, reference)], []
    ours, theirs = _scans(predicted, filters[0]), _scans(reference, filters[1])
    common = [name for name in ours if name in theirs]
    if not common:
        raise DatasetError(
            f'{predicted} and {reference}: no scan in common; in the first '
            f'{_some(ours)}, in the second {_some(theirs)}'
        )
    notes = [
        f'{name}: only in {folder}, not compared'
        for folder, own, other in ((predicted, ours, theirs), (reference, theirs, ours))
        for name in own
        if name not in other
    ]
    return [Pair(name, ours[name], theirs[name]) for name in common], notes


def align(
    predicted: Volume,
    reference: Volume,
    predicted_mapping: LabelMapping | None = None,
    reference_mapping: LabelMapping | None = None,
) -> AlignedPair:
    """Bring a segmentation to the reference's grid, through both affines.

    Parameters
    ----------
    predicted, reference : Volume
        The label maps.
    predicted_mapping, reference_mapping : LabelMapping, optional
        Tables that turn codes into labels.

    Returns
    -------
    AlignedPair

    Raises
    ------
    InputError
        If one is no label map, or the two do not overlap in space.
    ModelError
        For codes that a table does not have.
    """
    labels, truth = _labels(predicted, predicted_mapping), _labels(reference, reference_mapping)
    grid, target = predicted.geometry, reference.geometry
    note = ''
    if not grid.matches(target, _SAME):
        labels = labels_to_grid(labels, grid, target)
        note = f'resampled from {grid} to {target}'
        if truth.any() and not labels.any():
            raise InputError(
                f'{predicted.path}: has nothing where {reference.path} lies in space; expected '
                'two label maps of one scan'
            )
    return AlignedPair(labels, truth, target.zooms, note)


def _labels(volume: Volume, mapping: LabelMapping | None) -> np.ndarray:
    labels = labels_in(volume)
    if _is_scan(labels):
        raise InputError(
            f'{volume.path}: looks like a scan, not like labels (neighbouring voxels differ); '
            'give the segmentation of it'
        )
    return labels if mapping is None else mapping.apply(labels, volume.path or 'the label map')


def _is_scan(labels: np.ndarray) -> bool:
    """Return True for many values of which neighbours share few, as in an image of intensities."""
    first, second = labels[:-1], labels[1:]
    both = (first != 0) & (second != 0)
    alike = np.count_nonzero(both & (first == second))
    if alike >= _LEAST_ALIKE * np.count_nonzero(both):
        return False
    return int(np.count_nonzero(histogram(labels))) > _MOST_VALUES


def _scans(folder: Path, wanted: Mapping[str, str]) -> dict[str, Path]:
    """Return the label map of each scan in a dataset, by the scan's entities."""
    label_maps: dict[str, list[tuple[ScanName, Path]]] = {}
    for name, path in find_label_maps(folder, wanted):
        scan = '_'.join(f'{key}-{value}' for key, value in scan_entities(name).items())
        label_maps.setdefault(scan, []).append((name, path))
    return {scan: _chosen(folder, scan, files) for scan, files in sorted(label_maps.items())}


def _chosen(folder: Path, scan: str, files: list[tuple[ScanName, Path]]) -> Path:
    """Return the file in the scan's own grid; it must be the only one."""
    native = [path for name, path in files if 'space' not in name.entities]
    candidates = native or [path for _, path in files]
    if len(candidates) > 1:
        names = ', '.join(path.name for path in candidates[:4])
        raise DatasetError(
            f'{folder}: {scan} has several label maps ({names}); choose with --pred-filter or '
            '--ref-filter, as in seg=tissue'
        )
    return candidates[0]


def _some(scans: Mapping[str, Path]) -> str:
    return ', '.join(list(scans)[:3]) + (', ...' if len(scans) > 3 else '')
