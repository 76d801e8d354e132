"""Conversion between `Network` and Keras models."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..system.errors import ModelError
from .formats.layer_graph import safe_name, topology
from .formats.layer_reader import network_from_layers
from .formats.planar import flattened
from .network import LEAKY_SLOPE, MERGES, Network, Op


@keras.saving.register_keras_serializable('brainchop')
def gelu_tanh(x: Any) -> Any:
    """Return GELU in its tanh form, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return keras.ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable('brainchop')
class SlabNormalization(keras.layers.Layer):
    """The group normalisation of Nobrainer 1.2, whose groups are slabs of the volume.

    It divides the values of a volume, as they follow each other in memory, into as many runs as
    there are groups, and normalises each run: with channels last these are slabs along the first
    axis with all channels, whatever its documentation says
    (https://github.com/neuronets/nobrainer, ``nobrainer/layers/groupnorm.py``).

    Parameters
    ----------
    groups : int
        Number of slabs, which divides the number of channels.
    order : tuple of 3 int
        Axes of the volume in the order in which it is cut.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether it has ``beta`` and ``gamma``.
    **options
        Options of any layer.
    """

    def __init__(
        self,
        groups: int,
        order: Sequence[int] = (0, 1, 2),
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.groups, self.order, self.epsilon = groups, tuple(order), epsilon
        self.center, self.scale = center, scale

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        weight, given = self.add_weight, (shape[-1],)
        self.gamma = weight(given, 'ones', name='gamma') if self.scale else None
        self.beta = weight(given, 'zeros', name='beta') if self.center else None

    def call(self, volume: Any) -> Any:
        """Normalise a batch of volumes."""
        ops, width = keras.ops, volume.shape[-1] // self.groups
        axes = [axis + 1 for axis in self.order]
        turned = ops.transpose(volume, (0, *axes, 4))
        shape = ops.shape(turned)
        runs = ops.reshape(turned, (shape[0], self.groups, -1, width))
        mean, variance = ops.moments(runs, (2, 3), keepdims=True)
        runs = (runs - mean) / ops.sqrt(variance + self.epsilon)
        for weights, function in ((self.gamma, ops.multiply), (self.beta, ops.add)):
            if weights is not None:
                runs = function(runs, ops.reshape(weights, (1, self.groups, 1, width)))
        back = [axes.index(axis) + 1 for axis in (1, 2, 3)]
        return ops.transpose(ops.reshape(runs, shape), (0, *back, 4))

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        names = ('groups', 'order', 'epsilon', 'center', 'scale')
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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
        ``(batch, X, Y, Z, channels)`` to the output of the last operation, float32; for a network
        of images ``(batch, Y, Z, channels)``, with layers of images.
    """
    sides = input_shape[1:] if network.of_images else input_shape
    tensors: dict[str, Any] = {}
    for op in network.ops:
        if op.kind == 'input':
            tensors[op.name] = keras.Input((*sides, op.channels), name='input')
            continue
        layer = _LAYERS[op.kind](op)
        if network.of_images:
            layer = _of_images(layer, op)
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.name] = layer(inputs if op.kind in (*MERGES, 'concatenate') else inputs[0])
        # Kernels of images lack the first axis; those of each channel alone have two last ones.
        layer.set_weights(
            [op.weights[variable.name].reshape(variable.shape) for variable in layer.weights]
        )
    return keras.Model(tensors[network.ops[0].name], tensors[network.ops[-1].name])


def _of_images(layer: Any, op: Op) -> Any:
    """Return the layer of images in place of a layer of volumes."""
    described = {'class_name': type(layer).__name__, 'name': op.name, 'config': layer.get_config()}
    weights = {f'{op.name}/{name}': values for name, values in op.weights.items()}
    ((flat,), _) = flattened([described], weights)
    if flat['class_name'] == described['class_name']:
        return layer
    return getattr(keras.layers, flat['class_name']).from_config(flat['config'])


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
    return network_from_layers(source, layers, dict(_weights_of(model)), output=output)


def _weights_of(model: Any, *path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the weights of a model and of the models within it, as `topology` names layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _weights_of(layer, *path, layer.name)
            continue
        for variable in layer.weights:
            # The state of a random generator of dropout is not a weight.
            if variable.name != 'seed_generator_state':
                name = safe_name('/'.join((*path, layer.name)))
                yield f'{name}/{variable.name}', keras.ops.convert_to_numpy(variable)


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


def _affine(op: Op) -> dict[str, Any]:
    return {
        'epsilon': op.settings['epsilon'],
        'center': 'beta' in op.weights,
        'scale': 'gamma' in op.weights,
        'name': op.name,
    }


def _pool(op: Op) -> Any:
    settings = op.settings
    kinds = {'max_pool': keras.layers.MaxPooling3D, 'avg_pool': keras.layers.AveragePooling3D}
    return kinds[op.kind](settings['size'], settings['strides'], settings['padding'], name=op.name)


def _global_pool(op: Op) -> Any:
    kinds = {
        'average': keras.layers.GlobalAveragePooling3D,
        'max': keras.layers.GlobalMaxPooling3D,
    }
    return kinds[op.settings['function']](keepdims=True, name=op.name)


def _merge(kind: str) -> Callable[[Op], Any]:
    return lambda op: getattr(keras.layers, kind.title())(name=op.name)


_LAYERS: dict[str, Callable[[Op], Any]] = {
    'conv': _convolution(keras.layers.Conv3D),
    'conv_transpose': _convolution(keras.layers.Conv3DTranspose),
    'batch_norm': lambda op: keras.layers.BatchNormalization(**_affine(op)),
    'group_norm': lambda op: keras.layers.GroupNormalization(op.settings['groups'], **_affine(op)),
    'layer_norm': lambda op: keras.layers.LayerNormalization(**_affine(op)),
    'slab_norm': lambda op: SlabNormalization(
        op.settings['groups'], op.settings['order'], **_affine(op)
    ),
    'activation': lambda op: activation_layer(
        op.settings['function'], op.settings['alpha'], op.name
    ),
    'prelu': lambda op: keras.layers.PReLU(shared_axes=[1, 2, 3], name=op.name),
    'max_pool': _pool,
    'avg_pool': _pool,
    'global_pool': _global_pool,
    'upsample': lambda op: keras.layers.UpSampling3D(op.settings['size'], name=op.name),
    'zero_pad': lambda op: keras.layers.ZeroPadding3D(op.settings['padding'], name=op.name),
    'crop': lambda op: keras.layers.Cropping3D(op.settings['padding'], name=op.name),
    'concatenate': lambda op: keras.layers.Concatenate(name=op.name),
    **{kind: _merge(kind) for kind in MERGES},
}
