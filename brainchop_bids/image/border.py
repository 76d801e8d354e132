"""Growing and shrinking of masks by a distance."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..system.errors import SettingsError
from .boxes import bounding_box

# Largest distance, mm; a larger one would fill the field of view or remove whole brains.
_MOST_MM = 50.0
# Voxel sizes are rounded to 32 bits in headers, so that distances may be this much too large, mm.
_ROUNDING_MM = 1e-5


def check_border(border: float) -> float:
    """Check a distance for `move_border`.

    Parameters
    ----------
    border : float
        Distance in mm; negative to shrink.

    Returns
    -------
    float
        The same distance.

    Raises
    ------
    SettingsError
        If it is not a number of -50 to 50 mm.
    """
    # Written so that NaN is refused.
    if not -_MOST_MM <= border <= _MOST_MM:
        raise SettingsError(f'border {border:g}: expected -{_MOST_MM:g} to {_MOST_MM:g} mm')
    return border


def move_border(
    mask: np.ndarray, zooms: Sequence[float] | np.ndarray, border: float
) -> np.ndarray:
    """Grow or shrink a mask by a distance, measured between centres of voxels.

    A mask that grows gets all voxels at no more than the distance from one of its voxels; a mask
    that shrinks keeps those at more than the distance from all voxels outside. What is beyond
    the field of view does not count.

    Parameters
    ----------
    mask : (X, Y, Z) array
        Mask, 0 outside.
    zooms : sequence of 3 float
        Voxel sizes in mm.
    border : float
        Distance in mm; negative to shrink.

    Returns
    -------
    (X, Y, Z) uint8
        1 inside.

    Examples
    --------
    >>> line = np.array([[[0, 0, 0, 1, 1, 1, 1, 0]]])
    >>> move_border(line, (1, 1, 0.5), 1.0)
    array([[[0, 1, 1, 1, 1, 1, 1, 1]]], dtype=uint8)
    >>> move_border(line, (1, 1, 0.5), -0.5)
    array([[[0, 0, 0, 0, 1, 1, 0, 0]]], dtype=uint8)
    """
    inside = mask != 0
    result = inside.astype(np.uint8)
    # Most masks stay as they are: without a border the box is not searched.
    box = bounding_box(inside) if border else None
    if box is None:
        return result
    reach = [int((abs(border) + _ROUNDING_MM) // zoom) + 1 for zoom in zooms]
    around = tuple(
        slice(max(0, side.start - more), side.stop + more)
        for side, more in zip(box, reach, strict=True)
    )
    part = inside[around]
    # A mask without a voxel outside has no distance to one.
    if border < 0 and part.all():
        return result
    distance = ndimage.distance_transform_edt(
        part if border < 0 else ~part, sampling=[float(zoom) for zoom in zooms]
    )
    near = distance <= abs(border) + _ROUNDING_MM
    result[around] = part & ~near if border < 0 else near
    return result
