"""A chain of convolutions over a volume, slab by slab, in the memory of one layer.

Each layer is computed exactly, and no voxel twice: a slab of a layer's output needs a few planes
of its input on either side. The planes lie in one array that is longer than the volume. A layer
reads the volume at one place of it and writes its result a few planes away, over what is no
longer needed, so that input and output share the memory; the next layer goes the other way.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .plan import Step

# Output of one slab. Smaller: more calls; larger: memory is fetched from the system anew for each
# slab instead of being used again, while a convolution holds some six copies of it.
SLAB_BYTES = 24 << 20
ALIGNMENT = 64


def slabs(shape: tuple[int, ...], channels: int, nbytes: int | None = None) -> Iterator[slice]:
    """Cut the first axis of a float32 volume into slices of at most so many bytes."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64))) * channels * 4
    number = -(-shape[0] // max(1, (nbytes or SLAB_BYTES) // plane))
    # Of nearly one size: each size is compiled on its own.
    rows = -(-shape[0] // number)
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def share(tf: Any, array: np.ndarray) -> Any:
    """Return an array as a tensor that shares its memory; it must only be read.

    `tf.constant` would copy it twice. TensorFlow aborts the process over memory that begins
    where its vector instructions cannot read it; planes of an odd size are copied after all.
    """
    if array.ctypes.data % ALIGNMENT:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class StreamedChain:
    """Runs the steps of `streamable_steps` on volumes.

    Parameters
    ----------
    tf : module
        TensorFlow.
    steps : sequence of Step
        The network's hidden part.
    """

    def __init__(self, tf: Any, steps: tuple[Step, ...]) -> None:
        self.tf = tf
        self.steps = steps
        self._functions: dict[Any, Callable[..., Any]] = {}

    def features(self, volume: np.ndarray) -> np.ndarray:
        """Compute what the last step gives.

        Parameters
        ----------
        volume : (X, Y, Z, Cin) float32
            The normalised input; left as it is.

        Returns
        -------
        (X, Y, Z, Cout) float32
        """
        if not self.steps:
            return volume
        # One more than needed where no step looks aside: a band has two different places.
        margin = max(1, *(max(step.margins[0]) for step in self.steps))
        band = _Band(volume.shape, margin)
        band.volume[:] = volume
        # The caller may hold no other reference: its memory is wanted for the first layer.
        del volume
        for step in self.steps:
            channels = step.kernel.shape[-1]
            reuse = channels == band.planes.shape[-1]
            result = band if reuse else _Band((*band.shape, channels), margin)
            self._convolve(step, band, result)
            band = result
        return band.volume

    def _convolve(self, step: Step, source: '_Band', result: '_Band') -> None:
        source.clear(*step.margins[0])
        start, target = source.start, result.other if result is source else result.start
        kernel, bias = self.tf.constant(step.kernel), self.tf.constant(step.bias)
        order = list(slabs(source.shape, max(step.kernel.shape[3:])))
        moments = _Moments(step.kernel.shape[-1])
        # The result moves towards the planes that the slabs have already left behind.
        for rows in order if target <= start else reversed(order):
            blocks, dilation = self._blocks(step, source, rows)
            function = self._function(step, blocks[0].shape, dilation)
            values = function([share(self.tf, block[None]) for block in blocks], kernel, bias)
            if step.epsilon is not None:
                values, mean, variance = values
                moments.add(mean.numpy(), variance.numpy(), values.shape[1:4])
            result.planes[target + rows.start : target + rows.stop] = values.numpy()[0]
        result.start = target
        if step.epsilon is not None:
            self._normalise(step, result.volume, moments, step.epsilon)

    def _blocks(self, step: Step, source: '_Band', rows: slice) -> tuple[list[np.ndarray], int]:
        """Return the input planes a slab needs, and the dilation along x among them.

        Where the dilation is wider than the slab, the planes in between are of no use: only
        those that meet one element of the kernel each are taken.
        """
        (before, after), dilation = step.margins[0], step.dilation[0]
        first, count = source.start + rows.start - before, rows.stop - rows.start
        if count >= dilation or step.kernel.shape[0] == 1:
            return [source.planes[first : first + before + count + after]], dilation
        starts = [first + i * dilation for i in range(step.kernel.shape[0])]
        return [source.planes[i : i + count] for i in starts], count

    def _normalise(
        self, step: Step, volume: np.ndarray, moments: '_Moments', epsilon: float
    ) -> None:
        scale = 1 / np.sqrt(moments.variance + epsilon)
        factor = self.tf.constant(scale, self.tf.float32)
        term = self.tf.constant(-moments.mean * scale, self.tf.float32)
        for rows in slabs(volume.shape[:3], volume.shape[-1]):
            block = volume[rows]
            function = self._after_norm(step, block.shape)
            block[...] = function(share(self.tf, block[None]), factor, term).numpy()[0]

    def _function(self, step: Step, shape: tuple[int, ...], dilation: int) -> Callable[..., Any]:
        """Return the compiled convolution; steps that differ in weights only share it."""
        dilations = (dilation, *step.dilation[1:])
        key = (shape, step.kernel.shape, dilations, step.epsilon is None, step.activations)
        if key not in self._functions:
            graph = self._graph(step, dilations)
            self._functions[key] = self.tf.function(graph, autograph=False)
        return self._functions[key]

    def _graph(self, step: Step, dilations: tuple[int, ...]) -> Callable[..., Any]:
        tf, padding = self.tf, [[0, 0], [0, 0], *map(list, step.margins[1:]), [0, 0]]

        def convolve(blocks: list[Any], kernel: Any, bias: Any) -> Any:
            block = tf.concat(blocks, 1) if len(blocks) > 1 else blocks[0]
            # A convolution that pads by itself would compute the margins along x too.
            values = tf.nn.conv3d(
                tf.pad(block, padding), kernel, [1] * 5, 'VALID', dilations=[1, *dilations, 1]
            )
            values = tf.nn.bias_add(values, bias)
            if step.epsilon is None:
                return _activate(step, values)
            mean = _mean(tf, values)
            deviation = tf.math.squared_difference(values, tf.cast(mean, tf.float32))
            return values, mean, _mean(tf, deviation)

        return convolve

    def _after_norm(self, step: Step, shape: tuple[int, ...]) -> Callable[..., Any]:
        key = (shape, step.activations)
        if key not in self._functions:
            self._functions[key] = self.tf.function(
                lambda values, factor, term: _activate(step, values * factor + term),
                autograph=False,
            )
        return self._functions[key]


class _Band:
    """A volume somewhere in a longer array of planes.

    Parameters
    ----------
    shape : (X, Y, Z, C)
        Of the volume.
    margin : int
        The most planes that a step needs on either side; also how far the volume moves.
    """

    def __init__(self, shape: tuple[int, ...], margin: int) -> None:
        self.shape = shape[:3]
        self.places = margin, 2 * margin
        self.start = margin
        planes = (shape[0] + 3 * margin, *shape[1:])
        # So that planes can be shared with TensorFlow, see `share`.
        size = int(np.prod(planes, dtype=np.int64))
        raw = np.zeros(size + ALIGNMENT // 4, np.float32)
        offset = -raw.ctypes.data % ALIGNMENT // 4
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

    def add(self, mean: np.ndarray, variance: np.ndarray, shape: Any) -> None:
        count = int(np.prod(shape, dtype=np.int64))
        share = count / (self.count + count)
        difference = mean - self.mean
        self.variance += share * (variance - self.variance)
        self.variance += share * (1 - share) * difference**2
        self.mean += share * difference
        self.count += count


def _mean(tf: Any, values: Any) -> Any:
    """Return each channel's mean in double precision.

    Eigen adds up float32 one after the other: over a slab that alone costs four digits.
    """
    return tf.reduce_mean(tf.cast(tf.reduce_mean(values, 3), tf.float64), [0, 1, 2])


def _activate(step: Step, values: Any) -> Any:
    # It imports Keras, which must find its backend chosen.
    from ..models.keras_model import activation_layer

    for function, alpha in step.activations:
        values = activation_layer(function, alpha)(values)
    return values
