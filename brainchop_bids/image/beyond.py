"""Labels beyond the box around an organ."""

from dataclasses import dataclass

import numpy as np

from .geometry import Geometry

# Depth beyond a face in which its area of labels is measured, mm.
_DEPTH = 2.0
# Steps of a voxel that are as good as none, voxels.
_STILL = 1e-6


@dataclass(frozen=True, eq=False)
class Beyond:
    """Labels that lie beyond a box.

    Parameters
    ----------
    mask : (X, Y, Z) bool array
        True for labelled voxels outside of the box.
    area_cm2 : (3, 2) float array
        Area of labels that go on beyond the lower and the upper face across each axis of the box,
        cm^2: the mean of the first 2 mm beyond.
    """

    mask: np.ndarray
    area_cm2: np.ndarray


def labels_beyond(
    labels: np.ndarray, grid: Geometry, box: Geometry, margin: float = 0.0
) -> Beyond:
    """Find the labels outside of a box.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels; 0 is background.
    grid : Geometry
        Their grid.
    box : Geometry
        The box as a grid, whose axes may be oblique to those of the labels.
    margin : float
        Distance by which the box grows on all sides, mm.

    Returns
    -------
    Beyond
    """
    places = np.nonzero(labels)
    onto = np.linalg.inv(box.affine) @ grid.affine
    area = np.zeros((3, 2))
    ends = [_past_ends(places, onto[axis], box, axis, margin) for axis in range(3)]
    past = [np.maximum(*both) for both in ends]
    for axis in range(3):
        one, other = (past[n] for n in range(3) if n != axis)
        beside = np.maximum(one, other) <= 0
        for end, mm in enumerate(ends[axis]):
            count = np.count_nonzero(beside & (mm > 0) & (mm <= _DEPTH))
            area[axis, end] = count * grid.voxel_volume / _DEPTH / 100
    mask = np.zeros_like(labels, bool)
    outside = np.maximum(np.maximum(past[0], past[1]), past[2]) > 0
    mask[tuple(axis[outside] for axis in places)] = True
    return Beyond(mask, area)


def _past_ends(
    places: tuple[np.ndarray, ...], row: np.ndarray, box: Geometry, axis: int, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return by how many mm voxels lie beyond both ends of a box along one of its axes."""
    zoom = float(box.zooms[axis])
    place = np.full(places[0].shape, row[3] * zoom, np.float32)
    for where, step in zip(places, row, strict=False):
        # Along most axes of most scans nothing changes.
        if abs(step) > _STILL:
            place += (where * (step * zoom)).astype(np.float32)
    low, high = -0.5 * zoom - margin, (box.shape[axis] - 0.5) * zoom + margin
    return low - place, place - high
