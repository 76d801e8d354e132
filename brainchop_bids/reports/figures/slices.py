"""Scan and labels for the viewer of a page: all axial slices of the head, compressed.

The scan becomes one WebP picture with its slices side by side, as contact sheets have them; the
labels, which must stay exact, become compressed bytes of the same box.
"""

import gzip
import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...image.head import head_box
from .planes import contrast, lia_to_ras

# WebP qualities; a higher first one doubles the size of a page.
_QUALITIES = (50, 25, 10)
# Noise does not compress: quality is lowered until the picture has at most this size.
_MOST_BYTES = 1_500_000
_COARSE = 4
# Limit of WebP.
_MOST_PIXELS = 16383
_MARGIN = 2


@dataclass(frozen=True)
class SliceGrid:
    """Grid of the slices in a viewer.

    Parameters
    ----------
    shape : tuple of int
        Voxels towards right, anterior and superior.
    columns : int
        Slices in one row of the picture; the lowest slice is the first.
    step : int
        Conformed voxels per voxel of this grid, along each axis.
    affine : tuple of tuple of float
        Three rows: from a voxel of this grid to millimetres towards right, anterior and superior.
    """

    shape: tuple[int, int, int]
    columns: int
    step: int
    affine: tuple[tuple[float, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what a page needs, for JSON."""
        return asdict(self)


def slice_scan(
    image: npt.NDArray[np.uint8], affine: npt.NDArray[np.floating]
) -> tuple[SliceGrid, bytes]:
    """Make the picture of all slices of a head.

    Parameters
    ----------
    image : ndarray of uint8, shape (X, Y, Z)
        The conformed scan, axes LIA.
    affine : ndarray of float, shape (4, 4)
        From its voxels to millimetres.

    Returns
    -------
    grid : SliceGrid
        Of what is shown: the head, and only every second voxel of volumes too large for a
        picture.
    picture : bytes
        A WebP file.
    """
    box, step = _viewed(image)
    head = _ras(image, box, step)
    columns, rows = _sheet_shape(head.shape)
    grey = contrast(head, np.zeros(head.shape, bool))
    right, up, slices = head.shape
    sheet = np.zeros((rows * columns, up, right), np.uint8)
    sheet[:slices] = grey[head].transpose(2, 1, 0)[:, ::-1]
    picture = sheet.reshape(rows, columns, up, right).swapaxes(1, 2)
    content = _encode(picture.reshape(rows * up, columns * right))
    return SliceGrid(
        (right, up, slices), columns, step, _affine(image, affine, box, step)
    ), content


def slice_labels(image: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer]) -> bytes:
    """Compress the labels of what `slice_scan` shows.

    Parameters
    ----------
    image, labels : ndarray, shape (X, Y, Z)
        The conformed scan, axes LIA, and its labels.

    Returns
    -------
    bytes
        Gzip of one byte a voxel, or two (the lower one first) where labels are above 255; the
        axis towards the right runs fastest, then anterior, then superior.
    """
    box, step = _viewed(image)
    dtype = np.uint8 if labels.max(initial=0) < 256 else np.dtype('<u2')
    viewed = _ras(labels, box, step).transpose(2, 1, 0)
    return gzip.compress(np.ascontiguousarray(viewed, dtype=dtype).tobytes(), 6, mtime=0)


def _viewed(image: npt.NDArray[np.uint8]) -> tuple[tuple[slice, slice, slice], int]:
    """Return the box of the head and the step between voxels that are shown."""
    box = head_box(image, (_MARGIN,) * 3, multiple=1)
    lengths = [part.stop - part.start for part in box]
    step = 1
    while max(_pixels([-(-length // step) for length in lengths])) > _MOST_PIXELS:
        step += 1
    return box, step


def _pixels(lengths: list[int]) -> tuple[int, int]:
    """Return width and height of the picture of a box of an LIA volume."""
    right, slices, up = lengths[0], lengths[1], lengths[2]
    columns, rows = _sheet_shape((right, up, slices))
    return columns * right, rows * up


def _sheet_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return columns and rows that make a picture about square."""
    right, up, slices = shape
    columns = max(1, min(slices, round((slices * up / right) ** 0.5)))
    return columns, -(-slices // columns)


def _ras(array: npt.NDArray, box: tuple[slice, ...], step: int) -> npt.NDArray:
    return lia_to_ras(array[box])[::step, ::step, ::step]


def _affine(
    image: npt.NDArray, affine: npt.NDArray[np.floating], box: tuple[slice, ...], step: int
) -> tuple[tuple[float, ...], ...]:
    """Return the affine of the box as `_ras` turns it."""
    x, y, z = box
    # Axes of the turned box are -x, z and -y of the volume; it begins at their upper ends.
    turn = np.zeros((4, 4))
    turn[:, 3] = (x.stop - 1, y.stop - 1, z.start, 1)
    turn[0, 0], turn[1, 2], turn[2, 1] = -step, -step, step
    rows = (np.asarray(affine, dtype=float) @ turn)[:3]
    return tuple(tuple(round(float(value), 5) for value in row) for row in rows)


def _encode(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode a WebP file with the best quality that fits."""
    image = Image.fromarray(picture)
    content = b''
    for quality in (*_QUALITIES, 0):
        if not quality:
            coarse = image.reduce(_COARSE)
            image, quality = coarse.resize(image.size), _QUALITIES[-1]
        buffer = io.BytesIO()
        image.save(buffer, format='WEBP', quality=quality, method=2)
        content = buffer.getvalue()
        if len(content) <= _MOST_BYTES:
            break
    return content
