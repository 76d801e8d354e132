"""The conformed field of view around an organ that is out of reach of the usual one."""

import numpy as np

from .geometry import Geometry
from .io import Volume

# What must lie in the field around an organ, mm.
_AROUND = 10.0
# The field is moved by multiples of so many voxels: networks with strides, and those that are
# applied to cubes, then divide the voxels as they do without.
_STEP = 8


def extent_in(field: Geometry, organ: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Return where an organ lies in a field.

    Parameters
    ----------
    field : Geometry
        The field.
    organ : Geometry
        The box around the organ, as a grid. The organ is taken for the ellipsoid in it, so that a
        box that is oblique to the field is not larger for its empty corners.

    Returns
    -------
    middle, half : (3,) float64
        Its middle and half its extent, in voxels of the field.
    """
    onto = np.linalg.inv(field.affine) @ organ.affine
    middle = onto[:3, :3] @ ((np.array(organ.shape) - 1) / 2) + onto[:3, 3]
    half = np.sqrt(((onto[:3, :3] * (np.array(organ.shape) / 2)) ** 2).sum(1))
    return middle, half


def holds(field: Geometry, organ: Geometry) -> bool:
    """Return whether an organ and 10 mm around it lie in a field."""
    middle, half = extent_in(field, organ)
    half = half + _AROUND / field.zooms + 0.5
    sides = np.array(field.shape)
    return bool((middle - half >= -1).all() and (middle + half <= sides).all())


def centred_on(field: Geometry, organ: Geometry) -> Geometry:
    """Return a field that is moved by whole voxels, so that an organ is in its middle.

    Parameters
    ----------
    field, organ : Geometry
        As for `extent_in`.

    Returns
    -------
    Geometry
        Moved by a multiple of 8 voxels along each axis.
    """
    middle, _ = extent_in(field, organ)
    steps = np.rint((middle - (np.array(field.shape) - 1) / 2) / _STEP) * _STEP
    moved = field.affine[:3, :3] @ steps
    return Geometry(field.shape, field.zooms, field.cosines, field.c_ras + moved)


def part_in(volume: Volume, field: Geometry) -> Volume:
    """Return the part of a volume that lies in a field.

    Parameters
    ----------
    volume : Volume
        The volume.
    field : Geometry
        The field.

    Returns
    -------
    Volume
        All voxels that trilinear interpolation in the field needs; the volume itself if those
        are all.
    """
    onto = np.linalg.inv(volume.geometry.affine)
    corners = field.corners @ onto[:3, :3].T + onto[:3, 3]
    shape = np.array(volume.data.shape)
    first = np.clip(np.floor(corners.min(0)) - 1, 0, shape - 1).astype(int)
    last = np.clip(np.ceil(corners.max(0)) + 1, first, shape - 1).astype(int)
    if not first.any() and (last == shape - 1).all():
        return volume
    x, y, z = (slice(start, stop + 1) for start, stop in zip(first, last, strict=True))
    data = np.array(volume.data[x, y, z], order='F')
    place = volume.geometry.part(first.tolist(), data.shape)
    return Volume(data, place, volume.warnings, volume.path, volume.header)
