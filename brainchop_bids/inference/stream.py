"""Chains of convolutions, computed slab by slab in the memory of one layer.

Each layer is computed exactly, and no voxel twice: a slab of a layer's output needs a few planes
of its input on either side. All planes are in one array that is slightly longer than the volume.
A layer reads the volume at one end of the array and writes its result towards the other end,
over planes that are no longer needed, so that input and output share the memory; the next layer
works in the opposite direction. If only a part of the result is needed, each layer is computed
only as far as this part depends on it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .layers import ALIGNMENT, Layers, slab_rows, slabs
from .margins import Pass, lengths, passes_of
from .steps import Step
from .tiles import Box, full


class StreamedChain:
    """A chain of steps that is computed on volumes.

    Parameters
    ----------
    layers : Layers
        Computes single layers.
    steps : sequence of Step
        Steps as `streamable_steps` returns them.

    Attributes
    ----------
    keeps_memory : bool
        True to keep the memory for the next volume, which then overwrites the features of the
        previous one. Allocating it again can take as long as the arithmetic.
    """

    def __init__(self, layers: Layers, steps: Sequence[Step]) -> None:
        self.layers = layers
        self.steps = steps
        self.keeps_memory = False
        self._kept: np.ndarray | None = None

    def features(self, volume: Any, keep: Box | None = None) -> np.ndarray:
        """Compute the output of the last step.

        Parameters
        ----------
        volume : (X, Y, Z, Cin) float32 array
            The normalised input, or an object that returns such an array for a tuple of slices.
        keep : tuple of 3 slice, optional
            The part of the result that is needed; by default all.

        Returns
        -------
        (X, Y, Z, Cout) array of the layers' type
            Features of this part.
        """
        keep = full(self.made(volume.shape)) if keep is None else keep
        if not self.steps:
            part: np.ndarray = volume[keep]
            return part
        passes = passes_of(self.steps, volume.shape, keep)
        first = passes[0]
        memory = _Memory(first.padded * first.given, np.dtype(np.float32))
        source = memory.low(first.zeros[0], (*lengths(first.source), volume.shape[-1]))
        source[:] = volume[first.source]
        upwards = False
        for place, each in enumerate(passes):
            planes, upwards = memory.around(source, *each.zeros), not upwards
            # Output planes that are larger than the input's cannot be written over them.
            if self._begins(each, place):
                size, dtype = self._size(passes[place:]), self.layers.dtype
                memory = _Memory(size, dtype, None if place else self._take(size, dtype))
                upwards = False
            zeros = passes[place + 1].zeros if place + 1 < len(passes) else (0, 0)
            shape = (*lengths(each.result), each.step.kernel.shape[-1])
            source = memory.high(zeros[1], shape) if upwards else memory.low(zeros[0], shape)
            self._convolve(each, planes, source, upwards=upwards)
        made = passes[-1].result
        x, y, z = (
            slice(part.start - side.start, part.stop - side.start)
            for part, side in zip(keep, made, strict=True)
        )
        return source[x, y, z]

    @staticmethod
    def _begins(each: Pass, place: int) -> bool:
        """Return True if the result of a step needs memory of its own."""
        return not place or each.made > each.given or not each.step.keeps_grid

    def made(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape of the features of a volume."""
        x, y, z = shape[:3]
        for step in self.steps:
            x, y, z = step.made((x, y, z))
        return x, y, z

    def reserve(self, shape: Sequence[int]) -> None:
        """Allocate the memory for a volume in advance, if memory is kept.

        Parameters
        ----------
        shape : sequence of 3 int
            Shape of the volume.
        """
        if self.steps:
            passes = passes_of(self.steps, shape, full(self.made(shape)))
            kept = self._take(self._size(passes), self.layers.dtype)
            if kept is not None:
                # The system allocates memory when it is first written to.
                kept.fill(0)

    def _take(self, size: int, dtype: np.dtype) -> np.ndarray | None:
        """Return kept memory, or allocate slightly more than needed and keep it."""
        if not self.keeps_memory:
            return None
        if self._kept is None or self._kept.size < size:
            self._kept = None
            # Pages that are never written to take no memory.
            self._kept = aligned(size + size // 6, dtype)
        return self._kept[:size]

    def _size(self, passes: Sequence[Pass]) -> int:
        """Return the number of values that the passes need which share one memory."""
        size = 0
        for place, (each, following) in enumerate(zip(passes, [*passes[1:], None], strict=True)):
            if place and self._begins(each, place):
                break
            zeros, planes = (
                (0, each.count) if following is None else (max(following.zeros), following.padded)
            )
            size = max(size, planes * each.made)
            if place:
                # Output planes are beside the input planes.
                rows = slab_rows(lengths(each.result), each.width, self.layers.slab_bytes)
                size = max(size, each.padded * each.given + (rows + zeros) * each.made)
        return size

    def _convolve(
        self, each: Pass, planes: np.ndarray, result: np.ndarray, *, upwards: bool
    ) -> None:
        step = each.step
        # For moments no voxel may be counted twice.
        once = step.epsilon is not None
        coarse = (result.shape[0] // step.up, *result.shape[1:])
        order = [
            slice(rows.start * step.up, rows.stop * step.up)
            for rows in slabs(coarse, each.width * step.up, self.layers.slab_bytes, once=once)
        ]
        total = _Moments(result.shape[-1])
        # The result overwrites planes that have already been used.
        for rows in reversed(order) if upwards else order:
            blocks, dilation = self._blocks(step, planes, rows)
            out = result[rows]
            moments = self.layers.convolve(step, blocks, dilation, each.padding, out)
            if moments is not None:
                total.add(*moments, out.shape[:3])
        if step.epsilon is not None:
            self._normalise(step, result, total, step.epsilon)

    def _blocks(self, step: Step, planes: np.ndarray, rows: slice) -> tuple[list[np.ndarray], int]:
        """Return the input planes that a slab needs, and the dilation along x within them.

        If the dilation is wider than the slab, planes between the elements of the kernel are not
        needed. They are left out if that is faster.
        """
        if not step.keeps_grid:
            first, last = (n * step.stride // step.up for n in (rows.start, rows.stop - 1))
            return [planes[first : last + 1 + sum(step.margins[0])]], 1
        dilation, count = step.dilation[0], rows.stop - rows.start
        if not self.layers.picks_planes or count >= dilation or step.kernel.shape[0] == 1:
            return [planes[rows.start : rows.stop + sum(step.margins[0])]], dilation
        starts = [rows.start + i * dilation for i in range(step.kernel.shape[0])]
        return [planes[i : i + count] for i in starts], count

    def _normalise(
        self, step: Step, volume: np.ndarray, moments: '_Moments', epsilon: float
    ) -> None:
        scale = 1 / np.sqrt(moments.variance + epsilon)
        scale = scale if step.gamma is None else scale * step.gamma
        shift = -moments.mean * scale + (0 if step.beta is None else step.beta)
        factor, term = scale.astype(np.float32), shift.astype(np.float32)
        for rows in slabs(volume.shape[:3], volume.shape[-1], self.layers.slab_bytes, once=True):
            self.layers.normalise(step, volume[rows], factor, term)


def aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """Return an empty array whose address is aligned for vector instructions."""
    raw = np.empty(size + ALIGNMENT // dtype.itemsize, dtype)
    offset = -raw.ctypes.data % ALIGNMENT // dtype.itemsize
    return raw[offset : offset + size]


class _Memory:
    """A flat array that holds a volume at its beginning or at its end.

    Parameters
    ----------
    size : int
        Number of values.
    dtype : dtype
        Type of the values.
    values : array, optional
        Existing memory to use.
    """

    def __init__(self, size: int, dtype: np.dtype, values: np.ndarray | None = None) -> None:
        self._values = aligned(size, dtype) if values is None else values
        self._start = 0

    def low(self, zeros: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return a volume at the beginning, after a number of planes of zeros."""
        self._start = zeros * math.prod(shape[1:])
        return self._volume(self._start, shape)

    def high(self, zeros: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return a volume at the end, before a number of planes of zeros."""
        size = self._values.size
        self._start = size - (shape[0] + zeros) * math.prod(shape[1:])
        return self._volume(self._start, shape)

    def _volume(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        return self._values[start : start + math.prod(shape)].reshape(shape)

    def around(self, volume: np.ndarray, before: int, after: int) -> np.ndarray:
        """Return the last volume with planes of zeros on either side."""
        plane = math.prod(volume.shape[1:])
        length = volume.shape[0]
        shape = (before + length + after, *volume.shape[1:])
        planes = self._volume(self._start - before * plane, shape)
        planes[:before] = 0
        planes[before + length :] = 0
        return planes


class _Moments:
    """Mean and variance of each channel over slabs of any size.

    Pairwise update of Chan, Golub and LeVeque, in double precision:
    https://doi.org/10.1007/978-3-642-51461-6_3.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.variance = np.zeros(channels)

    def add(self, mean: np.ndarray, variance: np.ndarray, shape: Sequence[int]) -> None:
        count = int(np.prod(shape, dtype=np.int64))
        share = count / (self.count + count)
        difference = mean - self.mean
        self.variance += share * (variance - self.variance)
        self.variance += share * (1 - share) * difference**2
        self.mean += share * difference
        self.count += count
