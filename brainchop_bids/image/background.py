"""Voxels without a signal: what padding, defacing and skull stripping leave."""

import numpy as np

from .lookup import flat

# As MRIQC's mask of voxels that rotation or cutting left empty: fewer are chance.
_LEAST_VOID = 500
_SAMPLE = 1 << 18


def void_value(data: np.ndarray) -> float:
    """Find the value of voxels without a signal.

    It is 0, unless there are negative values, as in scans that were shifted to a mean of 0: then
    it is the value that occurs most often.

    Parameters
    ----------
    data : (X, Y, Z) array
        Intensities as stored.

    Returns
    -------
    float
    """
    if data.min() >= 0:
        return 0.0
    values = flat(data)
    # A value that is not in one of so many voxels fills no part of the background.
    distinct, counts = np.unique(values[:: max(1, values.size // _SAMPLE)], return_counts=True)
    return float(distinct[np.argmax(counts)])


def void_mask(data: np.ndarray, value: float = 0.0) -> np.ndarray:
    """Find empty background: one value in voxels that stand together, as padding leaves them.

    MRIQC (Esteban et al. 2017, https://doi.org/10.1371/journal.pone.0184661) opens the zeros by
    a ball of 19 voxels and keeps the two largest parts; this opens them by a cube of 27 and
    keeps all. A single zero among noise is not part of it.

    Parameters
    ----------
    data : (X, Y, Z) array
        Intensities as stored.
    value : float
        Value of empty voxels, see `void_value`.

    Returns
    -------
    (X, Y, Z) bool
        All False where there are fewer than 500.
    """
    void = data == value
    for combine in (np.logical_and, np.logical_or):
        for axis in range(3):
            void = _spread(void, axis, combine)
    return void if np.count_nonzero(void) >= _LEAST_VOID else np.zeros_like(void)


def without_empty(labels: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Remove labels from voxels that have no signal, where no tissue can be seen.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Labels.
    data : (X, Y, Z) array
        Intensities of the same voxels.

    Returns
    -------
    (X, Y, Z) array
        ``labels`` itself if there is nothing to remove.
    """
    wrong = (labels != 0) & (data == void_value(data))
    return np.where(wrong, labels.dtype.type(0), labels) if wrong.any() else labels


def _spread(mask: np.ndarray, axis: int, combine: np.ufunc) -> np.ndarray:
    """Combine each voxel with its two neighbours; the outside of the volume is ignored."""
    result = mask.copy(order='K')
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    for here, there in ((tuple(low), tuple(high)), (tuple(high), tuple(low))):
        combine(result[here], mask[there], out=result[here])
    return result
