"""Networks as Keras' layer configurations, the inverse of `layer_reader`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..network import Network, Op, without
from .layer_reader import MARK_EPSILON, NORM_MARK


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


def _is_per_channel(norm: Op) -> bool:
    alone = norm.settings['groups'] in (-1, norm.channels)
    return alone and norm.settings['epsilon'] == MARK_EPSILON


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


def _batch_norm_config(op: Op) -> LayerConfig:
    config = {
        'axis': [4],
        'epsilon': op.settings['epsilon'],
        'center': 'beta' in op.weights,
        'scale': 'gamma' in op.weights,
    }
    return 'BatchNormalization', config


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


def _max_pool_config(op: Op) -> LayerConfig:
    settings = op.settings
    config = {
        'pool_size': list(settings['size']),
        'strides': list(settings['strides']),
        'padding': settings['padding'],
        'data_format': 'channels_last',
    }
    return 'MaxPooling3D', config


def _group_norm_config(op: Op) -> LayerConfig:
    settings = op.settings
    config = {
        'axis': -1,
        'groups': settings['groups'],
        'epsilon': settings['epsilon'],
        'center': False,
        'scale': False,
    }
    return 'GroupNormalization', config


_CONFIGS: dict[str, Callable[[Op], LayerConfig]] = {
    'conv': _conv_config,
    'conv_transpose': _conv_config,
    'batch_norm': _batch_norm_config,
    'group_norm': _group_norm_config,
    'activation': _activation_config,
    'max_pool': _max_pool_config,
    'upsample': lambda op: ('UpSampling3D', {'size': list(op.settings['size'])}),
    'zero_pad': lambda op: (
        'ZeroPadding3D',
        {'padding': [list(p) for p in op.settings['padding']]},
    ),
    'add': lambda op: ('Add', {}),
    'concatenate': lambda op: ('Concatenate', {'axis': -1}),
}
