"""Frames of a volume, shrunk to the few pixels that a localiser sees."""

from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from ...image.sampling import for_each

# Pixels of a frame along each axis.
SIDE = 64
# Voxels that a pixel averages along each axis; more would not change it.
_SAMPLES = 4
# Frames closer than this, mm, are averaged: each pixel of a head is 3 to 5 mm.
_SPACING = 2.0
# Frames in a chunk, so that its float32 copy stays in the cache.
_CHUNK = 16


@dataclass(frozen=True)
class Axis:
    """Position of pixels along one axis of a volume.

    Parameters
    ----------
    length : int
        Number of voxels.
    size : float
        Voxel size, mm.
    pixel : float
        Size of a pixel, mm.
    """

    length: int
    size: float
    pixel: float

    def to_voxel(self, place: float) -> float:
        """Return the voxel coordinate of a pixel coordinate; whole numbers are centres."""
        offset = (place + 0.5 - SIDE / 2) * self.pixel
        return offset / self.size + (self.length - 1) / 2

    def weights(self) -> tuple[slice, np.ndarray]:
        """Return the voxels that are used, and their weights in each pixel.

        Returns
        -------
        voxels : slice
            Every n-th voxel.
        weights : (64, n) float32
            Overlap of pixels and voxels; the sum over voxels is 1, or less where a pixel extends
            beyond the volume.
        """
        step = max(1, int(self.pixel / self.size / _SAMPLES))
        first = (step - 1) // 2
        used = np.arange(first, self.length, step)
        middle = (used - (self.length - 1) / 2) * self.size / self.pixel + SIDE / 2
        half = self.size * step / self.pixel / 2
        low, high = middle - half, middle + half
        pixels = np.arange(SIDE)[:, None]
        overlap = np.minimum(high, pixels + 1) - np.maximum(low, pixels)
        weights = np.clip(overlap, 0, None).astype(np.float32)
        return slice(first, None, step), weights


@dataclass(frozen=True)
class Frames:
    """All frames of a volume along one axis.

    Parameters
    ----------
    axis : int
        Axis across the frames.
    images : (n, 64, 64) float32
        Mean intensities; rows and columns are the other two axes in their order. The field of
        view is in the middle of the frame, and 0 beyond it.
    rows, columns : Axis
        Position of the pixels.
    """

    axis: int
    images: np.ndarray
    rows: Axis
    columns: Axis

    def spaced(self, zoom: float) -> 'Frames':
        """Average frames that are closer than 2 mm.

        Parameters
        ----------
        zoom : float
            Distance of the frames, mm.

        Returns
        -------
        Frames
            Evenly spaced over the same field of view.
        """
        count = len(self.images)
        fewer = max(1, round(count * zoom / _SPACING))
        if fewer >= count:
            return self
        weights = interpolation(count, zoom, fewer, count * zoom / fewer)
        return replace(self, images=np.tensordot(weights, self.images, 1))


def shrink(data: np.ndarray, zooms: tuple[float, ...], axis: int, threads: int = 1) -> Frames:
    """Shrink all frames along an axis to 64 x 64 pixels.

    Pixels are square in mm; the longer side of a frame fills it. Each is the mean of the voxels
    that it covers, of at most some 4 x 4 evenly spaced ones.

    Parameters
    ----------
    data : (X, Y, Z) array
        Intensities of any type; not-a-number and infinite ones count as 0.
    zooms : tuple of 3 float
        Voxel sizes, mm.
    axis : int
        Axis across the frames.
    threads : int
        Number of threads.

    Returns
    -------
    Frames
    """
    others = [n for n in range(3) if n != axis]
    pixel = max(data.shape[n] * zooms[n] for n in others) / SIDE
    places = [Axis(data.shape[n], float(zooms[n]), pixel) for n in others]
    (rows, by_row), (columns, by_column) = (place.weights() for place in places)
    frames = np.moveaxis(data, axis, 0)[:, rows, columns]
    images = np.empty((data.shape[axis], SIDE, SIDE), np.float32)
    # Read along the memory: where rows are closer than columns, transpose.
    turned = abs(frames.strides[1]) < abs(frames.strides[2])
    exact = np.issubdtype(data.dtype, np.integer) or data.dtype == bool

    def work(number: int) -> None:
        part = slice(number * _CHUNK, (number + 1) * _CHUNK)
        chunk = _contiguous(frames[part], turned)
        if not exact:
            np.nan_to_num(chunk, copy=False, nan=0, posinf=0, neginf=0)
        first, second = (by_column, by_row) if turned else (by_row, by_column)
        small = first @ (chunk @ second.T)
        images[part] = small.swapaxes(1, 2) if turned else small

    # BLAS would start threads of its own for each of thousands of small products.
    with threadpool_limits(1):
        for_each(work, -(-len(frames) // _CHUNK), threads)
    return Frames(axis, images, places[0], places[1])


def _contiguous(chunk: np.ndarray, turned: bool) -> np.ndarray:
    """Return frames as float32, copied in the order of their memory."""
    order = (0, 2, 1) if turned else (0, 1, 2)
    return np.array(chunk.transpose(order), np.float32, order='C', copy=True)


def interpolation(count: int, size: float, cells: int, cell: float) -> np.ndarray:
    """Return the weights of linear interpolation between two centred grids on a line.

    Parameters
    ----------
    count, cells : int
        Number of places in the source and in the target.
    size, cell : float
        Their distances, mm. If the cells are the larger ones, they are weighted means.

    Returns
    -------
    (cells, count) float32
    """
    source, target = (
        (np.arange(n) + 0.5 - n / 2) * step for n, step in ((count, size), (cells, cell))
    )
    weights = np.clip(1 - np.abs(target[:, None] - source) / max(size, cell), 0, None)
    weights /= weights.sum(1, keepdims=True)
    return weights.astype(np.float32)
