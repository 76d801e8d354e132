"""Conversion between `Network` and Keras models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from ..system.errors import ModelError
from .formats.layer_reader import network_from_layers, topology
from .network import LEAKY_SLOPE, Network, Op


@keras.saving.register_keras_serializable('brainchop')
def gelu_tanh(x: Any) -> Any:
    """Return GELU in its tanh form, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return keras.ops.gelu(x, approximate=True)


def avoid_false_fusion(network: Network) -> None:
    """Keep TensorFlow from fusing layers of a network that it would compute falsely.

    On a CPU its graphs fuse convolution, bias, sum and leaky ReLU, and then take Keras' slope
    whatever the layer's own is (seen in 2.21, with oneDNN).

    Parameters
    ----------
    network : Network
        What is to be computed in this process, by a graph that is not made yet.
    """
    if keras.backend.backend() != 'tensorflow':
        return
    for op in network.ops:
        if (
            op.is_activation('leaky_relu')
            and op.settings['alpha'] != LEAKY_SLOPE
            and network[op.inputs[0]].kind == 'add'
        ):
            import tensorflow as tf

            tf.config.optimizer.set_experimental_options({'remapping': False})


def build_model(network: Network, input_shape: tuple[int | None, ...] = (None, None, None)) -> Any:
    """Build the Keras model of a network.

    Parameters
    ----------
    network : Network
        The network.
    input_shape : tuple of int or None
        Spatial shape of the input; open by default, for volumes of any shape.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, channels)`` to the output of the last operation, float32.
    """
    tensors: dict[str, Any] = {}
    for op in network.ops:
        if op.kind == 'input':
            tensors[op.name] = keras.Input((*input_shape, op.channels), name='input')
            continue
        layer = _LAYERS[op.kind](op)
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.name] = layer(inputs if op.kind in ('add', 'concatenate') else inputs[0])
        layer.set_weights([op.weights[variable.name] for variable in layer.weights])
    return keras.Model(tensors[network.ops[0].name], tensors[network.ops[-1].name])


def network_of(model: Any) -> Network:
    """Convert a Keras model to a `Network`.

    Parameters
    ----------
    model : keras.Model
        A built Functional or Sequential model of supported layers.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If a layer is not supported, or the model is not built.
    """
    source = Path(f'model {model.name!r}')
    if not model.built:
        raise ModelError(f'{source}: has no weights yet; build it first')
    config = json.loads(model.to_json())
    layers, output = topology(config, source)
    weights = {
        f'{layer.name}/{variable.name}': keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
        # The state of a random generator of dropout is not a weight.
        if variable.name != 'seed_generator_state'
    }
    return network_from_layers(source, layers, weights, output=output)


def activation_layer(function: str, alpha: float, name: str | None = None) -> Any:
    """Return the Keras layer of an activation, see `Op`."""
    if function == 'leaky_relu':
        return keras.layers.LeakyReLU(negative_slope=alpha, name=name)
    if function == 'elu' and alpha != 1:
        return keras.layers.ELU(alpha=alpha, name=name)
    return keras.layers.Activation(gelu_tanh if function == 'gelu_tanh' else function, name=name)


def _convolution(kind: Any) -> Callable[[Op], Any]:
    def make(op: Op) -> Any:
        settings = op.settings
        grouped = {'groups': settings['groups']} if op.kind == 'conv' else {}
        return kind(
            op.channels,
            op.kernel_size,
            strides=settings['strides'],
            padding=settings['padding'],
            dilation_rate=settings['dilation'],
            use_bias='bias' in op.weights,
            name=op.name,
            **grouped,
        )

    return make


def _batch_norm(op: Op) -> Any:
    return keras.layers.BatchNormalization(
        epsilon=op.settings['epsilon'],
        center='beta' in op.weights,
        scale='gamma' in op.weights,
        name=op.name,
    )


def _group_norm(op: Op) -> Any:
    return keras.layers.GroupNormalization(
        op.settings['groups'],
        epsilon=op.settings['epsilon'],
        center=False,
        scale=False,
        name=op.name,
    )


def _max_pool(op: Op) -> Any:
    settings = op.settings
    return keras.layers.MaxPooling3D(
        settings['size'], settings['strides'], settings['padding'], name=op.name
    )


_LAYERS: dict[str, Callable[[Op], Any]] = {
    'conv': _convolution(keras.layers.Conv3D),
    'conv_transpose': _convolution(keras.layers.Conv3DTranspose),
    'batch_norm': _batch_norm,
    'group_norm': _group_norm,
    'activation': lambda op: activation_layer(
        op.settings['function'], op.settings['alpha'], op.name
    ),
    'max_pool': _max_pool,
    'upsample': lambda op: keras.layers.UpSampling3D(op.settings['size'], name=op.name),
    'zero_pad': lambda op: keras.layers.ZeroPadding3D(op.settings['padding'], name=op.name),
    'add': lambda op: keras.layers.Add(name=op.name),
    'concatenate': lambda op: keras.layers.Concatenate(name=op.name),
}
