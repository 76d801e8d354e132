"""Networks as Keras' layer configurations, the inverse of `layer_reader`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..network import MERGES, Network, Op, without
from .layer_reader import MARK_EPSILON, NORM_MARK
from .planar import flattened


def mark_normalised(network: Network) -> Network:
    """Mark convolutions whose channels are normalised by their names, as brainchop does.

    Parameters
    ----------
    network : Network
        The network.

    Returns
    -------
    Network
        The same network, with the names that `network_from_layers` gives to such convolutions
        and their normalisations.
    """
    names: dict[str, str] = {}
    for op in network.ops:
        source = network[op.inputs[0]] if op.kind == 'group_norm' else op
        if source.kind == 'conv' and op.kind == 'group_norm' and _is_per_channel(op):
            names[source.name] = source.name.removesuffix(NORM_MARK) + NORM_MARK
            names[op.name] = f'{names[source.name]}_norm'
    return renamed(network, names)


def renamed(network: Network, names: Mapping[str, str]) -> Network:
    """Give operations other names; those without one keep their own."""
    ops = [
        replace(
            op,
            name=names.get(op.name, op.name),
            inputs=tuple(names.get(name, name) for name in op.inputs),
        )
        for op in network.ops
    ]
    return replace(network, ops=tuple(ops))


def layers_of(network: Network) -> list[dict[str, Any]]:
    """Return a network's operations as layer configurations of Keras 2.

    Parameters
    ----------
    network : Network
        The network, from `mark_normalised`.

    Returns
    -------
    list of dict
        Layers for `network_from_layers`, and for TensorFlow.js as far as it supports them.

    Raises
    ------
    ModelError
        If a network cannot be described without ambiguity.
    """
    implied = [
        op
        for op in network.ops
        if op.kind == 'group_norm' and op.inputs[0].endswith(NORM_MARK) and _is_per_channel(op)
    ]
    if implied and any(op.is_activation('gelu') for op in network.ops):
        raise network.fault('exact GELU behind normalised channels would be read as tanh GELU')
    network = without(network, lambda op: any(op.name == norm.name for norm in implied))
    return [_layer(op, network) for op in network.ops]


def described(
    network: Network, *, depthwise: bool = True
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return a network as `layers_of` does, with layers of images if it is a network of images.

    Parameters
    ----------
    network : Network
        The network, from `mark_normalised`.
    depthwise : bool
        As for `brainchop_bids.models.formats.planar.flattened`.

    Returns
    -------
    layers : list of dict
        Layers for `network_from_layers`.
    weights : dict of str to array
        ``layer/variable`` to values.

    Raises
    ------
    ModelError
        As `layers_of`, or if there are no such layers of images.
    """
    layers = layers_of(network)
    weights = {
        f'{op.name}/{name}': values for op in network.ops for name, values in op.weights.items()
    }
    if not network.of_images:
        return layers, weights
    try:
        return flattened(layers, weights, depthwise=depthwise)
    except ValueError as error:
        raise network.fault(str(error)) from error


def _is_per_channel(norm: Op) -> bool:
    exact = norm.settings['epsilon'] == MARK_EPSILON and not norm.weights
    return norm.is_per_channel and exact


def _layer(op: Op, network: Network) -> dict[str, Any]:
    config: dict[str, Any] = {'name': op.name, 'dtype': 'float32'}
    if op.kind == 'input':
        shape = [None, *network.input_shape, op.channels]
        class_name, more = 'InputLayer', {'batch_input_shape': shape, 'sparse': False}
    else:
        class_name, more = _CONFIGS[op.kind](op)
    nodes = [[[name, 0, 0, {}] for name in op.inputs]] if op.inputs else []
    return {
        'class_name': class_name,
        'name': op.name,
        'config': {**config, **more},
        'inbound_nodes': nodes,
    }


LayerConfig = tuple[str, dict[str, Any]]


def _conv_config(op: Op) -> LayerConfig:
    settings = op.settings
    config = {
        'filters': op.channels,
        'kernel_size': list(op.kernel_size),
        'strides': list(settings['strides']),
        'padding': settings['padding'],
        'data_format': 'channels_last',
        'dilation_rate': list(settings['dilation']),
        'groups': settings['groups'],
        'activation': 'linear',
        'use_bias': 'bias' in op.weights,
    }
    if op.kind == 'conv':
        return 'Conv3D', config
    return 'Conv3DTranspose', {k: v for k, v in config.items() if k != 'groups'}


def _affine(op: Op) -> dict[str, Any]:
    return {
        'epsilon': op.settings['epsilon'],
        'center': 'beta' in op.weights,
        'scale': 'gamma' in op.weights,
    }


def _activation_config(op: Op) -> LayerConfig:
    function, alpha = op.settings['function'], op.settings['alpha']
    if function == 'leaky_relu':
        return 'LeakyReLU', {'alpha': alpha}
    if function == 'elu':
        return 'ELU', {'alpha': alpha}
    if function == 'softmax':
        return 'Softmax', {'axis': -1}
    return 'Activation', {
        'activation': {'gelu_tanh': 'gelu_new', 'silu': 'swish'}.get(function, function)
    }


def _pool_config(op: Op) -> LayerConfig:
    settings = op.settings
    config = {
        'pool_size': list(settings['size']),
        'strides': list(settings['strides']),
        'padding': settings['padding'],
        'data_format': 'channels_last',
    }
    return {'max_pool': 'MaxPooling3D', 'avg_pool': 'AveragePooling3D'}[op.kind], config


def _global_pool_config(op: Op) -> LayerConfig:
    kinds = {'average': 'GlobalAveragePooling3D', 'max': 'GlobalMaxPooling3D'}
    return kinds[op.settings['function']], {'data_format': 'channels_last', 'keepdims': True}


def _group_norm_config(op: Op) -> LayerConfig:
    return 'GroupNormalization', {**_affine(op), 'axis': -1, 'groups': op.settings['groups']}


def _slab_norm_config(op: Op) -> LayerConfig:
    settings = {'groups': op.settings['groups'], 'order': list(op.settings['order'])}
    return 'SlabNormalization', {**_affine(op), **settings}


def _sides_config(kind: str, name: str) -> Callable[[Op], LayerConfig]:
    return lambda op: (kind, {name: [list(pair) for pair in op.settings['padding']]})


def _merge_config(kind: str) -> Callable[[Op], LayerConfig]:
    return lambda op: (kind.title(), {})


_CONFIGS: dict[str, Callable[[Op], LayerConfig]] = {
    'conv': _conv_config,
    'conv_transpose': _conv_config,
    'batch_norm': lambda op: ('BatchNormalization', {**_affine(op), 'axis': [4]}),
    'group_norm': _group_norm_config,
    'layer_norm': lambda op: ('LayerNormalization', {**_affine(op), 'axis': [4]}),
    'slab_norm': _slab_norm_config,
    'activation': _activation_config,
    'prelu': lambda op: ('PReLU', {'shared_axes': [1, 2, 3]}),
    'max_pool': _pool_config,
    'avg_pool': _pool_config,
    'global_pool': _global_pool_config,
    'upsample': lambda op: ('UpSampling3D', {'size': list(op.settings['size'])}),
    'zero_pad': _sides_config('ZeroPadding3D', 'padding'),
    'crop': _sides_config('Cropping3D', 'cropping'),
    'concatenate': lambda op: ('Concatenate', {'axis': -1}),
    **{kind: _merge_config(kind) for kind in MERGES},
}
