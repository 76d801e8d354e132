"""Alignment of label maps with the scans they belong to."""

import numpy as np

from ...image.conform import conformed_grid
from ...image.geometry import Geometry

# Rounding in headers.
_ROUNDING_MM = 0.1
# The centre of a conformed grid moves by a voxel if axes are flipped before conforming.
_CONFORMED_MM = 2.0

SCAN_GRID, CONFORMED_GRID = 'scan', 'conformed'


def matching_grid(labels: Geometry, scan: Geometry) -> str:
    """Return the grid that a label map is on.

    Parameters
    ----------
    labels, scan : Geometry
        Grids of the label map and of its scan.

    Returns
    -------
    str
        ``'scan'`` if the label map covers the scan's field of view (corners within 0.1 mm,
        whatever the order and size of voxels), ``'conformed'`` if it covers that of the
        conformed scan (within 2 mm), else empty.
    """
    if labels.apart(scan) <= _ROUNDING_MM:
        return SCAN_GRID
    grid, _ = conformed_grid(scan)
    return CONFORMED_GRID if labels.apart(grid) <= _CONFORMED_MM else ''


def describe_misalignment(labels: Geometry, scan: Geometry) -> str:
    """Return how the grids of a label map and its scan differ, and what to do.

    Parameters
    ----------
    labels, scan : Geometry
        The two grids.

    Returns
    -------
    str
        Part of an error message.
    """
    text = f'{labels}, corners up to {labels.apart(scan):.3g} mm from those of the scan ({scan})'
    if labels.shape != scan.shape:
        return f'{text}; resample the labels to the scan'
    if _is_default(labels):
        text += ', and their affine turns and moves nothing: whatever wrote them lost the header'
    return f"{text}; both have the same shape: if they belong together, copy the scan's affine"


def _is_default(grid: Geometry) -> bool:
    """Return whether an affine is a default: not rotated, with a corner of the grid at 0."""
    upright = np.array_equal(np.abs(grid.cosines), np.eye(3))
    nearest = np.linalg.norm(grid.corners, axis=1).min()
    return upright and bool(nearest <= np.linalg.norm(grid.zooms))
