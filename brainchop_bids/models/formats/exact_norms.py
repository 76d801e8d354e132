"""Normalisations over whole volumes that lose no digits in OpenVINO."""

import math
from typing import Any

import numpy as np

# Most values that are added in one float32 sum.
_MOST = 1024


def normalise_exactly(ops: Any, node: Any) -> None:
    """Replace an ``MVN`` over the last axes by operations whose sums are short.

    OpenVINO's own adds all values of a volume to one float32 number, which at 160^3 voxels is
    0.2 % off (measured with 2026.2 on a volume that is mostly air).

    Parameters
    ----------
    ops : module
        OpenVINO's operations.
    node : node
        The operation, in a model of static sizes.
    """
    shape = list(node.input(0).get_shape())
    axes = sorted(int(axis) % len(shape) for axis in _values(node))
    settings = node.get_attributes()
    first = len(shape) - len(axes)
    last = bool(axes) and axes == list(range(first, len(shape)))
    if not last or not settings['normalize_variance']:
        return
    rows, count = math.prod(shape[:first]), math.prod(shape[first:])
    inside = str(settings['eps_mode']).lower() == 'inside_sqrt'
    flat = _reshaped(ops, node.input_value(0), rows, count)
    normed = normalise_rows(ops, flat, settings['eps'], inside=inside)
    made = _reshaped(ops, normed, *shape)
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(made.output(0))


def normalise_rows(ops: Any, values: Any, epsilon: float, *, inside: bool = True) -> Any:
    """Return rows of mean 0 and variance 1, from sums that are short.

    Parameters
    ----------
    ops : module
        OpenVINO's operations.
    values : (rows, count) node
        The rows, of a static size.
    epsilon : float
        Added to the variance, or to its square root.
    inside : bool
        True if it is added to the variance.

    Returns
    -------
    (rows, count) node
    """
    rows, count = values.get_output_shape(0)

    def mean(values: Any) -> Any:
        left = count
        while left > 1:
            # The last sum is longer if there is no divisor.
            part = next((n for n in range(min(left, _MOST), 1, -1) if left % n == 0), left)
            left //= part
            weights = ops.constant(np.full((part, 1), 1 / part, np.float32))
            values = ops.matmul(_reshaped(ops, values, rows, left, part), weights, False, False)
        return _reshaped(ops, values, rows, 1)

    # What rounding leaves of the mean is large beside values that are nearly constant, as in air.
    centred = ops.subtract(values, mean(values))
    centred = ops.subtract(centred, mean(centred))
    variance = mean(ops.multiply(centred, centred))
    term = ops.constant(np.float32(epsilon))
    spread = ops.sqrt(ops.add(variance, term)) if inside else ops.add(ops.sqrt(variance), term)
    return ops.divide(centred, spread)


def _reshaped(ops: Any, values: Any, *sizes: int) -> Any:
    return ops.reshape(values, ops.constant(np.array(sizes, np.int64)), False)


def _values(node: Any) -> np.ndarray:
    """Return the axes of a normalisation, none if they are computed."""
    source = node.input_value(1).get_node()
    if source.get_type_name() != 'Constant':
        return np.zeros(0, int)
    axes: np.ndarray = np.ravel(source.get_data())
    return axes
