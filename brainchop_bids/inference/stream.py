"""A chain of convolutions over a volume, slab by slab, in the memory of one layer.

Each layer is computed exactly, and no voxel twice: a slab of a layer's output needs a few planes
of its input on either side. The planes lie in one array that is longer than the volume. A layer
reads the volume at one place of it and writes its result further on, over what is no longer
needed, so that input and output share the memory; the next layer goes the other way.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from .plan import Head, Step

ALIGNMENT = 64
Moments = tuple[np.ndarray, np.ndarray]


class Layers(ABC):
    """Computes single layers on slabs, channels last: an engine's part of a stream.

    Attributes
    ----------
    slab_bytes : int
        Of the output of one slab.
    dtype : dtype
        Of features; what it stands for is the engine's own affair.
    picks_planes : bool
        Whether planes between the elements of a dilated kernel are better left out.
    """

    slab_bytes: int
    dtype: np.dtype = np.dtype(np.float32)
    picks_planes: bool = False

    @abstractmethod
    def convolve(
        self, step: Step, blocks: Sequence[np.ndarray], dilation: int, out: np.ndarray
    ) -> Moments | None:
        """Compute a convolution and, where nothing normalises in between, its activations.

        Parameters
        ----------
        step : Step
            The layer.
        blocks : sequence of (X, Y, Z, Cin) array
            Planes that follow each other.
        dilation : int
            Along x among them.
        out : (X, Y, Z, Cout) array
            Is filled.

        Returns
        -------
        tuple of (Cout,) array or None
            Mean and variance of each channel where the step normalises.
        """

    @abstractmethod
    def normalise(
        self, step: Step, block: np.ndarray, factor: np.ndarray, term: np.ndarray
    ) -> None:
        """Multiply, add and activate in place, each channel on its own."""

    @abstractmethod
    def head(self, head: Head, block: np.ndarray, kinds: tuple[str, ...]) -> list[np.ndarray]:
        """Return ``labels`` (X, Y, Z), ``probabilities`` or ``logits`` (X, Y, Z, classes)."""


def slabs(
    shape: Sequence[int], channels: int, nbytes: int, *, once: bool = False
) -> Iterator[slice]:
    """Cut the first axis of a float32 volume into slices of at most so many bytes.

    All have the same size, since each size is compiled on its own: where need be the last one
    begins within the one before it, unless each voxel may come but ``once``.
    """
    rows = slab_rows(shape, channels, nbytes)
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield slice(start if once else stop - rows, stop)


def slab_rows(shape: Sequence[int], channels: int, nbytes: int) -> int:
    """Return the planes of a slab of at most so many bytes."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64))) * channels * 4
    most = min(shape[0], max(1, nbytes // plane))
    # As few as this where that leaves no rest.
    for rows in range(most, most // 2, -1):
        if shape[0] % rows == 0:
            return rows
    return -(-shape[0] // -(-shape[0] // most))


class StreamedChain:
    """Runs the steps of `streamable_steps` on volumes.

    Parameters
    ----------
    layers : Layers
        What computes.
    steps : sequence of Step
        The network's hidden part.
    """

    def __init__(self, layers: Layers, steps: Sequence[Step]) -> None:
        self.layers = layers
        self.steps = steps

    def features(self, volume: np.ndarray) -> np.ndarray:
        """Compute what the last step gives.

        Parameters
        ----------
        volume : (X, Y, Z, Cin) float32
            The normalised input; left as it is.

        Returns
        -------
        (X, Y, Z, Cout) array of the layers' type
        """
        if not self.steps:
            return volume
        halo = max(max(step.margins[0]) for step in self.steps)
        # What is written lies beside what is read. One more than needed where no step looks
        # aside: a band has two different places.
        shift = halo + max(self._rows(step, volume.shape) for step in self.steps)
        band = _Band(volume.shape, halo, shift, np.dtype(np.float32))
        band.volume[:] = volume
        for step in self.steps:
            shape = (*band.shape, step.kernel.shape[-1])
            like = shape[-1] == band.planes.shape[-1] and band.planes.dtype == self.layers.dtype
            result = band if like else _Band(shape, halo, shift, self.layers.dtype)
            self._convolve(step, band, result)
            band = result
        return band.volume

    def _rows(self, step: Step, shape: Sequence[int]) -> int:
        return slab_rows(shape[:3], max(step.kernel.shape[3:]), self.layers.slab_bytes)

    def _convolve(self, step: Step, source: '_Band', result: '_Band') -> None:
        source.clear(*step.margins[0])
        start, target = source.start, result.other if result is source else result.start
        width = max(step.kernel.shape[3:])
        # Moments must not count a voxel twice.
        once = step.epsilon is not None
        order = list(slabs(source.shape, width, self.layers.slab_bytes, once=once))
        total = _Moments(step.kernel.shape[-1])
        # The result moves towards the planes that the slabs have already left behind.
        for rows in order if target <= start else reversed(order):
            blocks, dilation = self._blocks(step, source, rows)
            out = result.planes[target + rows.start : target + rows.stop]
            moments = self.layers.convolve(step, blocks, dilation, out)
            if moments is not None:
                total.add(*moments, out.shape[:3])
        result.start = target
        if step.epsilon is not None:
            self._normalise(step, result.volume, total, step.epsilon)

    def _blocks(self, step: Step, source: '_Band', rows: slice) -> tuple[list[np.ndarray], int]:
        """Return the input planes a slab needs, and the dilation along x among them.

        Where the dilation is wider than the slab, the planes in between are of no use: only
        those that meet one element of the kernel each are taken, if that is the quicker way.
        """
        (before, after), dilation = step.margins[0], step.dilation[0]
        first, count = source.start + rows.start - before, rows.stop - rows.start
        if not self.layers.picks_planes or count >= dilation or step.kernel.shape[0] == 1:
            return [source.planes[first : first + before + count + after]], dilation
        starts = [first + i * dilation for i in range(step.kernel.shape[0])]
        return [source.planes[i : i + count] for i in starts], count

    def _normalise(
        self, step: Step, volume: np.ndarray, moments: '_Moments', epsilon: float
    ) -> None:
        scale = 1 / np.sqrt(moments.variance + epsilon)
        factor, term = scale.astype(np.float32), (-moments.mean * scale).astype(np.float32)
        for rows in slabs(volume.shape[:3], volume.shape[-1], self.layers.slab_bytes, once=True):
            self.layers.normalise(step, volume[rows], factor, term)


class _Band:
    """A volume somewhere in a longer array of planes.

    Parameters
    ----------
    shape : (X, Y, Z, C)
        Of the volume.
    halo : int
        The most planes that a step needs on either side.
    shift : int
        How far the volume moves.
    dtype : dtype
        Of its values.
    """

    def __init__(self, shape: Sequence[int], halo: int, shift: int, dtype: np.dtype) -> None:
        self.shape = tuple(shape[:3])
        self.places = halo, halo + shift
        self.start = halo
        planes = (shape[0] + 2 * halo + shift, *shape[1:])
        # Vector instructions read from multiples of this address.
        size = int(np.prod(planes, dtype=np.int64))
        raw = np.zeros(size + ALIGNMENT // dtype.itemsize, dtype)
        offset = -raw.ctypes.data % ALIGNMENT // dtype.itemsize
        self.planes: np.ndarray = raw[offset : offset + size].reshape(planes)

    @property
    def volume(self) -> np.ndarray:
        """The volume itself."""
        return self.planes[self.start : self.start + self.shape[0]]

    @property
    def other(self) -> int:
        """The place where the volume is not."""
        return self.places[0] if self.start == self.places[1] else self.places[1]

    def clear(self, before: int, after: int) -> None:
        """Put zeros around the volume along x, as 'same' padding has them."""
        stop = self.start + self.shape[0]
        self.planes[self.start - before : self.start] = 0
        self.planes[stop : stop + after] = 0


class _Moments:
    """Mean and variance of each channel over slabs of any size.

    Chan, Golub and LeVeque's pairwise update, in double precision:
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
