"""The settings of each supported Keras layer, checked and translated into those of `Op`."""

from collections.abc import Callable, Mapping
from typing import Any

from ..network import LEAKY_SLOPE, MERGES

# Largest kernel, stride, dilation or padding, voxels, and number of filters; whole heads have 256.
LARGEST = 4096

Config = Mapping[str, Any]
# Kind and settings of an `Op`, and the shapes of its weights, with -1 for the input's channels.
Settings = tuple[str, dict[str, Any], dict[str, Any]]


def whole(value: Any, least: int = 1) -> int:
    """Return a whole number from JSON.

    Raises
    ------
    ValueError
        If it is something else, or not from ``least`` to `LARGEST`.
    """
    if type(value) is not int or not least <= value <= LARGEST:
        raise ValueError(f'{value!r} where a whole number of {least} to {LARGEST} is expected')
    return value


def _number(value: Any, least: float, most: float) -> float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f'{value!r} where a number of {least:g} to {most:g} is expected')
    return float(value)


def _slope(value: Any) -> float:
    return _number(value, 0, 1e3)


def _epsilon(value: Any) -> float:
    return _number(value, 0, 1)


def _triple(value: Any) -> tuple[int, int, int]:
    x, y, z = map(whole, value if isinstance(value, (list, tuple)) else [value] * 3)
    return x, y, z


def _padding(config: Config, default: str = 'valid') -> str:
    padding = str(config.get('padding', default))
    if padding not in ('same', 'valid'):
        raise ValueError(f'padding {padding!r}')
    return padding


def _conv(config: Config) -> Settings:
    filters, size = whole(config['filters']), _triple(config['kernel_size'])
    settings = {
        'filters': filters,
        'strides': _triple(config.get('strides', 1)),
        'dilation': _triple(config.get('dilation_rate', 1)),
        'padding': _padding(config),
        'groups': whole(config.get('groups', 1)),
    }
    bias = {'bias': (filters,)} if config.get('use_bias', True) else {}
    return 'conv', settings, {'kernel': (*size, -1, filters), **bias}


def _conv_transpose(config: Config) -> Settings:
    if config.get('output_padding') is not None:
        raise ValueError('output_padding is not supported')
    _, settings, shapes = _conv(config)
    *size, _, filters = shapes['kernel']
    return 'conv_transpose', settings, {**shapes, 'kernel': (*size, filters, -1)}


def _dense(config: Config) -> Settings:
    # A matrix product for each voxel.
    units = whole(config['units'])
    settings = {
        'filters': units,
        'strides': (1, 1, 1),
        'dilation': (1, 1, 1),
        'padding': 'valid',
        'groups': 1,
    }
    bias = {'bias': (units,)} if config.get('use_bias', True) else {}
    return 'conv', settings, {'kernel': (-1, units), **bias}


def _affine(config: Config) -> dict[str, Any]:
    names = {'gamma': 'scale', 'beta': 'center'}
    return {name: (-1,) for name, switch in names.items() if config.get(switch, True)}


def _batch_norm(config: Config) -> Settings:
    axis = config.get('axis', -1)
    if (axis[0] if isinstance(axis, list) else axis) not in (-1, 4):
        raise ValueError(f'normalisation over axis {axis}, expected the last one')
    shapes = {**_affine(config), 'moving_mean': (-1,), 'moving_variance': (-1,)}
    return 'batch_norm', {'epsilon': _epsilon(config.get('epsilon', 1e-3))}, shapes


def _group_norm(config: Config) -> Settings:
    if config.get('axis', -1) not in (-1, 4):
        raise ValueError(f'normalisation over axis {config["axis"]}, expected the last one')
    groups = config.get('groups', 32)
    groups = groups if groups == -1 else whole(groups)
    settings = {'groups': groups, 'epsilon': _epsilon(config.get('epsilon', 1e-3))}
    return 'group_norm', settings, _affine(config)


def _instance_norm(config: Config) -> Settings:
    if 'groups' not in config:
        raise ValueError(
            'instance normalisation of keras-contrib, which adds epsilon to the deviation; '
            'expected GroupNormalization(groups=-1)'
        )
    return _group_norm({**config, 'groups': -1})


def _slab_norm(config: Config) -> Settings:
    _, settings, shapes = _group_norm({'groups': 4, 'epsilon': 1e-5, **config})
    order = tuple(config.get('order', (0, 1, 2)))
    if sorted(order) != [0, 1, 2] or settings['groups'] == -1:
        raise ValueError(f'groups {settings["groups"]} in the order {order}')
    return 'slab_norm', {**settings, 'order': order}, shapes


def _layer_norm(config: Config) -> Settings:
    axis = config.get('axis', -1)
    if axis not in (-1, 4, [-1], [4]) or config.get('rms_scaling'):
        raise ValueError(f'normalisation over axis {axis}, expected the last one')
    return 'layer_norm', {'epsilon': _epsilon(config.get('epsilon', 1e-3))}, _affine(config)


def activation_settings(config: Config) -> Settings:
    function = config['activation']
    if isinstance(function, Mapping):
        # Keras 3 writes a function of its own or of ours by its name.
        function = function['config']
    if not isinstance(function, str):
        raise ValueError(f'activation {function!r}')
    # The package that registered a function stands before its name.
    function = function.removeprefix('brainchop>')
    alpha = LEAKY_SLOPE if function == 'leaky_relu' else 1.0
    return 'activation', {'function': function, 'alpha': alpha}, {}


def _relu(config: Config) -> Settings:
    top, slope = config.get('max_value'), _slope(config.get('negative_slope') or 0)
    if config.get('threshold') or top not in (None, 6) or (top and slope):
        raise ValueError(f'a ReLU with {dict(config)}')
    if slope:
        return 'activation', {'function': 'leaky_relu', 'alpha': slope}, {}
    return 'activation', {'function': 'relu6' if top else 'relu', 'alpha': 1.0}, {}


def _leaky(config: Config) -> Settings:
    slope = config.get('negative_slope', config.get('alpha', 0.3))
    return 'activation', {'function': 'leaky_relu', 'alpha': _slope(slope)}, {}


def _prelu(config: Config) -> Settings:
    axes = config.get('shared_axes')
    if not isinstance(axes, list) or sorted(axes) != [1, 2, 3]:
        raise ValueError(f'PReLU with shared_axes {axes}; expected [1, 2, 3]')
    return 'prelu', {}, {'alpha': (1, 1, 1, -1)}


def _elu(config: Config) -> Settings:
    return 'activation', {'function': 'elu', 'alpha': _slope(config.get('alpha', 1.0))}, {}


def _softmax(config: Config) -> Settings:
    _last_axis(config)
    return 'activation', {'function': 'softmax', 'alpha': 1.0}, {}


def _max_pool(config: Config) -> Settings:
    size = _triple(config.get('pool_size', 2))
    strides = _triple(config.get('strides') or size)
    return 'max_pool', {'size': size, 'strides': strides, 'padding': _padding(config)}, {}


def _avg_pool(config: Config) -> Settings:
    return 'avg_pool', _max_pool(config)[1], {}


def _global_pool(function: str) -> Callable[[Config], Settings]:
    return lambda config: ('global_pool', {'function': function}, {})


def _upsample(config: Config) -> Settings:
    return 'upsample', {'size': _triple(config.get('size', 2))}, {}


def _sides(name: str, kind: str) -> Callable[[Config], Settings]:
    """Return the reader of a layer with two numbers for each axis."""

    def read(config: Config) -> Settings:
        padding = config.get(name, 1)
        if not isinstance(padding, (list, tuple)):
            padding = [padding] * 3
        pairs = tuple(tuple(p) if isinstance(p, (list, tuple)) else (p, p) for p in padding)
        if [len(pair) for pair in pairs] != [2, 2, 2]:
            raise ValueError(f'{name} {padding}')
        return kind, {'padding': tuple(tuple(whole(n, 0) for n in pair) for pair in pairs)}, {}

    return read


def _function(name: str) -> Callable[[Config], Settings]:
    """Return the reader of a function of Keras or TensorFlow that was called as a layer."""

    def read(config: Config) -> Settings:
        if name == 'leaky_relu':
            return _leaky({'alpha': LEAKY_SLOPE, **config})
        tanh = name == 'gelu' and config.get('approximate', False)
        return activation_settings({'activation': 'gelu_tanh' if tanh else name})

    return read


def _last_axis(config: Config) -> None:
    if config.get('axis', -1) not in (-1, 4):
        raise ValueError(f'axis {config["axis"]}, expected the last one')


def _concatenate(config: Config) -> Settings:
    _last_axis(config)
    return 'concatenate', {}, {}


def _merge(kind: str) -> Callable[[Config], Settings]:
    return lambda config: (kind, {}, {})


LAYERS: dict[str, Callable[[Config], Settings]] = {
    'Conv3D': _conv,
    'Conv3DTranspose': _conv_transpose,
    'Dense': _dense,
    'BatchNormalization': _batch_norm,
    'GroupNormalization': _group_norm,
    'InstanceNormalization': _instance_norm,
    'LayerNormalization': _layer_norm,
    # A layer of ours and Nobrainer's.
    'SlabNormalization': _slab_norm,
    'Activation': activation_settings,
    'ReLU': _relu,
    'LeakyReLU': _leaky,
    'PReLU': _prelu,
    'ELU': _elu,
    'Softmax': _softmax,
    'MaxPooling3D': _max_pool,
    'AveragePooling3D': _avg_pool,
    'GlobalAveragePooling3D': _global_pool('average'),
    'GlobalMaxPooling3D': _global_pool('max'),
    'UpSampling3D': _upsample,
    'ZeroPadding3D': _sides('padding', 'zero_pad'),
    'Cropping3D': _sides('cropping', 'crop'),
    'Concatenate': _concatenate,
    **{name.title(): _merge(name) for name in MERGES},
}
# Functions that may be called in place of layers, by their classes in Keras 3; those of Keras 2
# and TensorFlow are in `FUNCTIONS`.
_CALLED = {
    'Relu': 'relu', 'Relu6': 'relu6', 'LeakyRelu': 'leaky_relu', 'Elu': 'elu', 'Selu': 'selu',
    'Silu': 'silu', 'Sigmoid': 'sigmoid', 'Softplus': 'softplus', 'Softsign': 'softsign',
    'Tanh': 'tanh', 'Gelu': 'gelu', 'Mish': 'mish', 'Exp': 'exponential',
}  # fmt: skip
LAYERS |= {kind: _function(name) for kind, name in _CALLED.items()}
FUNCTIONS = {
    '__operators__.add': 'Add', 'math.add': 'Add', 'math.subtract': 'Subtract',
    'math.multiply': 'Multiply', 'math.maximum': 'Maximum', 'math.minimum': 'Minimum',
    'concat': 'Concatenate', 'identity': 'Identity', 'nn.relu': 'Relu', 'nn.relu6': 'Relu6',
    'nn.leaky_relu': 'LeakyRelu', 'nn.elu': 'Elu', 'nn.selu': 'Selu', 'nn.silu': 'Silu',
    'nn.swish': 'Silu', 'nn.sigmoid': 'Sigmoid', 'math.sigmoid': 'Sigmoid', 'nn.gelu': 'Gelu',
    'nn.softplus': 'Softplus', 'math.softplus': 'Softplus', 'nn.softsign': 'Softsign',
    'nn.tanh': 'Tanh', 'math.tanh': 'Tanh', 'nn.softmax': 'Softmax', 'math.exp': 'Exp',
}  # fmt: skip
