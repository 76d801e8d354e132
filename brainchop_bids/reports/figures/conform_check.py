"""Picture of the original scan with the outline of the conformed volume.

It shows whether the header is right about sides and voxel sizes, and whether the head lies inside
the volume that the network sees.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ...image.geometry import Geometry
from .mosaic import draw_letters

# Pixels per millimetre.
_SCALE = 1.5
_GAP = 14
# Largest extent of a panel, whatever field of view the header claims.
_MOST_MM = 600.0
_BOX = (79, 195, 255)
_OPPOSITE = dict(zip('LRAPSI', 'RLPAIS', strict=True))
# Directions that point right or up, the upright one of two last: as in the mosaic.
_UPRIGHT = 'SAR'
# Edges of a cube by the numbers of its corners, whose bits are their coordinates.
_EDGES = [(corner, corner | 1 << bit) for corner in range(8) for bit in range(3)]
_EDGES = [(one, other) for one, other in _EDGES if one != other]


def draw_conform_check(data: npt.NDArray, scan: Geometry, conformed: Geometry) -> Image.Image:
    """Draw the three middle slices of a scan with the outline of the conformed volume.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z)
        The scan in its own grid.
    scan, conformed : Geometry
        Both grids.

    Returns
    -------
    PIL.Image.Image
        RGB: a panel for each axis of the scan, cut in the middle, in true proportions, with the
        letters of the sides by its header. Where the scan's axes are oblique, the letters are
        the nearest ones.
    """
    corners = _corners(scan, conformed)
    limits = _limits(data)
    panels = [_panel(data, scan, corners, limits, axis) for axis in range(3)]
    width = sum(panel.width + _GAP for panel in panels) + _GAP
    height = max(panel.height for panel in panels) + 2 * _GAP
    picture = Image.new('RGB', (width, height))
    left = _GAP
    for panel in panels:
        picture.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + _GAP
    return picture


def _limits(data: npt.NDArray) -> tuple[float, float]:
    """Return the intensities shown black and white."""
    low, high = np.percentile(np.asarray(data[::3, ::3, ::3], dtype=np.float32), (1, 99.5))
    return float(low), max(float(high), float(low) + 1e-6)


def _corners(scan: Geometry, conformed: Geometry) -> npt.NDArray[np.float64]:
    """Return the corners of the conformed volume in mm along the scan's own axes, (8, 3)."""
    # Borders of voxels, not their middles.
    low, high = np.full(3, -0.5), np.asarray(conformed.shape) - 0.5
    bits = np.arange(8)[:, None] >> np.arange(3) & 1
    corners = np.where(bits, high, low)
    to_scan = np.linalg.inv(scan.affine) @ conformed.affine
    voxels = corners @ to_scan[:3, :3].T + to_scan[:3, 3]
    return (voxels + 0.5) * np.asarray(scan.zooms, dtype=float)


def _panel(
    data: npt.NDArray,
    scan: Geometry,
    corners: npt.NDArray[np.float64],
    limits: tuple[float, float],
    normal: int,
) -> Image.Image:
    """Draw the middle slice along one axis."""
    across, up = _axes(scan.orientation, normal)
    zooms = np.asarray(scan.zooms, dtype=float)
    middle = scan.shape[normal] // 2
    # Millimetres along the two axes, turned so that they point right and up in the picture.
    signs = np.array([1 if scan.orientation[axis] in _UPRIGHT else -1 for axis in (across, up)])
    extent = np.array([scan.shape[across], scan.shape[up]]) * zooms[[across, up]]
    outline = _cross_section(corners, normal, (middle + 0.5) * zooms[normal])[:, [across, up]]
    image = np.sort(np.array([[0, 0], extent]) * signs, axis=0)
    outline = outline * signs
    seen = np.vstack([image, outline])
    start, stop = seen.min(axis=0) - 4, seen.max(axis=0) + 4
    scale = min(_SCALE, _SCALE * _MOST_MM / float((stop - start).max()))
    size = np.maximum(np.rint((stop - start) * scale), 1).astype(int)
    panel = Image.new('RGB', (int(size[0]), int(size[1])))

    def place(point: npt.NDArray[np.float64]) -> tuple[float, float]:
        x, y = (point - start) * scale
        return float(x), float(size[1] - y)

    tile = _tile(data.take(middle, axis=normal), limits, transposed=across > up)
    tile = tile[:: -signs[1], :: signs[0]]
    (left, bottom), (right, top) = place(image[0]), place(image[1])
    pixels = (max(round(right - left), 1), max(round(bottom - top), 1))
    resized = Image.fromarray(np.ascontiguousarray(tile)).resize(pixels, Image.Resampling.BICUBIC)
    panel.paste(resized, (round(left), round(top)))
    if len(outline) > 2:
        draw = ImageDraw.Draw(panel)
        draw.polygon([place(point) for point in outline], outline=_BOX, width=2)
    sides = [scan.orientation[axis] for axis in (across, up)]
    right_side, top_side = (side if side in _UPRIGHT else _OPPOSITE[side] for side in sides)
    draw_letters(
        panel,
        (0, 0, panel.width, panel.height),
        (_OPPOSITE[right_side], right_side, top_side, _OPPOSITE[top_side]),
    )
    return panel


def _axes(orientation: str, normal: int) -> tuple[int, int]:
    """Return the horizontal and the vertical axis of a slice."""
    one, other = (axis for axis in range(3) if axis != normal)
    names = ''.join(letter if letter in _UPRIGHT else _OPPOSITE[letter] for letter in orientation)
    return (
        (other, one) if _UPRIGHT.index(names[one]) < _UPRIGHT.index(names[other]) else (one, other)
    )


def _tile(cut: npt.NDArray, limits: tuple[float, float], *, transposed: bool) -> npt.NDArray:
    """Turn a slice into grey values, its upright axis along the rows."""
    low, high = limits
    grey = np.clip((np.asarray(cut, dtype=np.float32) - low) * (255 / (high - low)), 0, 255)
    return grey.astype(np.uint8) if transposed else grey.astype(np.uint8).T


def _cross_section(
    corners: npt.NDArray[np.float64], normal: int, height: float
) -> npt.NDArray[np.float64]:
    """Cut a cube by a plane: the corners of the section in order around it, (n, 3)."""
    heights = corners[:, normal] - height
    points = [
        corners[one]
        + (corners[other] - corners[one]) * heights[one] / (heights[one] - heights[other])
        for one, other in _EDGES
        if heights[one] * heights[other] < 0
    ]
    if not points:
        return np.zeros((0, 3))
    outline = np.array(points)
    others = [axis for axis in range(3) if axis != normal]
    spokes = (outline - outline.mean(axis=0))[:, others]
    return outline[np.argsort(np.arctan2(spokes[:, 1], spokes[:, 0]))]
