"""Picture of a box around an organ, on projections of the scan."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw

from ...image.geometry import Geometry

# Longer side of each projection, pixels, and the space between them.
_SIDE, _SPACE = 320, 8
_COLOR = (255, 190, 40)


def draw_sector(
    data: np.ndarray, geometry: Geometry, box: Sequence[tuple[int, int]] | None
) -> Image.Image:
    """Draw a box on the largest intensities seen from the left, the front and above.

    Parameters
    ----------
    data : (X, Y, Z) array
        Intensities.
    geometry : Geometry
        Grid of the volume.
    box : sequence of 3 (int, int), optional
        First and last voxel along each axis, both included.

    Returns
    -------
    PIL.Image.Image
        RGB; anterior is left in the first projection, right is left in the others.
    """
    to_ras = nib.orientations.io_orientation(geometry.vox2ras)
    ras = nib.orientations.apply_orientation(data, to_ras)
    zooms = [float(geometry.zooms[np.flatnonzero(to_ras[:, 0] == n)[0]]) for n in range(3)]
    sides = None if box is None else _turned(box, to_ras, data.shape)
    scale = _SIDE / max(n * zoom for n, zoom in zip(ras.shape, zooms, strict=True))
    pictures = []
    for axis in range(3):
        across, up = [n for n in range(3) if n != axis]
        picture = _projection(ras.max(axis), (zooms[across] * scale, zooms[up] * scale))
        if sides is not None:
            _outline(picture, [sides[n] for n in (across, up)], ras.shape[across], ras.shape[up])
        pictures.append(picture)
    sheet = Image.new(
        'RGB',
        (sum(one.width for one in pictures) + 2 * _SPACE, max(one.height for one in pictures)),
    )
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, (sheet.height - picture.height) // 2))
        left += picture.width + _SPACE
    return sheet


def _turned(
    box: Sequence[tuple[int, int]], to_ras: np.ndarray, shape: Sequence[int]
) -> list[tuple[int, int]]:
    sides = [(0, 0)] * 3
    for (first, last), (to, sign), length in zip(box, to_ras, shape, strict=True):
        flipped = (length - 1 - last, length - 1 - first)
        sides[int(to)] = (first, last) if sign > 0 else flipped
    return sides


def _projection(plane: np.ndarray, scale: tuple[float, float]) -> Image.Image:
    """Return a plane whose axes advance to the right and up, mirrored left to right."""
    plane = np.nan_to_num(plane.astype(np.float32), nan=0, posinf=0, neginf=0)
    low, high = np.quantile(plane, (0.01, 0.995))
    grey = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1) * 255
    picture = Image.fromarray(grey.T[::-1, ::-1].astype(np.uint8))
    size = [max(1, round(n * factor)) for n, factor in zip(plane.shape, scale, strict=True)]
    return picture.resize((size[0], size[1]), Image.Resampling.BILINEAR).convert('RGB')


def _outline(
    picture: Image.Image, sides: Sequence[tuple[int, int]], columns: int, rows: int
) -> None:
    (first, last), (low, high) = sides
    x = [
        picture.width * (columns - 1 - last) / columns,
        picture.width * (columns - first) / columns,
    ]
    y = [picture.height * (rows - 1 - high) / rows, picture.height * (rows - low) / rows]
    ImageDraw.Draw(picture).rectangle((x[0], y[0], x[1] - 1, y[1] - 1), outline=_COLOR, width=2)
