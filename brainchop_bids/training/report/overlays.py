"""Overlays of true and predicted labels on slices of a scan, as arrays."""

import numpy as np
import numpy.typing as npt

from ...reports.figures.planes import PLANES, Plane, contrast, lia_to_ras, turned

# Voxels around the labelled region, so that leaked labels are seen against their background.
_MARGIN = 10
# Brightness of unlabelled voxels in label panels, relative to the scan.
_BACKGROUND_BRIGHTNESS = 0.4


def draw_overlay(
    image: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    colors: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    """Draw three slices through the middle of the labelled region.

    Parameters
    ----------
    image : (X, Y, Z) or (X, Y, Z, C) uint8
        A conformed scan, LIA; the first channel is shown.
    truth, predicted : (X, Y, Z) integers
        True and predicted labels.
    colors : (n, 3) uint8
        Colour of each label.

    Returns
    -------
    (H, W, 3) uint8
        Rows: axial, coronal and sagittal slice; columns: scan, truth and prediction. The
        participant's left is on the left. One pixel is one voxel.
    """
    scan = lia_to_ras(image[..., 0] if image.ndim == 4 else image)
    labels = [lia_to_ras(volume) for volume in (truth, predicted)]
    inside = [volume > 0 for volume in labels]
    region = inside[0] if inside[0].any() else inside[1]
    window = _window(inside[0] | inside[1])
    grey = contrast(scan[window], region[window])
    rows = []
    for plane in PLANES:
        cut: list[slice | int] = list(window)
        cut[plane.normal] = _middle(region, plane)
        where = tuple(cut)
        scan_panel = np.repeat(grey[turned(scan[where])][..., None], 3, axis=2)
        panels = [
            scan_panel,
            *(_overlay(scan_panel, turned(one[where]), colors) for one in labels),
        ]
        rows.append(np.concatenate(panels, axis=1))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, width) for row in rows])


def _window(region: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the box around a region, or everything where it is empty."""
    sides = []
    for axis, length in enumerate(region.shape):
        filled = np.flatnonzero(_areas(region, axis))
        first, last = (filled[0], filled[-1]) if filled.size else (0, length - 1)
        sides.append(slice(max(0, first - _MARGIN), min(length, last + 1 + _MARGIN)))
    return sides[0], sides[1], sides[2]


def _middle(region: npt.NDArray[np.bool_], plane: Plane) -> int:
    """Return the slice at the centre of mass, or the largest one if that is empty."""
    areas = _areas(region, plane.normal)
    if not areas.any():
        return areas.size // 2
    centre = round(float(np.average(np.arange(areas.size), weights=areas)))
    # The middle between two hippocampi has neither.
    return centre if areas[centre] else int(areas.argmax())


def _areas(region: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.intp]:
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(np.count_nonzero(region, axis=others))


def _overlay(
    scan_panel: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    colors: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    background = (scan_panel * _BACKGROUND_BRIGHTNESS).astype(np.uint8)
    return np.where(labels[..., None] > 0, colors[labels], background)


def _padded(row: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint8]:
    """Pad a row's three panels to a width, each centred in its third."""
    panels = np.split(row, 3, axis=1)
    missing = width // 3 - panels[0].shape[1]
    sides = ((0, 0), (missing // 2, missing - missing // 2), (0, 0))
    return np.concatenate([np.pad(panel, sides) for panel in panels], axis=1)
