"""Bounding box of the head, outside of which nothing needs to be computed."""

import numpy as np

from .lookup import histogram

# Voxels below this share of the 99th percentile of non-zero voxels are air. Noise and ghosts are
# below, skin and the fat under it far above.
_AIR = 0.1
# Smallest share of voxels of a plane that are not air in the head; fewer are specks.
_SPECKS = 0.002


def head_box(
    data: np.ndarray, margin: tuple[int, int, int], multiple: int = 8
) -> tuple[slice, slice, slice]:
    """Find the box around a head.

    Parameters
    ----------
    data : (X, Y, Z) uint8 array
        A conformed volume.
    margin : tuple of 3 int
        Number of voxels to add on either side, along each axis.
    multiple : int
        The sides of the box are multiples of this number if those of the volume are.

    Returns
    -------
    tuple of 3 slice
        The box; the whole volume if no head is found.
    """
    bright = data > _air(data)
    box = []
    for axis, (length, wide) in enumerate(zip(data.shape, margin, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(bright, axis=others)
        found = np.flatnonzero(counts > _SPECKS * data.size / length)
        first, last = (found[0], found[-1]) if found.size else (0, length - 1)
        box.append(_widened(int(first) - wide, int(last) + 1 + wide, length, multiple))
    x, y, z = box
    return x, y, z


def _air(data: np.ndarray) -> float:
    """Return the intensity below which voxels are air."""
    counts = histogram(data, 256)
    ends = np.cumsum(counts[1:])
    if not ends[-1]:
        return 0.0
    return _AIR * (1 + float(np.searchsorted(ends, 0.99 * ends[-1])))


def _widened(start: int, stop: int, length: int, multiple: int) -> slice:
    """Clip to the volume, and widen to a multiple."""
    start, stop = max(0, start), min(length, stop)
    stop = min(length, start + -(-(stop - start) // multiple) * multiple)
    start = max(0, stop - -(-(stop - start) // multiple) * multiple)
    return slice(start, stop)
