"""Whether labels lie on the scan they are said to be of."""

import numpy as np

from ...image.conform import conformed_grid
from ...image.geometry import Geometry

# What headers lose by rounding: a small part of a voxel.
_ROUNDING_MM = 0.1
# FreeSurfer's centre of a grid moves by a voxel where axes are flipped before conforming.
_CONFORMED_MM = 2.0

OWN, CONFORMED = 'own', 'conformed'


def placement(labels: Geometry, scan: Geometry) -> str:
    """Tell where a label map lies.

    Parameters
    ----------
    labels, scan : Geometry
        Grids of the label map and of the scan that it is of.

    Returns
    -------
    str
        ``'own'`` where the label map fills the scan's own box of voxels (within 0.1 mm, in
        whatever order or size of voxels), ``'conformed'`` where it fills that of the conformed
        scan (within 2 mm), else empty.
    """
    if labels.apart(scan) <= _ROUNDING_MM:
        return OWN
    grid, _ = conformed_grid(scan)
    return CONFORMED if labels.apart(grid) <= _CONFORMED_MM else ''


def why_apart(labels: Geometry, scan: Geometry) -> str:
    """Say how a label map lies that has no placement on its scan, and what to do.

    Parameters
    ----------
    labels, scan : Geometry
        The two grids.
    """
    found = f'{labels}, corners up to {labels.apart(scan):.3g} mm from those of the scan ({scan})'
    if labels.shape != scan.shape:
        return f'{found}; resample the labels to the scan'
    if _tells_nothing(labels):
        found += ', and their affine turns and moves nothing: whatever wrote them lost the header'
    return f"{found}; both have the same shape: if they belong together, copy the scan's affine"


def _tells_nothing(grid: Geometry) -> bool:
    """Tell whether an affine is one that tools write where they know none: a corner at 0."""
    upright = np.array_equal(np.abs(grid.cosines), np.eye(3))
    nearest = np.linalg.norm(grid.corners, axis=1).min()
    return upright and bool(nearest <= np.linalg.norm(grid.zooms))
