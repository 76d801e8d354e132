"""Mosaic of a segmentation: slices of the scan, its labels and the brain's outline, in layers.

The layers match pixel by pixel, so that a page can fade one into the other. Sides follow
nilearn, and so fMRIPrep's and MRIQC's pages: the participant's left is on the left of the
picture, anterior is right in sagittal cuts. Every cut carries the letters of its sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from ...image.boxes import bounding_box
from ...image.head import head_box
from .. import UNKNOWN_COLOR
from .planes import PLANES, Plane, contrast, lia_to_ras, turned

Colors = npt.NDArray[np.uint8] | Sequence[Sequence[int]] | Mapping[int, Sequence[int]]

Box = tuple[slice, slice, slice]

# Millimetres around the brain: the scalp shows, so that missing or spilled-over tissue is seen
# against it.
_MARGIN = 12
# Extents in mm (right-left, posterior-anterior, inferior-superior) that a cut shows at least:
# where a segmentation lost half the brain, the picture must show the half that is missing.
_LEAST = (146, 180, 146)
_PIXELS_PER_MM = 2
_GAP = 18
_LETTER = (255, 214, 0)
_OUTLINE = (255, 221, 51)
_OUTLINE_PIXELS = 2
# Steps of the colours of uncertainty; more would make the picture larger.
_STEPS = 15
# Planes with less brain than this share of the largest section are its poles.
_FAIR = 0.25


@dataclass(frozen=True)
class Panel:
    """One cut in the picture.

    Parameters
    ----------
    plane : Plane
        Orientation of the cut.
    index : int
        Position along the plane's normal, in voxels of the RAS-ordered volume.
    box : tuple of int
        Left, top, right and bottom in the picture, in pixels.
    """

    plane: Plane
    index: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Mosaic:
    """The layers of a picture, all of one size.

    Parameters
    ----------
    scan : PIL.Image.Image
        RGB: a row each of axial, coronal and sagittal cuts, with letters.
    labels : PIL.Image.Image
        RGBA: labels in their colours, opaque; transparent where there is none.
    outline : PIL.Image.Image
        RGBA: the edge of the brain mask.
    uncertainty : PIL.Image.Image or None
        RGBA: entropy, transparent at 0.
    panels : tuple of Panel
        Position of each cut.
    """

    scan: Image.Image
    labels: Image.Image
    outline: Image.Image
    panels: tuple[Panel, ...]
    uncertainty: Image.Image | None = None


def compose_mosaic(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    colors: Colors,
    *,
    mask: npt.NDArray[np.integer] | None = None,
    uncertainty: npt.NDArray[np.floating] | None = None,
    voxel_size: float = 1.0,
) -> Mosaic:
    """Draw cuts through a segmentation.

    Parameters
    ----------
    image : ndarray of uint8, shape (X, Y, Z)
        The conformed scan, axes LIA (as `brainchop_bids.image.conform.conform` gives it).
    labels : ndarray of integer, shape (X, Y, Z)
        Its labels; 0 is background and stays transparent.
    colors : ndarray of uint8, shape (n, 3), or dict of int to (r, g, b)
        Colour of each label. A label without one is drawn in magenta.
    mask : ndarray of integer, shape (X, Y, Z), optional
        The brain, from which the positions of the cuts follow; labels above 0 by default.
    uncertainty : ndarray of float, shape (X, Y, Z), optional
        Entropy in nats; drawn in full from that of two equally likely labels.
    voxel_size : float, default 1.0
        Edge of a conformed voxel in mm.

    Returns
    -------
    Mosaic

    Raises
    ------
    ValueError
        If the arrays have different shapes or are not three-dimensional.
    """
    brain = labels if mask is None else mask
    if not image.ndim == 3 or not image.shape == labels.shape == brain.shape:
        raise ValueError(
            f'expected three volumes of one 3-D shape, got image {image.shape}, '
            f'labels {labels.shape}, mask {brain.shape}'
        )
    scan, segmentation, region = (lia_to_ras(array) for array in (image, labels, brain > 0))
    window, cut_box = _framing(scan, region, voxel_size)
    scale = max(1, round(_PIXELS_PER_MM * voxel_size))
    size, panels = _layout(window, _choose_cuts(region, cut_box), scale)
    grey = contrast(scan[window], region[window])
    cuts = [(panel, _cut(panel, window)) for panel in panels]
    picture = _draw_scan([(panel, grey[scan[cut]]) for panel, cut in cuts], size)
    indices = _draw_array([(panel, segmentation[cut]) for panel, cut in cuts], size, scale)
    edge = _draw_array([(panel, region[cut]) for panel, cut in cuts], size, scale, edges=True)
    overlay = Image.fromarray(_palette(colors, int(labels.max(initial=0)))[indices])
    outline = Image.fromarray(np.array([(0,) * 4, (*_OUTLINE, 255)], np.uint8)[edge.astype(int)])
    return Mosaic(
        picture,
        overlay,
        outline,
        tuple(panels),
        None if uncertainty is None else _draw_uncertainty(uncertainty, cuts, size, scale),
    )


def _draw_uncertainty(
    entropy: npt.NDArray[np.floating],
    cuts: Sequence[tuple[Panel, tuple[slice | int, ...]]],
    size: tuple[int, int],
    scale: int,
) -> Image.Image:
    """Draw entropy in steps from transparent to yellow."""
    values = lia_to_ras(entropy)
    parts = [
        (panel, np.rint(_STEPS * np.clip(values[cut] / np.log(2), 0, 1)).astype(np.uint8))
        for panel, cut in cuts
    ]
    level = np.arange(_STEPS + 1) / _STEPS
    palette = np.stack([np.ones_like(level), level, np.zeros_like(level), level], -1)
    colors = np.rint(255 * palette).astype(np.uint8)
    return Image.fromarray(colors[_draw_array(parts, size, scale)])


def _draw_scan(cuts: Sequence[tuple[Panel, npt.NDArray]], size: tuple[int, int]) -> Image.Image:
    """Draw cuts of the scan with the letters of their sides."""
    base = Image.new('L', size)
    for panel, cut in cuts:
        left, top, right, bottom = panel.box
        tile = Image.fromarray(turned(cut))
        pixels = (right - left, bottom - top)
        base.paste(tile.resize(pixels, Image.Resampling.BICUBIC), (left, top))
    picture = base.convert('RGB')
    for panel, _ in cuts:
        draw_letters(picture, panel.box, panel.plane.letters)
    return picture


def _draw_array(
    cuts: Sequence[tuple[Panel, npt.NDArray]],
    size: tuple[int, int],
    scale: int,
    *,
    edges: bool = False,
) -> npt.NDArray:
    """Put cuts of labels into one array of the picture's size, or their edges."""
    array = np.zeros(size[::-1], cuts[0][1].dtype)
    for panel, cut in cuts:
        left, top, right, bottom = panel.box
        tile = _enlarged(turned(cut), scale)
        array[top:bottom, left:right] = _edge(tile) if edges else tile
    return array


def _framing(
    scan: npt.NDArray[np.uint8], region: npt.NDArray[np.bool_], voxel_size: float
) -> tuple[Box, Box]:
    """Return the part of the volume that every cut shows, and the part that is cut."""
    head = head_box(scan, (4, 4, 4), multiple=1)
    brain = bounding_box(region)
    if brain is None:
        return head, head
    margin = round(_MARGIN / voxel_size)
    window, cut_box = [], []
    for axis, (inside, around) in enumerate(zip(brain, head, strict=True)):
        start = max(inside.start - margin, 0)
        stop = min(inside.stop + margin, scan.shape[axis])
        least = round(_LEAST[axis] / voxel_size)
        missing = min(least, scan.shape[axis]) - (stop - start)
        if missing > 0:
            start, stop = _widen(start, stop, missing, around, scan.shape[axis])
        window.append(slice(start, stop))
        tiny = inside.stop - inside.start < least // 2
        cut_box.append(slice(start, stop) if tiny else inside)
    return (window[0], window[1], window[2]), (cut_box[0], cut_box[1], cut_box[2])


def _widen(start: int, stop: int, missing: int, around: slice, size: int) -> tuple[int, int]:
    """Lengthen an interval by ``missing``, as far towards the middle of the head as it goes."""
    length = stop - start + missing
    centred = (around.start + around.stop - length) // 2
    begin = min(max(centred, stop - length), start)
    begin = min(max(begin, 0), size - length)
    return begin, begin + length


def _choose_cuts(region: npt.NDArray[np.bool_], box: Box) -> dict[int, list[int]]:
    """Spread the cuts of each plane over the part with enough of the brain."""
    inside = region[box]
    cuts = {}
    for plane in PLANES:
        others = tuple(axis for axis in range(3) if axis != plane.normal)
        areas = np.count_nonzero(inside, axis=others)
        fair = np.flatnonzero(areas >= _FAIR * max(areas.max(initial=0), 1))
        first, last = (fair[0], fair[-1]) if fair.size else (0, areas.size - 1)
        start = box[plane.normal].start
        places = np.linspace(start + first, start + last, plane.cuts)
        cuts[plane.normal] = [int(place) for place in np.rint(places)]
    return cuts


def _palette(colors: Colors, highest: int) -> npt.NDArray[np.uint8]:
    """Return the colour of every label up to ``highest``, RGBA; nothing for background."""
    palette = np.full((highest + 1, 4), (*UNKNOWN_COLOR, 255), np.uint8)
    pairs = colors.items() if isinstance(colors, Mapping) else enumerate(colors)
    for index, color in pairs:
        if 0 <= index <= highest:
            palette[index, :3] = color
    palette[0] = 0
    return palette


def _panel_size(plane: Plane, window: Box, scale: int) -> tuple[int, int]:
    """Width and height of a panel in pixels."""
    lengths = [part.stop - part.start for part in window]
    return lengths[plane.across] * scale, lengths[plane.up] * scale


def _layout(
    window: Box, cuts: Mapping[int, Sequence[int]], scale: int
) -> tuple[tuple[int, int], list[Panel]]:
    """Return the picture's size and the place of every cut: a row a plane, evenly spread."""
    rows = [(plane, _panel_size(plane, window, scale)) for plane in PLANES]
    width = max(plane.cuts * (size[0] + _GAP) for plane, size in rows)
    panels = []
    top = _GAP
    for plane, size in rows:
        for number, index in enumerate(cuts[plane.normal]):
            left = round((number + 0.5) * width / plane.cuts - size[0] / 2)
            panels.append(Panel(plane, index, (left, top, left + size[0], top + size[1])))
        top += size[1] + _GAP
    return (width, top), panels


def _cut(panel: Panel, window: Box) -> tuple[slice | int, ...]:
    """Index of a panel's voxels in the RAS-ordered volume."""
    where: list[slice | int] = list(window)
    where[panel.plane.normal] = panel.index
    return tuple(where)


def _enlarged(cut: npt.NDArray, scale: int) -> npt.NDArray:
    """Make every voxel a square of pixels: labels have no values in between."""
    return cut.repeat(scale, axis=0).repeat(scale, axis=1)


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the rim of a region, some pixels wide."""
    return inside & ~binary_erosion(inside, iterations=_OUTLINE_PIXELS)


def draw_letters(
    picture: Image.Image, box: tuple[int, int, int, int], letters: Sequence[str]
) -> None:
    """Write the letters of the four sides into the edges of a panel.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB, drawn on.
    box : tuple of int
        Left, top, right and bottom of the panel in pixels.
    letters : sequence of str
        For the left, right, top and bottom.
    """
    left, top, right, bottom = box
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    places = ((left + 3, middle_y), (right - 3, middle_y), (middle_x, top + 1), (middle_x, bottom))
    anchors = ('lm', 'rm', 'ma', 'md')
    draw = ImageDraw.Draw(picture)
    for sign, place, anchor in zip(letters, places, anchors, strict=True):
        draw.text(
            place, sign, _LETTER, _font(), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0)
        )


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow."""
    return ImageFont.load_default(30)
