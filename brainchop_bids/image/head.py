"""Bounding box of the head: everything around it need not be computed."""

import numpy as np

from .lookup import histogram

# Of the brightness that the brightest hundredth of the head begins with: darker is air. Noise and
# ghosts lie below, the skin and the fat under it far above.
_AIR = 0.1
# A plane belongs to the head where so many of its voxels are no air; fewer are specks.
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
        Voxels to add on each side, along each axis.
    multiple : int
        The box's sides are multiples of it where the volume's are.

    Returns
    -------
    tuple of 3 slice
        All of the volume where no head stands out.
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
    """Return the brightness below which there is air."""
    counts = histogram(data, 256)
    ends = np.cumsum(counts[1:])
    if not ends[-1]:
        return 0.0
    return _AIR * (1 + float(np.searchsorted(ends, 0.99 * ends[-1])))


def _widened(start: int, stop: int, length: int, multiple: int) -> slice:
    """Cut off what is outside, and widen to a multiple."""
    start, stop = max(0, start), min(length, stop)
    stop = min(length, start + -(-(stop - start) // multiple) * multiple)
    start = max(0, stop - -(-(stop - start) // multiple) * multiple)
    return slice(start, stop)
