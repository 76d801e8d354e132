"""A Keras network taken apart into the steps by which a volume passes through it."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

_ELEMENTWISE = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
)
_TRAINING_ONLY = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
)


@dataclass(frozen=True, eq=False)
class Head:
    """The last 1x1x1 convolution: features to logits, voxel by voxel."""

    kernel: np.ndarray
    bias: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.bias.size)


@dataclass(frozen=True, eq=False)
class Step:
    """A convolution, then perhaps a normalisation of each channel, then activations.

    Parameters
    ----------
    kernel : (D, H, W, Cin, Cout) float32 array
        Its weights.
    bias : (Cout,) float32 array
        Zeros where it has none.
    dilation : tuple of int
        Along each axis.
    epsilon : float or None
        Of the normalisation; None without one.
    activations : tuple of keras layers
        Applied to each value on its own.
    """

    kernel: np.ndarray
    bias: np.ndarray
    dilation: tuple[int, int, int]
    epsilon: float | None = None
    activations: tuple[Any, ...] = ()

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Voxels before and after a place that its value depends on, for each axis.

        As ``padding='same'`` has it: the odd one of an even kernel lies behind.
        """
        spans = [(n - 1) * d for n, d in zip(self.kernel.shape[:3], self.dilation, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)

    def transposed(self) -> 'Step':
        """Return the step for a volume whose axes are in the opposite order."""
        kernel = np.ascontiguousarray(self.kernel.transpose(2, 1, 0, 3, 4))
        x, y, z = self.dilation
        return replace(self, kernel=kernel, dilation=(z, y, x))


def split_head(model: Any) -> tuple[Any, Head]:
    """Cut a network before its last 1x1x1 convolution.

    Parameters
    ----------
    model : keras.Model
        A functional model with one input and one output.

    Returns
    -------
    body : keras.Model
        From the input to the features; without a softmax that the file may end with.
    head : Head
        The rest. Where the network ends otherwise, the identity.
    """
    output = model.outputs[0]
    last = _producer(model, output)
    while _is_softmax(last) or isinstance(last, _TRAINING_ONLY):
        output = last.input
        last = _producer(model, output)
    if (
        isinstance(last, keras.layers.Conv3D)
        and tuple(last.kernel_size) == (1, 1, 1)
        and tuple(last.strides) == (1, 1, 1)
        and last.groups == 1
        and last.activation is keras.activations.linear
    ):
        kernel, bias = _weights(last)
        return keras.Model(model.inputs[0], last.input), Head(kernel[0, 0, 0], bias)
    classes = int(output.shape[-1])
    return keras.Model(model.inputs[0], output), Head(
        np.eye(classes, dtype=np.float32), np.zeros(classes, np.float32)
    )


def streamable_steps(body: Any) -> tuple[Step, ...] | None:
    """Return the steps of a plain chain of convolutions, None for any other network.

    Parameters
    ----------
    body : keras.Model
        What `split_head` gave.

    Returns
    -------
    tuple of Step or None
        None where a layer branches, strides, changes the grid or is of another kind.
    """
    steps: list[dict[str, Any]] = []
    tensor = body.inputs[0]
    for layer in body.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if layer.input is not tensor:
            return None
        tensor = layer.output
        if isinstance(layer, _TRAINING_ONLY):
            continue
        if _is_plain_convolution(layer):
            kernel, bias = _weights(layer)
            steps.append({'kernel': kernel, 'bias': bias, 'dilation': tuple(layer.dilation_rate)})
            if layer.activation is not keras.activations.linear:
                steps[-1]['activations'] = (keras.layers.Activation(layer.activation),)
        elif steps and _is_channel_norm(layer) and not set(steps[-1]) & {'epsilon', 'activations'}:
            steps[-1]['epsilon'] = float(layer.epsilon)
        elif steps and isinstance(layer, _ELEMENTWISE) and not _is_softmax(layer):
            steps[-1]['activations'] = (*steps[-1].get('activations', ()), layer)
        else:
            return None
    return tuple(Step(**step) for step in steps) if tensor is body.outputs[0] else None


def _producer(model: Any, tensor: Any) -> Any:
    return next((layer for layer in model.layers if layer.output is tensor), None)


def _weights(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    values = [np.asarray(weight, np.float32) for weight in layer.get_weights()]
    return values[0], values[1] if layer.use_bias else np.zeros(layer.filters, np.float32)


def _is_softmax(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation)
        and layer.activation is keras.activations.softmax
    )


def _is_plain_convolution(layer: Any) -> bool:
    return (
        isinstance(layer, keras.layers.Conv3D)
        and tuple(layer.strides) == (1, 1, 1)
        and layer.padding == 'same'
        and layer.groups == 1
    )


def _is_channel_norm(layer: Any) -> bool:
    return (
        isinstance(layer, keras.layers.GroupNormalization)
        and not (layer.center or layer.scale)
        and layer.groups in (-1, layer.input.shape[-1])
    )
