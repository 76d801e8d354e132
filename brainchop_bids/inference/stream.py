"""A chain of convolutions over a volume, slab by slab, in the memory of one layer.

Each layer is computed exactly, never a halo twice: a slab of a layer's output needs a few planes
of its input on either side, so the input can be overwritten by the output as the slabs go by,
if the last planes of each slab are kept aside for the next one.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # It imports Keras, which must not happen before the backend is chosen.
    from .plan import Step

# Output of one slab. Smaller: more calls and margins; larger: nothing is gained any more, while
# a convolution holds some six copies of it.
SLAB_BYTES = 32 << 20


def slabs(shape: tuple[int, ...], channels: int, nbytes: int = SLAB_BYTES) -> Iterator[slice]:
    """Cut the first axis of a float32 volume into slices of at most so many bytes."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64))) * channels * 4
    rows = max(1, nbytes // plane)
    # Of nearly one size: the compiled graph is used again for the same size only.
    number = -(-shape[0] // rows)
    rows = -(-shape[0] // number)
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


class StreamedChain:
    """Runs the steps of `streamable_steps` on volumes.

    Parameters
    ----------
    tf : module
        TensorFlow.
    steps : sequence of Step
        The network's hidden part.
    """

    def __init__(self, tf: Any, steps: 'tuple[Step, ...]') -> None:
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
        current = volume
        for step in self.steps:
            channels = step.kernel.shape[-1]
            if current is volume or current.shape[-1] != channels:
                result = np.empty((*volume.shape[:3], channels), np.float32)
            else:
                result = current
            self._convolve(step, current, result)
            current = result
        return current

    def _convolve(self, step: 'Step', source: np.ndarray, result: np.ndarray) -> None:
        tf, (before, after) = self.tf, step.margins[0]
        function = self._function(step)
        kernel, bias = tf.constant(step.kernel), tf.constant(step.bias)
        widest = max(source.shape[-1], result.shape[-1])
        moments = _Moments(step.kernel.shape[-1])
        tail = np.zeros((before, *source.shape[1:]), np.float32)
        for rows in slabs(source.shape[:3], widest):
            ahead = source[rows.start : rows.stop + after]
            missing = rows.stop + after - source.shape[0]
            block = np.zeros(
                (before + rows.stop - rows.start + after, *source.shape[1:]), np.float32
            )
            block[:before] = tail
            block[before : block.shape[0] - max(0, missing)] = ahead
            # Kept before the result replaces it, where both are one array.
            tail = block[rows.stop - rows.start :][:before].copy()
            values = function(tf.constant(block[None]), kernel, bias)
            if step.epsilon is not None:
                values, mean, variance = values
                moments.add(np.asarray(mean), np.asarray(variance), values.shape[1:4])
            result[rows] = values[0]
        if step.epsilon is not None:
            self._normalise(step, result, moments, step.epsilon)

    def _normalise(
        self, step: 'Step', result: np.ndarray, moments: '_Moments', epsilon: float
    ) -> None:
        tf = self.tf
        scale = 1 / np.sqrt(moments.variance + epsilon)
        shift = -moments.mean * scale
        factor, term = tf.constant(scale, tf.float32), tf.constant(shift, tf.float32)
        function = self._after_norm(step)
        for rows in slabs(result.shape[:3], result.shape[-1]):
            result[rows] = function(tf.constant(result[rows]), factor, term)

    def _function(self, step: 'Step') -> Callable[..., Any]:
        """Return the compiled convolution; steps that differ in weights only share it."""
        key = (step.dilation, step.epsilon is None, _names(step))
        if key not in self._functions:
            self._functions[key] = self.tf.function(self._graph(step), autograph=False)
        return self._functions[key]

    def _graph(self, step: 'Step') -> Callable[..., Any]:
        tf, padding = self.tf, [[0, 0], [0, 0], *map(list, step.margins[1:]), [0, 0]]

        def convolve(block: Any, kernel: Any, bias: Any) -> Any:
            # A convolution that pads by itself would compute the margins along x too.
            padded = tf.pad(block, padding)
            dilations = [1, *step.dilation, 1]
            values = tf.nn.conv3d(padded, kernel, [1] * 5, 'VALID', dilations=dilations)
            values = tf.nn.bias_add(values, bias)
            if step.epsilon is None:
                return _activate(step, values)
            return values, *tf.nn.moments(values, [0, 1, 2, 3])

        return convolve

    def _after_norm(self, step: 'Step') -> Callable[..., Any]:
        key = _names(step)
        if key not in self._functions:
            self._functions[key] = self.tf.function(
                lambda values, factor, term: _activate(step, values * factor + term),
                autograph=False,
            )
        return self._functions[key]


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
        total = self.count + count
        share = count / total
        difference = mean - self.mean
        self.variance += share * (variance - self.variance)
        self.variance += share * (1 - share) * difference**2
        self.mean += share * difference
        self.count = total


def _activate(step: 'Step', values: Any) -> Any:
    for layer in step.activations:
        values = layer(values)
    return values


def _names(step: 'Step') -> tuple[str, ...]:
    return tuple(
        repr({key: value for key, value in layer.get_config().items() if key != 'name'})
        + type(layer).__name__
        for layer in step.activations
    )
