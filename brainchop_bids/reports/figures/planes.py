"""Orientation and contrast of slices in pictures. NumPy alone.

Sides follow nilearn, and so fMRIPrep's and MRIQC's pages: the participant's left is on the left
of the picture, anterior is right in sagittal cuts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Plane:
    """Orientation of one plane in pictures.

    Parameters
    ----------
    name : str
        ``'axial'``, ``'coronal'`` or ``'sagittal'``.
    normal, across, up : int
        Axes of the RAS-ordered volume: through the plane, left to right, bottom to top.
    cuts : int
        Number of cuts in a mosaic.
    letters : tuple of str
        Sides of the body at the left, right, top and bottom of the panel.
    """

    name: str
    normal: int
    across: int
    up: int
    cuts: int
    letters: tuple[str, str, str, str]


PLANES = (
    Plane('axial', 2, 0, 1, 7, ('L', 'R', 'A', 'P')),
    Plane('coronal', 1, 0, 2, 7, ('L', 'R', 'S', 'I')),
    Plane('sagittal', 0, 1, 2, 6, ('P', 'A', 'S', 'I')),
)


def lia_to_ras(array: npt.NDArray) -> npt.NDArray:
    """View an LIA volume with its axes towards right, anterior and superior."""
    return array[::-1, ::-1, :].transpose(0, 2, 1)


def contrast(scan: npt.NDArray[np.uint8], region: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return a table from intensity to grey that is scaled to a region.

    Parameters
    ----------
    scan : ndarray of uint8, shape (X, Y, Z)
        Volume to be shown.
    region : ndarray of bool, shape (X, Y, Z)
        The region; where it is almost empty, all voxels above 0 are taken.

    Returns
    -------
    ndarray of uint8, shape (256,)
    """
    sparse = (slice(None, None, 2),) * 3
    values = scan[sparse]
    inside = values[region[sparse]]
    inside = inside if inside.size > 1000 else values[values > 0]
    low = float(np.percentile(values, 2))
    high = float(np.percentile(inside, 99.5)) if inside.size else 255.0
    span = max(high - low, 1.0)
    return np.clip((np.arange(256) - low) / span * 255, 0, 255).astype(np.uint8)


def turned(cut: npt.NDArray) -> npt.NDArray:
    """Turn a cut of an RAS-ordered volume: rows from top to bottom, columns left to right."""
    # What is left of the RAS axes stands in the order (across, up) in all three planes.
    return np.ascontiguousarray(cut.T[::-1])
