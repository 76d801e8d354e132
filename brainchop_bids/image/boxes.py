"""Bounding boxes of masks."""

import numpy as np


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest box that contains all True elements, None if there are none.

    Parameters
    ----------
    mask : bool array
        Any shape.
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Each axis is searched within the box so far, which is faster.
        part = mask[tuple(box)]
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.flatnonzero(part.any(axis=others))
        if not found.size:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
