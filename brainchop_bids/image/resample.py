"""Resampling of label maps and probabilities to another grid, by the affines of both."""

import numpy as np

from .geometry import Geometry
from .sampling import Sampler, for_each, nearest, trilinear

_NOTHING = 1e-12  # voxels
_EQUAL = 1e-9  # weights closer than this are a tie


def labels_to_grid(
    labels: np.ndarray,
    source: Geometry,
    target: Geometry,
    *,
    method: str = 'linear',
    threads: int = 1,
) -> np.ndarray:
    """Resample a label map; no new labels arise.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map on the source grid.
    source, target : Geometry
        Grid of the labels, and grid of the result.
    method : {'linear', 'nearest'}
        With ``'linear'``, the indicator function of each label is interpolated linearly and the
        label with the largest value is taken, the smallest label in a tie. ``'nearest'`` takes
        the label of the nearest voxel.
    threads : int
        Number of threads.

    Returns
    -------
    array of ``target.shape``
        Same dtype as ``labels``; 0 (background) outside the source's field of view.

    Raises
    ------
    ValueError
        If the method is unknown, or the labels do not have the shape of the source grid.
    """
    if labels.shape != source.shape:
        raise ValueError(f'labels have shape {labels.shape}, expected {source.shape}')
    if method not in ('linear', 'nearest'):
        raise ValueError(f"method is {method!r}, expected 'linear' or 'nearest'")
    if source.matches(target):
        return labels.copy(order='K')
    sampler = Sampler(_voxel_to_voxel(source, target), source.shape, target.shape)
    if method == 'nearest':
        return nearest(labels, sampler, threads)
    return _most_likely(labels, sampler, threads)


def _voxel_to_voxel(source: Geometry, target: Geometry) -> np.ndarray:
    matrix = np.linalg.inv(source.affine) @ target.affine
    # Rounding errors of the inversion would hide that the grids are parallel.
    matrix[np.abs(matrix) < _NOTHING] = 0
    return matrix


def _most_likely(labels: np.ndarray, sampler: Sampler, threads: int) -> np.ndarray:
    result = np.zeros(sampler.target, dtype=labels.dtype, order='F')
    flat = sampler.pad(labels)
    alike = _alike(flat, sampler)

    def work(k: int) -> None:
        for piece in sampler.pieces(k):
            found = flat.take(piece.base, mode='clip')
            mixed = ~alike.take(piece.base, mode='clip')
            parts = [np.broadcast_to(part, mixed.shape)[mixed] for part in piece.parts]
            found[mixed] = _vote(flat, piece.base[mixed], parts, sampler.strides)
            result.T[k][piece.box] = found

    for_each(work, sampler.target[2], threads)
    return result


def _alike(flat: np.ndarray, sampler: Sampler) -> np.ndarray:
    """Return True for voxels that have the same label as their seven upper neighbours.

    This holds for nearly all voxels, and these need no interpolation.
    """
    low, high = flat.copy(), flat.copy()
    for stride in sampler.strides:
        low[:-stride] = np.minimum(low[:-stride], low[stride:])
        high[:-stride] = np.maximum(high[:-stride], high[stride:])
    return low == high


def _vote(
    flat: np.ndarray, base: np.ndarray, parts: list[np.ndarray], strides: tuple[int, int, int]
) -> np.ndarray:
    """Sum the weights of each label over the eight corners; return the label with the largest."""
    corners = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    found, weights = [], []
    for corner in corners:
        offset = sum(n * stride for n, stride in zip(corner, strides, strict=True))
        found.append(flat[offset:].take(base, mode='clip'))
        x, y, z = (part if n else 1 - part for n, part in zip(corner, parts, strict=True))
        weights.append(x * y * z)
    scores = [weight.copy() for weight in weights]
    for a in range(8):
        for b in range(a):
            equal = found[a] == found[b]
            scores[a] += weights[b] * equal
            scores[b] += weights[a] * equal
    label, best = found[0], scores[0]
    for other, score in zip(found[1:], scores[1:], strict=True):
        wins = (score > best + _EQUAL) | ((score > best - _EQUAL) & (other < label))
        label, best = np.where(wins, other, label), np.where(wins, score, best)
    return label


def image_to_grid(
    data: np.ndarray, source: Geometry, target: Geometry, *, threads: int = 1
) -> np.ndarray:
    """Resample an image linearly.

    Parameters
    ----------
    data : (X, Y, Z) array
        Values on the source grid.
    source, target : Geometry
        Grid of the values, and grid of the result.
    threads : int
        Number of threads.

    Returns
    -------
    float32 array of ``target.shape``
        Values; neighbours outside the source's field of view count as 0.
    """
    sampler = Sampler(_voxel_to_voxel(source, target), source.shape, target.shape)
    return trilinear(data, sampler, lambda values: values, np.float32, threads)
