"""Smoothing of label maps."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..system.errors import SettingsError
from .boxes import bounding_box

# Radius of the Gaussian kernel, in standard deviations.
_TRUNCATE = 3.0
# Planes that a thread smooths at once, with about 40 bytes for each voxel.
_SLAB = 32


@dataclass(frozen=True)
class Smoothing:
    """Rule for smoothing labels, see `smooth_labels`.

    Parameters
    ----------
    voxels : float
        Standard deviation of the Gaussian, in voxels; 0 for no smoothing. It is not in mm,
        because errors of a network alternate from voxel to voxel at any voxel size.
    below : float
        Threshold above 0, at most 1: only voxels at which the smoothed indicator function of
        their own label is below it change their label. With 1 all may change.

    Examples
    --------
    >>> Smoothing.from_dict({'voxels': 0.9})
    Smoothing(voxels=0.9, below=1.0)
    """

    voxels: float = 0.0
    below: float = 1.0

    @classmethod
    def from_dict(cls, content: Any) -> 'Smoothing':
        """Build from a mapping as `to_dict` returns it; missing keys take their defaults.

        Raises
        ------
        SettingsError
            If a key is unknown or a value is invalid.
        """
        if (
            not isinstance(content, Mapping)
            or set(content) - set(cls.__dataclass_fields__)
            or not all(type(value) in (int, float) for value in content.values())
        ):
            raise SettingsError(
                f'"smooth" is {content!r}; expected {{"voxels", "below"}}, numbers'
            )
        found = cls(**{key: float(value) for key, value in content.items()})
        if not 0 <= found.voxels <= 5:
            raise SettingsError(f'smooth voxels is {found.voxels:g}; expected 0 to 5')
        if not 0 < found.below <= 1:
            raise SettingsError(f'smooth below is {found.below:g}; expected more than 0, up to 1')
        return found

    def to_dict(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def smooth_labels(labels: np.ndarray, smoothing: Smoothing, *, threads: int = 1) -> np.ndarray:
    """Assign each voxel the label with the largest Gaussian-weighted share of its neighbourhood.

    The indicator function of each label is smoothed with a Gaussian kernel, and the label with
    the largest value is taken, the smallest one in a tie. Outside the volume there is no label.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map; background, 0, is treated like the other labels.
    smoothing : Smoothing
        The rule.
    threads : int
        Number of threads, which does not change the result.

    Returns
    -------
    (X, Y, Z) array
        A new array of the same dtype (the same array if there is nothing to do).

    Examples
    --------
    >>> smooth_labels(np.eye(3, dtype=np.uint8)[None], Smoothing(0.5, below=0.1)).sum()
    np.uint64(3)
    """
    box = bounding_box(labels != 0) if smoothing.voxels else None
    if box is None:
        return labels
    reach = int(_TRUNCATE * smoothing.voxels + 0.5)
    # The box is widened, so that the background around the labels has its weight.
    box = _grown(box, 2 * reach, labels.shape)
    inside, result = labels[box], labels.copy()
    smoothed = result[box]

    def work(slab: slice) -> None:
        halo = _grown((slab,), reach, inside.shape)[0]
        middle = slice(slab.start - halo.start, slab.stop - halo.start)
        smoothed[slab] = _smoothed(inside[halo], smoothing)[middle]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, _slabs(inside.shape[0])))
    return result


def _slabs(length: int) -> Iterator[slice]:
    for start in range(0, length, _SLAB):
        yield slice(start, min(start + _SLAB, length))


def _grown(box: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, axis.start - by), min(length, axis.stop + by))
        for axis, length in zip(box, shape, strict=False)
    )


def _smoothed(labels: np.ndarray, smoothing: Smoothing) -> np.ndarray:
    best = np.zeros(labels.shape, dtype=np.float32)
    own = np.zeros(labels.shape, dtype=np.float32)
    winner = labels.copy()
    reach = int(_TRUNCATE * smoothing.voxels + 0.5)
    for label in np.unique(labels):
        alike = labels == label
        # Outside this box the smoothed indicator function is 0.
        box = _grown(bounding_box(alike) or (), reach, labels.shape)
        share = ndimage.gaussian_filter(
            alike[box].astype(np.float32), smoothing.voxels, mode='constant', truncate=_TRUNCATE
        )
        np.copyto(own[box], share, where=alike[box])
        np.copyto(winner[box], label, where=share > best[box])
        np.maximum(best[box], share, out=best[box])
    return np.where(own < smoothing.below, winner, labels)
