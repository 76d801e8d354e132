"""Single layers computed by TensorFlow."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .confidence import CONFIDENCE_STEPS
from .layers import ALIGNMENT, Layers, Moments, by_place
from .steps import Head, Step


def share(tf: Any, array: np.ndarray) -> Any:
    """Return an array as a tensor that shares its memory and must only be read.

    `tf.constant` would copy it twice. TensorFlow aborts the process if the memory is not aligned
    for vector instructions, so unaligned planes are copied.
    """
    if array.ctypes.data % ALIGNMENT:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class TensorflowLayers(Layers):
    """Computes layers with TensorFlow's operations.

    Parameters
    ----------
    tf : module
        TensorFlow.
    """

    # Smaller slabs mean more calls. For larger ones, of which a convolution takes about six
    # copies, the system allocates memory anew for each slab.
    slab_bytes = 24 << 20
    picks_planes = True

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        self._functions: dict[Any, Callable[..., Any]] = {}

    def convolve(
        self,
        step: Step,
        blocks: Sequence[np.ndarray],
        dilation: int,
        padding: Sequence[tuple[int, int]],
        out: np.ndarray,
    ) -> Moments | None:
        """Compute a convolution; see `Layers`."""
        kernel, bias = self.tf.constant(step.kernel), self.tf.constant(step.bias)
        dilations = (dilation, *step.dilation[1:])
        # Steps that differ only in their weights share a function.
        key = (blocks[0].shape, step.kernel.shape, dilations, tuple(padding), step.stride)
        function = self._function(
            (*key, step.epsilon is None, step.activations),
            lambda: self._convolution(step, dilations, padding),
        )
        values = function([share(self.tf, block[None]) for block in blocks], kernel, bias)
        if step.epsilon is None:
            out[...] = values.numpy()[0]
            return None
        values, mean, variance = values
        out[...] = values.numpy()[0]
        return mean.numpy(), variance.numpy()

    def normalise(
        self, step: Step, block: np.ndarray, factor: np.ndarray, term: np.ndarray
    ) -> None:
        """Normalise and activate in place; see `Layers`."""

        def graph(values: Any, factor: Any, term: Any) -> Any:
            return _activate(step, values * factor + term)

        function = self._function((block.shape, step.activations), lambda: graph)
        given = map(self.tf.constant, (factor, term))
        block[...] = function(share(self.tf, block[None]), *given).numpy()[0]

    def forget(self) -> None:
        """Release compiled functions."""
        self._functions.clear()

    def head(self, head: Head, block: Any, kinds: tuple[str, ...]) -> list[np.ndarray]:
        """Compute labels, confidences, probabilities or logits; see `Layers`."""
        tf, matrix, biases = self.tf, head.matrix, head.biases

        def graph(block: Any) -> list[Any]:
            rows = tf.reshape(block, (-1, block.shape[-1]))
            logits = tf.nn.bias_add(tf.matmul(rows, matrix, transpose_b=True), biases)
            logits = tf.reshape(logits, (-1, head.up**3, head.classes))
            made = {
                'labels': lambda: tf.argmax(logits, -1, output_type=tf.int32),
                'confidences': lambda: tf.cast(
                    CONFIDENCE_STEPS * tf.reduce_max(tf.nn.softmax(logits), -1) + 0.5, tf.uint8
                ),
                'probabilities': lambda: tf.nn.softmax(logits),
                'logits': lambda: logits,
            }
            return [made[kind]() for kind in kinds]

        function = self._function((head, kinds, *block.shape), lambda: graph)
        given = share(tf, block) if isinstance(block, np.ndarray) else block
        return [by_place(values.numpy(), head.up, block.shape[:3]) for values in function(given)]

    def _function(self, key: Any, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        if key not in self._functions:
            self._functions[key] = self.tf.function(make(), autograph=False)
        return self._functions[key]

    def _convolution(
        self, step: Step, dilations: tuple[int, ...], sides: Sequence[tuple[int, int]]
    ) -> Callable[..., Any]:
        tf, padding = self.tf, [[0, 0], [0, 0], *map(list, sides), [0, 0]]

        def convolve(blocks: list[Any], kernel: Any, bias: Any) -> Any:
            block = tf.concat(blocks, 1) if len(blocks) > 1 else blocks[0]
            if step.up > 1:
                shape = (1, *(n * step.up for n in block.shape[1:4]), kernel.shape[-1])
                turned = tf.transpose(kernel, (0, 1, 2, 4, 3))
                strides = [1, *[step.up] * 3, 1]
                values = tf.nn.conv3d_transpose(block, turned, shape, strides, 'VALID')
            else:
                # Padding by the convolution would also compute the margins along x.
                values = tf.nn.conv3d(
                    tf.pad(block, padding),
                    kernel,
                    [1, *[step.stride] * 3, 1],
                    'VALID',
                    dilations=[1, *dilations, 1],
                )
            values = tf.nn.bias_add(values, bias)
            if step.epsilon is None:
                return _activate(step, values)
            mean = _mean(tf, values)
            deviation = tf.math.squared_difference(values, tf.cast(mean, tf.float32))
            return values, mean, _mean(tf, deviation)

        return convolve


def _mean(tf: Any, values: Any) -> Any:
    """Return the mean of each channel in double precision.

    Eigen sums float32 values one by one, which loses four digits over a slab.
    """
    return tf.reduce_mean(tf.cast(tf.reduce_mean(values, 3), tf.float64), [0, 1, 2])


def _activate(step: Step, values: Any) -> Any:
    # This imports Keras, whose backend must be set before.
    from ..models.keras_model import activation_layer

    for function, alpha in step.activations:
        values = activation_layer(function, alpha)(values)
    return values
