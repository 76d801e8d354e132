"""Networks of images, read as networks of volumes with kernels of length 1 along the first axis.

Each plane of a volume along its first axis is then an image of a batch. All else, engines and
folding included, needs no other form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .files import Stored

# Layers of images, those of volumes in their place, and their settings of one number per axis.
_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    'Conv2D': ('Conv3D', ('kernel_size', 'strides', 'dilation_rate')),
    'DepthwiseConv2D': ('Conv3D', ('kernel_size', 'strides', 'dilation_rate')),
    'Conv2DTranspose': ('Conv3DTranspose', ('kernel_size', 'strides', 'dilation_rate')),
    'MaxPooling2D': ('MaxPooling3D', ('pool_size', 'strides')),
    'UpSampling2D': ('UpSampling3D', ('size',)),
    'SpatialDropout2D': ('SpatialDropout3D', ()),
}
_IMAGES = {
    volumes: images for images, (volumes, _) in _LAYERS.items() if images != 'DepthwiseConv2D'
}
_OF_AXIS = ('BatchNormalization', 'Concatenate', 'LayerNormalization', 'Softmax')
# Their moments would be those of all images together.
_OF_WHOLE = ('GroupNormalization', 'InstanceNormalization', 'SlabNormalization')
_DEPTHWISE = ('depthwise_kernel', 'kernel')

Weights = Mapping[str, np.ndarray | Stored]
Layers = Sequence[Mapping[str, Any]]


def of_images(layers: Layers) -> bool:
    """Return whether the first layer takes images, ``[batch, rows, columns, channels]``."""
    config = layers[0]['config']
    shape = config.get('batch_input_shape') or config.get('batch_shape')
    return isinstance(shape, (list, tuple)) and len(shape) == 4


def lifted(layers: Layers, weights: Weights) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the layers and weights of a network of volumes that treats each plane as an image.

    Parameters
    ----------
    layers : sequence of mapping
        As for `brainchop_bids.models.formats.layer_reader.network_from_layers`.
    weights : mapping of str to array
        ``layer/variable`` to values.

    Returns
    -------
    layers : list of dict
        Layers of volumes.
    weights : dict of str to array
        Kernels with a first axis of length 1.

    Raises
    ------
    ValueError
        If a layer has settings that are none.
    """
    found, arrays = [], dict(weights)
    for layer in layers:
        kind, name, config = layer['class_name'], layer['name'], dict(layer['config'])
        if kind.rpartition('>')[2] in _OF_WHOLE:
            raise ValueError(f'{kind} is not supported for images')
        for key in ('batch_input_shape', 'batch_shape'):
            if config.get(key):
                config[key] = [config[key][0], None, *config[key][1:]]
        if kind in _OF_AXIS:
            config['axis'] = _last(config.get('axis', -1))
        if kind in _LAYERS:
            for key in _LAYERS[kind][1]:
                if config.get(key) is not None:
                    config[key] = [1, *_pair(config[key])]
            if kind == 'DepthwiseConv2D':
                _lift_depthwise(name, config, arrays)
            elif f'{name}/kernel' in arrays:
                arrays[f'{name}/kernel'] = _reshaped(
                    arrays[f'{name}/kernel'], lambda shape: (1, *shape)
                )
            kind = _LAYERS[kind][0]
        found.append({**layer, 'class_name': kind, 'config': config})
    return found, arrays


def flattened(
    layers: Layers, weights: Mapping[str, np.ndarray], *, depthwise: bool = True
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the layers and weights of a network of images, the inverse of `lifted`.

    Parameters
    ----------
    layers : sequence of mapping
        Layers of volumes, as `brainchop_bids.models.formats.layer_writer.layers_of` returns them.
    weights : mapping of str to array
        ``layer/variable`` to values.
    depthwise : bool
        Whether convolutions with a group for each channel become ``DepthwiseConv2D``, or keep
        their groups as ``Conv2D``.

    Returns
    -------
    layers : list of dict
        Layers of images.
    weights : dict of str to array
        Kernels without their first axis.

    Raises
    ------
    ValueError
        If there is no layer of images in place of one of volumes.
    """
    found, arrays = [], dict(weights)
    for layer in layers:
        kind, name, config = layer['class_name'], layer['name'], dict(layer['config'])
        if config.get('batch_input_shape'):
            batch, _, *shape = config['batch_input_shape']
            config['batch_input_shape'] = [batch, *shape]
        if config.get('axis') == [4]:
            config['axis'] = [3]
        if kind in _IMAGES:
            for key in _LAYERS[_IMAGES[kind]][1]:
                config[key] = list(config[key][1:])
            if f'{name}/kernel' in arrays:
                arrays[f'{name}/kernel'] = arrays[f'{name}/kernel'][0]
            kind = _IMAGES[kind]
        elif '3D' in kind or kind in (*_OF_WHOLE, 'PReLU'):
            raise ValueError(f'layer {name!r} of class {kind} has none of images in its place')
        if depthwise and config.get('groups', 1) > 1 and arrays[f'{name}/kernel'].shape[2] == 1:
            kind, config = 'DepthwiseConv2D', _flatten_depthwise(name, config, arrays)
        found.append({**layer, 'class_name': kind, 'config': config})
    return found, arrays


def _pair(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * 2


def _last(axis: Any) -> Any:
    """Return -1 for the last axis of a batch of images, other axes as they are."""
    number = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    # Axis 4 of images does not exist.
    return -1 if number == 3 else ([None] if number == 4 else axis)


def _lift_depthwise(name: str, config: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Turn a depthwise convolution into one of a group for each channel, in place."""
    key = next((f'{name}/{one}' for one in _DEPTHWISE if f'{name}/{one}' in arrays), None)
    times = config.pop('depth_multiplier', 1)
    if key is None or len(arrays[key].shape) != 4:
        raise ValueError('no depthwise kernel')
    x, y, channels, _ = arrays[key].shape
    kernel = arrays.pop(key)
    arrays[f'{name}/kernel'] = _reshaped(kernel, lambda _: (1, x, y, 1, channels * times))
    config |= {'filters': channels * times, 'groups': channels}


def _flatten_depthwise(
    name: str, config: Mapping[str, Any], arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the settings of a convolution of each channel, whose kernel gets its shape."""
    times = config['filters'] // config['groups']
    values = arrays.pop(f'{name}/kernel')
    shape = (*values.shape[:2], config['groups'], times)
    arrays[f'{name}/{_DEPTHWISE[0]}'] = values.reshape(shape)
    dropped = ('filters', 'groups', 'kernel_initializer', 'kernel_regularizer')
    kept = {k: v for k, v in config.items() if k not in (*dropped, 'kernel_constraint')}
    return {**kept, 'depth_multiplier': times}


def _reshaped(array: np.ndarray | Stored, shape_of: Any) -> np.ndarray | Stored:
    shape = shape_of(tuple(array.shape))
    if isinstance(array, Stored):
        return replace(array, shape=shape, read=lambda: array.read().reshape(shape))
    return array.reshape(shape)
