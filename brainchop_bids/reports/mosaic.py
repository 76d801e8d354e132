"""A picture of a segmentation: cuts of the scan with its labels filled in, in three planes.

Sides follow nilearn, and so fMRIPrep's and MRIQC's pages: the participant's left is on the left
of the picture, anterior is right in sagittal cuts. Every cut carries the letters of its sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Colors = npt.NDArray[np.uint8] | Sequence[Sequence[int]] | Mapping[int, Sequence[int]]

Box = tuple[slice, slice, slice]

ALPHA = 0.4
# A label that the table does not know must be seen, not hidden.
UNKNOWN_COLOR = (255, 0, 255)
# Millimetres around the brain: the scalp shows, so that missing or spilled-over tissue is seen
# against it.
_MARGIN = 12
# Extents in mm (right-left, posterior-anterior, inferior-superior) that a cut shows at least:
# where a segmentation lost half the brain, the picture must show the half that is missing.
_LEAST = (146, 180, 146)
_PIXELS_PER_MM = 1.5
_GAP = 14
_LETTER = (255, 214, 0)


@dataclass(frozen=True)
class Plane:
    """How one plane is drawn.

    Parameters
    ----------
    name : str
        ``'axial'``, ``'coronal'`` or ``'sagittal'``.
    normal, across, up : int
        Axes of the RAS-ordered volume: through the plane, left to right, bottom to top.
    cuts : int
        How many cuts are shown.
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


@dataclass(frozen=True)
class Panel:
    """One cut in the picture.

    Parameters
    ----------
    plane : Plane
        Which plane.
    index : int
        Where the cut lies along the plane's normal, in voxels of the RAS-ordered volume.
    box : tuple of int
        Left, top, right and bottom in the picture, in pixels.
    """

    plane: Plane
    index: int
    box: tuple[int, int, int, int]


def render_mosaic(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    colors: Colors,
    path: str | Path,
    *,
    mask: npt.NDArray[np.integer] | None = None,
    voxel_size: float = 1.0,
) -> Path:
    """Write the mosaic of a segmentation as one WebP file.

    Parameters
    ----------
    image : ndarray of uint8, shape (X, Y, Z)
        The conformed scan, axes LIA (as `brainchop_bids.image.conform.conform` gives it).
    labels : ndarray of integer, shape (X, Y, Z)
        Its labels; 0 is background and stays uncoloured.
    colors : ndarray of uint8, shape (n, 3), or dict of int to (r, g, b)
        Colour of each label. A label without one is drawn in magenta.
    path : str or Path
        Where to; the name should end in ``.webp``.
    mask : ndarray of integer, shape (X, Y, Z), optional
        The brain, which decides where to cut; labels above 0 by default.
    voxel_size : float, default 1.0
        Edge of a conformed voxel in mm.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If the arrays have different shapes or are not three-dimensional.
    OSError
        If the file cannot be written.
    """
    picture, _ = compose_mosaic(image, labels, colors, mask=mask, voxel_size=voxel_size)
    # The enlarged cuts hold little that a higher quality would keep; it doubles the size at 90.
    picture.save(path, format='WEBP', quality=60, method=3)
    return Path(path)


def compose_mosaic(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    colors: Colors,
    *,
    mask: npt.NDArray[np.integer] | None = None,
    voxel_size: float = 1.0,
) -> tuple[Image.Image, tuple[Panel, ...]]:
    """Draw the mosaic that `render_mosaic` writes.

    Parameters
    ----------
    image, labels, colors, mask, voxel_size
        As in `render_mosaic`.

    Returns
    -------
    picture : PIL.Image.Image
        RGB picture with a row each of axial, coronal and sagittal cuts.
    panels : tuple of Panel
        Where each cut lies in it.

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
    scan, overlay, region = (_lia_to_ras(array) for array in (image, labels, brain > 0))
    window, cut_box = _framing(scan, region, voxel_size)
    cuts = _choose_cuts(region, cut_box)
    grey = _contrast(scan, region, window)
    palette = _palette(colors, int(labels.max(initial=0)))

    picture, panels = _layout(window, cuts, voxel_size)
    for panel in panels:
        where = _cut(panel, window)
        tile = Image.fromarray(_blend(grey[scan[where]], overlay[where], palette).copy())
        # Colours are mixed before they are enlarged: label borders come out smooth.
        size = (panel.box[2] - panel.box[0], panel.box[3] - panel.box[1])
        picture.paste(tile.resize(size, Image.Resampling.BICUBIC), panel.box[:2])
        _letter(picture, panel)
    return picture, panels


def _lia_to_ras(array: npt.NDArray) -> npt.NDArray:
    """View an LIA volume with its axes towards right, anterior and superior."""
    return array[::-1, ::-1, :].transpose(0, 2, 1)


def _framing(
    scan: npt.NDArray[np.uint8], region: npt.NDArray[np.bool_], voxel_size: float
) -> tuple[Box, Box]:
    """Return the part of the volume that every cut shows, and the part that is cut."""
    head = _head_box(scan)
    brain = _extent(region)
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


def _head_box(scan: npt.NDArray[np.uint8]) -> Box:
    """Box of the head: planes of which at least a fiftieth is brighter than air."""
    coarse = scan[::2, ::2, ::2]
    bright = coarse > max(0.15 * float(np.percentile(coarse, 99)), 1)
    box = []
    for axis, size in enumerate(scan.shape):
        share = bright.mean(axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(share > 0.02)
        if not planes.size:
            return (slice(0, scan.shape[0]), slice(0, scan.shape[1]), slice(0, scan.shape[2]))
        start, stop = 2 * int(planes[0]) - 4, 2 * int(planes[-1]) + 6
        box.append(slice(max(start, 0), min(stop, size)))
    return box[0], box[1], box[2]


def _extent(region: npt.NDArray[np.bool_]) -> Box | None:
    """Box around the true voxels, or None."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(region.any(axis=others))
        if not planes.size:
            return None
        box.append(slice(int(planes[0]), int(planes[-1]) + 1))
    return box[0], box[1], box[2]


def _choose_cuts(region: npt.NDArray[np.bool_], box: Box) -> dict[int, list[int]]:
    """Spread the cuts of each plane over the planes that hold a fair piece of the brain."""
    # Matplotlib comes with it: only a process that draws should pay for that.
    from nireports.reportlets.utils import cuts_from_bbox

    # Its thresholds are shares of a whole plane, so it must see the brain's own box; an empty
    # mask makes it spread the cuts over the box.
    mask = nib.Nifti1Image(region[box].astype(np.uint8), np.eye(4))
    starts = [part.start for part in box]
    cuts = {}
    for plane in PLANES:
        found = cuts_from_bbox(mask, cuts=plane.cuts)['xyz'[plane.normal]]
        cuts[plane.normal] = [starts[plane.normal] + round(cut) for cut in found]
    return cuts


def _contrast(
    scan: npt.NDArray[np.uint8],
    region: npt.NDArray[np.bool_],
    window: Box,
) -> npt.NDArray[np.uint8]:
    """Return a table from intensity to grey that spends the range on the brain."""
    sparse = tuple(slice(part.start, part.stop, 2) for part in window)
    values = scan[sparse]
    brain = values[region[sparse]]
    inside = brain if brain.size > 1000 else values[values > 0]
    low = float(np.percentile(values, 2))
    high = float(np.percentile(inside, 99.5)) if inside.size else 255.0
    span = max(high - low, 1.0)
    return np.clip((np.arange(256) - low) / span * 255, 0, 255).astype(np.uint8)


def _palette(colors: Colors, highest: int) -> npt.NDArray[np.float32]:
    """Return the colour of every label up to ``highest``, shape (highest + 1, 3)."""
    palette = np.full((highest + 1, 3), UNKNOWN_COLOR, np.float32)
    pairs = colors.items() if isinstance(colors, Mapping) else enumerate(colors)
    for index, color in pairs:
        if 0 <= index <= highest:
            palette[index] = color
    return palette


def _panel_size(plane: Plane, window: Box, voxel_size: float) -> tuple[int, int]:
    """Width and height of a panel in pixels."""
    scale = _PIXELS_PER_MM * voxel_size
    lengths = [part.stop - part.start for part in window]
    return round(lengths[plane.across] * scale), round(lengths[plane.up] * scale)


def _layout(
    window: Box, cuts: Mapping[int, Sequence[int]], voxel_size: float
) -> tuple[Image.Image, tuple[Panel, ...]]:
    """Return an empty picture and the place of every cut: a row a plane, evenly spread."""
    sizes = [_panel_size(plane, window, voxel_size) for plane in PLANES]
    rows = list(zip(PLANES, sizes, strict=True))
    width = max(plane.cuts * (size[0] + _GAP) for plane, size in rows)
    panels = []
    top = _GAP
    for plane, size in rows:
        for number, index in enumerate(cuts[plane.normal]):
            left = round((number + 0.5) * width / plane.cuts - size[0] / 2)
            panels.append(Panel(plane, index, (left, top, left + size[0], top + size[1])))
        top += size[1] + _GAP
    return Image.new('RGB', (width, top)), tuple(panels)


def _cut(panel: Panel, window: Box) -> tuple[slice | int, ...]:
    """Index of a panel's voxels in the RAS-ordered volume."""
    where: list[slice | int] = list(window)
    where[panel.plane.normal] = panel.index
    return tuple(where)


def _blend(
    grey: npt.NDArray[np.uint8], labels: npt.NDArray, palette: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Lay colours over a cut, and turn it: rows from top to bottom, columns left to right."""
    base = np.repeat(grey[..., None], 3, axis=2)
    found = labels > 0
    mixed = (1 - ALPHA) * base[found] + ALPHA * palette[labels[found]]
    base[found] = np.rint(mixed).astype(np.uint8)
    # What is left of the RAS axes stands in the order (across, up) in all three planes.
    return base.transpose(1, 0, 2)[::-1]


def _letter(picture: Image.Image, panel: Panel) -> None:
    """Write the letters of the four sides into the edges of a panel."""
    left, top, right, bottom = panel.box
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    places = ((left + 3, middle_y), (right - 3, middle_y), (middle_x, top + 1), (middle_x, bottom))
    anchors = ('lm', 'rm', 'ma', 'md')
    draw = ImageDraw.Draw(picture)
    for letter, place, anchor in zip(panel.plane.letters, places, anchors, strict=True):
        draw.text(
            place, letter, _LETTER, _font(), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0)
        )


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow."""
    return ImageFont.load_default(24)
