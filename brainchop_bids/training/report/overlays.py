"""Small pictures of a scan, its labels and what a network found. NumPy alone."""

import numpy as np
import numpy.typing as npt

from ...reports.figures.planes import PLANES, Plane, contrast, lia_to_ras, turned

# Voxels around what is labelled: a label that spilled over is seen against what lies there.
_MARGIN = 10
# How bright the scan stays where nothing is labelled.
_DIMMED = 0.4


def draw_views(
    image: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.integer],
    found: npt.NDArray[np.integer],
    colors: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    """Draw three cuts through the middle of what is labelled.

    Parameters
    ----------
    image : (X, Y, Z) or (X, Y, Z, C) uint8
        A conformed scan, LIA; of several channels the first is shown.
    truth, found : (X, Y, Z) integers
        Its labels, and those of a network.
    colors : (n, 3) uint8
        Colour of each label.

    Returns
    -------
    (H, W, 3) uint8
        A row each of axial, coronal and sagittal cuts; from left to right the scan, the truth
        and what was found. The participant's left is on the left. One pixel is one voxel.
    """
    scan = lia_to_ras(image[..., 0] if image.ndim == 4 else image)
    labels = [lia_to_ras(volume) for volume in (truth, found)]
    inside = [volume > 0 for volume in labels]
    region = inside[0] if inside[0].any() else inside[1]
    window = _window(inside[0] | inside[1])
    grey = contrast(scan[window], region[window])
    rows = []
    for plane in PLANES:
        cut: list[slice | int] = list(window)
        cut[plane.normal] = _middle(region, plane)
        where = tuple(cut)
        light = np.repeat(grey[turned(scan[where])][..., None], 3, axis=2)
        panels = [light, *(_colored(light, turned(one[where]), colors) for one in labels)]
        rows.append(np.concatenate(panels, axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_widened(row, width) for row in rows])


def _window(region: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the box around a region, or everything where it is empty."""
    sides = []
    for axis, length in enumerate(region.shape):
        filled = np.flatnonzero(_areas(region, axis))
        first, last = (filled[0], filled[-1]) if filled.size else (0, length - 1)
        sides.append(slice(max(0, first - _MARGIN), min(length, last + 1 + _MARGIN)))
    return sides[0], sides[1], sides[2]


def _middle(region: npt.NDArray[np.bool_], plane: Plane) -> int:
    """Return where to cut: at the centre of mass, or at the most where that lies outside."""
    areas = _areas(region, plane.normal)
    if not areas.any():
        return areas.size // 2
    centre = round(float(np.average(np.arange(areas.size), weights=areas)))
    # Between two hippocampi there is none.
    return centre if areas[centre] else int(areas.argmax())


def _areas(region: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.intp]:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(np.count_nonzero(region, axis=others))


def _colored(
    light: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], colors: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    dimmed = (light * _DIMMED).astype(np.uint8)
    return np.where(labels[..., None] > 0, colors[labels], dimmed)


def _widened(row: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint8]:
    """Spread a row's three panels over a width, each in the middle of its third."""
    panels = np.split(row, 3, axis=1)
    missing = width // 3 - panels[0].shape[1]
    sides = ((0, 0), (missing // 2, missing - missing // 2), (0, 0))
    return np.concatenate([np.pad(panel, sides) for panel in panels], axis=1)
