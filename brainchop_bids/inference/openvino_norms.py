"""Normalisations, poolings and merges as OpenVINO's operations, ``[1, channels, X, Y, Z]``."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ..models.formats.exact_norms import normalise_rows
from ..models.network import Op


def _integers(ops: Any, *values: int) -> Any:
    return ops.constant(np.array(values, np.int64))


def _affine(ops: Any, op: Op, values: Any, shape: tuple[int, ...] = (1, -1, 1, 1, 1)) -> Any:
    """Return values times ``gamma`` plus ``beta``, which are reshaped."""
    for name, function in (('gamma', ops.multiply), ('beta', ops.add)):
        if name in op.weights:
            weights = np.ascontiguousarray(op.weights[name], np.float32).reshape(shape)
            values = function(values, ops.constant(weights))
    return values


def group_norm(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return a volume whose channels are normalised in groups."""
    groups, epsilon = op.settings['groups'], op.settings['epsilon']
    if op.is_per_channel:
        normed = ops.mvn(given[0], _integers(ops, 2, 3, 4), True, epsilon, 'inside_sqrt')
    else:
        one, zero = np.ones(op.channels, np.float32), np.zeros(op.channels, np.float32)
        constants = ops.constant(one), ops.constant(zero)
        normed = ops.group_normalization(given[0], *constants, groups, epsilon)
    return _affine(ops, op, normed)


def layer_norm(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return a volume of which each voxel is normalised over its channels."""
    epsilon = op.settings['epsilon']
    return _affine(ops, op, ops.mvn(given[0], _integers(ops, 1), True, epsilon, 'inside_sqrt'))


def slab_norm(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return a volume normalised as by `SlabNormalization`."""
    groups, order = op.settings['groups'], op.settings['order']
    shape, width = list(given[0].get_output_shape(0)), op.channels // op.settings['groups']
    axes = (0, *(axis + 2 for axis in order), 1)
    turned = ops.transpose(given[0], _integers(ops, *axes))
    # A run can be nearly constant, as air is: then an error of its mean is one of the result.
    runs = ops.reshape(turned, _integers(ops, groups, -1), False)
    normed = normalise_rows(ops, runs, op.settings['epsilon'])
    normed = ops.reshape(normed, _integers(ops, groups, -1, width), False)
    normed = _affine(ops, op, normed, (groups, 1, width))
    sides = [shape[axis] for axis in axes]
    whole = ops.reshape(normed, _integers(ops, *sides), False)
    return ops.transpose(whole, _integers(ops, *np.argsort(axes).tolist()))


def avg_pool(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return means of blocks, in which padding does not count."""
    settings = op.settings
    padding = 'same_upper' if settings['padding'] == 'same' else 'explicit'
    strides, size = list(settings['strides']), list(settings['size'])
    zeros = [0, 0, 0]
    return ops.avg_pool(given[0], strides, zeros, zeros, size, True, 'floor', padding)


def global_pool(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return the mean or the maximum of each channel as a single voxel."""
    function = {'average': ops.reduce_mean, 'max': ops.reduce_max}[op.settings['function']]
    return function(given[0], _integers(ops, 2, 3, 4), True)


def crop(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return a volume without voxels at its sides."""
    shape = list(given[0].get_output_shape(0))[2:]
    pairs = list(zip(op.settings['padding'], shape, strict=True))
    start = _integers(ops, *(before for (before, _), _ in pairs))
    stop = _integers(ops, *(length - after for (_, after), length in pairs))
    return ops.slice(given[0], start, stop, _integers(ops, 1, 1, 1), _integers(ops, 2, 3, 4))


def prelu(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return a leaky ReLU with a slope for each channel."""
    slope = np.ascontiguousarray(op.weights['alpha'].ravel(), np.float32)
    return ops.prelu(given[0], ops.constant(slope))


def merge(ops: Any, op: Op, given: list[Any]) -> Any:
    """Return the sum, product, mean or the like of several volumes."""
    functions: dict[str, Callable[[Any, Any], Any]] = {
        'add': ops.add,
        'average': ops.add,
        'subtract': ops.subtract,
        'multiply': ops.multiply,
        'maximum': ops.maximum,
        'minimum': ops.minimum,
    }
    merged = reduce(functions[op.kind], given)
    if op.kind == 'average':
        merged = ops.multiply(merged, ops.constant(np.float32(1 / len(given))))
    return merged


MAKERS: dict[str, Callable[[Any, Op, list[Any]], Any]] = {
    'group_norm': group_norm,
    'layer_norm': layer_norm,
    'slab_norm': slab_norm,
    'avg_pool': avg_pool,
    'global_pool': global_pool,
    'crop': crop,
    'prelu': prelu,
    **{kind: merge for kind in ('add', 'subtract', 'multiply', 'average', 'maximum', 'minimum')},
}
