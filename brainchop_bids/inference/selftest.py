"""Self-test of a model: results of the engines compared with NumPy."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from importlib.util import find_spec

import numpy as np
from scipy.special import erf, expit

from ..image.normalise import normalise
from ..models.formats import read_network
from ..models.network import Network, Op
from ..models.spec import ModelSpec
from ..system.errors import ModelError
from .engine import Engine
from .tiles import cubes, whole

# Side of the test volume in voxels: wider than most dilations, computed in a second.
_SIZE = 24
# Frames of the test of a localiser.
_FRAMES = 3
_TOLERANCE = 1e-3


def has_tensorflow() -> bool:
    """Return True if TensorFlow is installed."""
    return find_spec('tensorflow') is not None


def self_test(spec: ModelSpec) -> float:
    """Compute a small random volume with each engine and with NumPy in double precision.

    Keras' engine is left out where TensorFlow is not installed.

    The volume is as the engines get it: with all channels, in sides of the network's stride, and
    for networks that were trained on cubes in several cubes, which are small here.

    Parameters
    ----------
    spec : ModelSpec
        The model.

    Returns
    -------
    float
        The largest difference between the logits of an engine and those of NumPy, relative to
        the largest logit.

    Raises
    ------
    ModelError
        If they differ by more than rounding errors.
    """
    from .openvino_engine import OpenvinoEngine

    network = read_network(spec.folder)[0]
    if spec.localises:
        return _frame_test(spec, network)
    side = -(-_SIZE // network.stride) * network.stride
    shape = [side] * 3
    if spec.block is not None:
        stride = network.stride
        sides = (max(n // stride * stride, stride) for n in spec.block)
        spec = replace(spec, input_shape=tuple(min(side, n) for n in sides))
        # Two cubes, of which the second is moved back inside the volume.
        shape = [spec.input_shape[0] * 3 // 2, *spec.input_shape[1:]]
    channels = [spec.in_channels] if spec.in_channels > 1 else []
    volume = np.random.default_rng(0).integers(0, 256, (*shape, *channels)).astype(np.uint8)
    expected = _logits(network, spec, volume)
    engines: list[Engine] = [OpenvinoEngine(spec)]
    if has_tensorflow():
        from .keras_engine import KerasEngine

        engines.append(KerasEngine(spec))
    return max(_off(spec, one.versions, one.logits(volume), expected) for one in engines)


def _off(spec: ModelSpec, engine: str, found: np.ndarray, expected: np.ndarray) -> float:
    off = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not off < _TOLERANCE:
        raise ModelError(
            f'{spec.folder}: {engine} computes a test volume {off:.2g} off what its weights say; '
            'is it installed as it should be?'
        )
    return off


def _frame_test(spec: ModelSpec, network: Network) -> float:
    """Compute a few random frames as `self_test` computes a volume."""
    from .localise.localiser import SIDE, Localiser

    shape = (_FRAMES, SIDE, SIDE)
    frames = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    given = normalise(frames, spec.normalization)
    expected = compute(network, given[..., None])
    off = _off(spec, 'OpenVINO', Localiser.of(spec).logits(given), expected)
    if not has_tensorflow():
        return off
    from ..models.keras_model import build_model

    by_keras = np.asarray(build_model(network)(given[..., None], training=False))
    return max(off, _off(spec, 'Keras', by_keras, expected))


def _logits(network: Network, spec: ModelSpec, volume: np.ndarray) -> np.ndarray:
    """Return the logits of a volume, (X, Y, Z, classes) float64, cube by cube if it has cubes."""
    # Engines return logits, so the softmax or sigmoid is left out.
    final = 'sigmoid' if network.classes == 1 else 'softmax'
    while network.ops[-1].is_activation(final, 'linear'):
        network = replace(network, ops=network.ops[:-1])
    channels = np.moveaxis(volume, -1, 0) if spec.in_channels > 1 else volume[None]
    given = np.stack([normalise(channel, spec.normalization) for channel in channels], -1)
    shape = volume.shape[:3]
    tiles = whole(shape) if spec.block is None else cubes(shape, spec.block)
    logits = np.zeros((*shape, spec.classes))
    for tile in tiles:
        made = compute(network, given[tile.outer])
        # A single channel is the logit of the second class, beside 0 for the first.
        logits[tile.own][..., -network.classes :] = made[tile.inner]
    return logits


def compute(network: Network, volume: np.ndarray) -> np.ndarray:
    """Compute a network with NumPy in double precision, which is exact but slow.

    Parameters
    ----------
    network : Network
        The network.
    volume : (X, Y, Z, channels) array
        Input of the network.

    Returns
    -------
    (X', Y', Z', classes) float64
        Output of the network.
    """
    values = {network.ops[0].name: volume.astype(np.float64)}
    for op in network.ops[1:]:
        values[op.name] = _COMPUTE[op.kind](op, *(values[name] for name in op.inputs))
    return values[network.ops[-1].name]


def _padded(op: Op, x: np.ndarray, size: tuple[int, ...], value: float = 0) -> np.ndarray:
    """Pad as TensorFlow does for 'same': an odd number has one more voxel at the end."""
    if op.settings['padding'] == 'valid':
        return x
    dilation = op.settings.get('dilation', (1, 1, 1))
    pairs = []
    for n, d, stride, length in zip(size, dilation, op.settings['strides'], x.shape, strict=False):
        reach = (n - 1) * d + 1
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        pairs.append((total // 2, total - total // 2))
    return np.pad(x, [*pairs, (0, 0)], constant_values=value)


def _taps(
    x: np.ndarray, size: tuple[int, ...], dilation: tuple[int, ...], strides: tuple[int, ...]
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Return, for each element of a kernel, the voxels that it is multiplied with."""
    counts = [
        (length - (n - 1) * d - 1) // s + 1
        for length, n, d, s in zip(x.shape, size, dilation, strides, strict=False)
    ]
    return [
        (
            place,
            x[
                tuple(
                    slice(i * d, i * d + (count - 1) * s + 1, s)
                    for i, d, count, s in zip(place, dilation, counts, strides, strict=True)
                )
            ],
        )
        for place in np.ndindex(*size)
    ]


def _conv(op: Op, x: np.ndarray) -> np.ndarray:
    settings, kernel = op.settings, op.weights['kernel'].astype(np.float64)
    parts = []
    groups = settings['groups']
    for piece, part in zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True):
        taps = _taps(
            _padded(op, piece, op.kernel_size),
            op.kernel_size,
            settings['dilation'],
            settings['strides'],
        )
        parts.append(sum(voxels @ part[place] for place, voxels in taps))
    result: np.ndarray = np.concatenate(parts, -1) + op.weights.get('bias', 0)
    return result


def _conv_transpose(op: Op, x: np.ndarray) -> np.ndarray:
    settings, kernel = op.settings, op.weights['kernel'].astype(np.float64)
    strides = settings['strides']
    reach = [(n - 1) * d + 1 for n, d in zip(op.kernel_size, settings['dilation'], strict=True)]
    shape = [(n - 1) * s + max(r, s) for n, s, r in zip(x.shape, strides, reach, strict=False)]
    result = np.zeros((*shape, op.channels))
    taps = _taps(result, op.kernel_size, settings['dilation'], strides)
    for place, voxels in taps:
        # Views of the result with the shape of the input.
        voxels[tuple(slice(n) for n in x.shape[:3])] += x @ kernel[place].T
    if settings['padding'] == 'same':
        cut = [max(r - s, 0) // 2 for r, s in zip(reach, strides, strict=True)]
        result = result[
            tuple(slice(c, c + n * s) for c, n, s in zip(cut, x.shape, strides, strict=False))
        ]
    return result + op.weights.get('bias', 0)


def _batch_norm(op: Op, x: np.ndarray) -> np.ndarray:
    weights = op.weights
    scale = weights.get('gamma', 1) / np.sqrt(weights['moving_variance'] + op.settings['epsilon'])
    result: np.ndarray = (x - weights['moving_mean']) * scale + weights.get('beta', 0)
    return result


def _affine(op: Op, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = x * op.weights.get('gamma', 1) + op.weights.get('beta', 0)
    return result


def _group_norm(op: Op, x: np.ndarray) -> np.ndarray:
    groups = op.channels if op.settings['groups'] == -1 else op.settings['groups']
    pieces = np.split(x, groups, -1)
    normed = [(p - p.mean()) / np.sqrt(p.var() + op.settings['epsilon']) for p in pieces]
    return _affine(op, np.concatenate(normed, -1))


def _layer_norm(op: Op, x: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(x.var(-1, keepdims=True) + op.settings['epsilon'])
    return _affine(op, (x - x.mean(-1, keepdims=True)) / deviation)


def _slab_norm(op: Op, x: np.ndarray) -> np.ndarray:
    order = (*op.settings['order'], 3)
    turned = x.transpose(order)
    runs = turned.reshape(op.settings['groups'], -1)
    deviation = np.sqrt(runs.var(1, keepdims=True) + op.settings['epsilon'])
    runs = (runs - runs.mean(1, keepdims=True)) / deviation
    shape = (op.settings['groups'], -1, op.channels // op.settings['groups'])
    for weights, function in (('gamma', np.multiply), ('beta', np.add)):
        if weights in op.weights:
            factors = op.weights[weights].reshape(shape)
            runs = function(runs.reshape(shape), factors).reshape(runs.shape)
    return runs.reshape(turned.shape).transpose(np.argsort(order))


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return result


# Constants of Klambauer et al. (2017), https://arxiv.org/abs/1706.02515.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_FUNCTIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    'linear': lambda x, a: x,
    'relu': lambda x, a: np.maximum(x, 0),
    'relu6': lambda x, a: np.clip(x, 0, 6),
    'leaky_relu': lambda x, a: np.where(x > 0, x, a * x),
    'elu': lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
    'selu': lambda x, a: (
        _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0)))
    ),
    'silu': lambda x, a: x * expit(x),
    'sigmoid': lambda x, a: expit(x),
    'softplus': lambda x, a: np.logaddexp(0, x),
    'tanh': lambda x, a: np.tanh(x),
    'gelu': lambda x, a: x * (1 + erf(x / np.sqrt(2))) / 2,
    'gelu_tanh': lambda x, a: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    'mish': lambda x, a: x * np.tanh(np.logaddexp(0, x)),
    'softsign': lambda x, a: x / (1 + np.abs(x)),
    'exponential': lambda x, a: np.exp(x),
    'softmax': lambda x, a: _softmax(x),
}


def _activation(op: Op, x: np.ndarray) -> np.ndarray:
    return _FUNCTIONS[op.settings['function']](x, op.settings['alpha'])


def _max_pool(op: Op, x: np.ndarray) -> np.ndarray:
    size = op.settings['size']
    padded = _padded(op, x, size, -np.inf)
    taps = _taps(padded, size, (1, 1, 1), op.settings['strides'])
    return np.max([voxels for _, voxels in taps], axis=0)


def _avg_pool(op: Op, x: np.ndarray) -> np.ndarray:
    # Padding does not count.
    size, totals = op.settings['size'], []
    for values in (x, np.ones_like(x)):
        taps = _taps(_padded(op, values, size), size, (1, 1, 1), op.settings['strides'])
        totals.append(np.sum([voxels for _, voxels in taps], axis=0))
    return totals[0] / totals[1]


def _global_pool(op: Op, x: np.ndarray) -> np.ndarray:
    axes = (0, 1, 2)
    mean = op.settings['function'] == 'average'
    return np.asarray(x.mean(axes, keepdims=True) if mean else x.max(axes, keepdims=True))


def _crop(op: Op, x: np.ndarray) -> np.ndarray:
    pairs = zip(op.settings['padding'], x.shape, strict=False)
    return x[tuple(slice(before, length - after) for (before, after), length in pairs)]


def _upsample(op: Op, x: np.ndarray) -> np.ndarray:
    for axis, times in enumerate(op.settings['size']):
        x = np.repeat(x, times, axis)
    return x


_COMPUTE: dict[str, Callable[..., np.ndarray]] = {
    'conv': _conv,
    'conv_transpose': _conv_transpose,
    'batch_norm': _batch_norm,
    'group_norm': _group_norm,
    'layer_norm': _layer_norm,
    'slab_norm': _slab_norm,
    'activation': _activation,
    'prelu': lambda op, x: np.where(x > 0, x, op.weights['alpha'] * x),
    'max_pool': _max_pool,
    'avg_pool': _avg_pool,
    'global_pool': _global_pool,
    'upsample': _upsample,
    'zero_pad': lambda op, x: np.pad(x, [*op.settings['padding'], (0, 0)]),
    'crop': _crop,
    'add': lambda op, *xs: reduce(np.add, xs),
    'subtract': lambda op, x, y: x - y,
    'multiply': lambda op, *xs: reduce(np.multiply, xs),
    'average': lambda op, *xs: reduce(np.add, xs) / len(xs),
    'maximum': lambda op, *xs: reduce(np.maximum, xs),
    'minimum': lambda op, *xs: reduce(np.minimum, xs),
    'concatenate': lambda op, *xs: np.concatenate(xs, -1),
}
