"""Label maps and probabilities on another grid, by the affines of both."""

import numpy as np

from .geometry import Geometry
from .sampling import coordinates, run, slabs, trilinear


def labels_to_grid(
    labels: np.ndarray, source: Geometry, target: Geometry, *, method: str = 'linear'
) -> np.ndarray:
    """Resample a label map without inventing labels.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map on the source grid.
    source, target : Geometry
        The two grids.
    method : {'linear', 'nearest'}
        ``'linear'`` takes the label whose indicator, linearly interpolated, is the largest; of
        equal ones the smaller label. ``'nearest'`` takes the nearest voxel's label.

    Returns
    -------
    array of ``target.shape``
        Same dtype as ``labels``; outside the source's field of view background (0).

    Raises
    ------
    ValueError
        For another method, or labels that are not on the source grid.
    """
    if labels.shape != source.shape:
        raise ValueError(f'labels have shape {labels.shape}, expected {source.shape}')
    if method not in ('linear', 'nearest'):
        raise ValueError(f"method is {method!r}, expected 'linear' or 'nearest'")
    if source.matches(target):
        return labels.copy(order='K')
    matrix = np.linalg.inv(source.affine) @ target.affine
    padded = np.pad(labels, 2)
    result = np.zeros(target.shape, dtype=labels.dtype, order='F')
    for slab in slabs(target.shape[2]):
        where = coordinates(matrix, target.shape, slab)
        if method == 'nearest':
            where = np.floor(where + 0.5)
        index = [
            np.clip(np.floor(w).astype(np.intp) + 2, 0, n + 2)
            for w, n in zip(where, labels.shape, strict=True)
        ]
        if method == 'nearest':
            result[..., slab] = padded[tuple(index)]
        else:
            result[..., slab] = _vote(padded, index, where - np.floor(where))
    return result


def _vote(padded: np.ndarray, index: list[np.ndarray], part: np.ndarray) -> np.ndarray:
    corners = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    found = np.stack(
        [padded[tuple(i + d for i, d in zip(index, c, strict=True))] for c in corners]
    )
    result = found[0].copy()
    mixed = (found != found[0]).any(axis=0)
    found, part = found[:, mixed], part[:, mixed]
    weights = np.stack(
        [
            np.prod([p if d else 1 - p for p, d in zip(part, c, strict=True)], axis=0)
            for c in corners
        ]
    )
    best = np.full(found.shape[1], -1.0)
    label = np.zeros(found.shape[1], dtype=padded.dtype)
    for candidate in found:
        score = (weights * (found == candidate)).sum(axis=0)
        wins = (score > best + 1e-9) | ((score > best - 1e-9) & (candidate < label))
        best = np.where(wins, score, best)
        label = np.where(wins, candidate, label)
    result[mixed] = label
    return result


def image_to_grid(data: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Resample an image linearly.

    Parameters
    ----------
    data : (X, Y, Z) array
        Values on the source grid.
    source, target : Geometry
        The two grids.

    Returns
    -------
    float32 array of ``target.shape``
        Neighbours outside the source's field of view count as 0.
    """
    matrix = np.linalg.inv(source.affine) @ target.affine
    return trilinear(data, matrix, target.shape, lambda values: values, np.float32)


__all__ = ['image_to_grid', 'labels_to_grid', 'run']
