"""Values of one grid at the voxels of another, a slab at a time."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

_SLAB = 8  # planes at a time: bounds the memory of every routine here


def slabs(length: int, thickness: int = _SLAB) -> Iterator[slice]:
    """Cut an axis into slices of at most ``thickness``."""
    return (slice(i, min(i + thickness, length)) for i in range(0, length, thickness))


def run(work: Callable[[slice], None], length: int, threads: int) -> None:
    """Call ``work`` for every slab of an axis, in threads where there are several."""
    if threads <= 1:
        for slab in slabs(length):
            work(slab)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, slab) for slab in slabs(length)]:
            future.result()


def coordinates(matrix: np.ndarray, shape: tuple[int, int, int], slab: slice) -> np.ndarray:
    """Return source coordinates of a slab of the last axis, in the matrix's own precision.

    The sums run left to right, ``((m0 i + m1 j) + m2 k) + m3``, rounded at every step.
    """
    real = matrix.dtype.type
    i = np.arange(shape[0], dtype=real)[:, None, None]
    j = np.arange(shape[1], dtype=real)[None, :, None]
    k = np.arange(slab.start, slab.stop, dtype=real)[None, None, :]
    return np.stack([((m[0] * i + m[1] * j) + m[2] * k) + m[3] for m in matrix[:3]])


def trilinear(
    data: np.ndarray,
    matrix: np.ndarray,
    shape: tuple[int, int, int],
    finish: Callable[[np.ndarray], np.ndarray],
    dtype: type,
    threads: int = 1,
) -> np.ndarray:
    """Interpolate linearly; every neighbour outside the source counts as 0 by itself."""
    result = np.empty(shape, dtype=dtype, order='F')

    def work(slab: slice) -> None:
        where = coordinates(matrix, shape, slab)
        values = ndimage.map_coordinates(
            data, where, output=np.float64, order=1, mode='grid-constant', cval=0
        )
        result[..., slab] = finish(values)

    run(work, shape[2], threads)
    return result
