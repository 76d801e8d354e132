"""The settings of each supported Keras layer, checked and translated into those of `Op`."""

from collections.abc import Callable, Mapping
from typing import Any

from ..network import LEAKY_SLOPE

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


def _batch_norm(config: Config) -> Settings:
    axis = config.get('axis', -1)
    if (axis[0] if isinstance(axis, list) else axis) not in (-1, 4):
        raise ValueError(f'normalisation over axis {axis}, expected the last one')
    names = ['gamma'] * bool(config.get('scale', True)) + ['beta'] * bool(
        config.get('center', True)
    )
    shapes = {name: (-1,) for name in (*names, 'moving_mean', 'moving_variance')}
    return 'batch_norm', {'epsilon': _epsilon(config.get('epsilon', 1e-3))}, shapes


def _group_norm(config: Config) -> Settings:
    if config.get('axis', -1) not in (-1, 4):
        raise ValueError(f'normalisation over axis {config["axis"]}, expected the last one')
    if config.get('scale', True) or config.get('center', True):
        raise ValueError('scale and center are not supported')
    groups = config.get('groups', 32)
    groups = groups if groups == -1 else whole(groups)
    settings = {'groups': groups, 'epsilon': _epsilon(config.get('epsilon', 1e-3))}
    return 'group_norm', settings, {}


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


def _elu(config: Config) -> Settings:
    return 'activation', {'function': 'elu', 'alpha': _slope(config.get('alpha', 1.0))}, {}


def _softmax(config: Config) -> Settings:
    _last_axis(config)
    return 'activation', {'function': 'softmax', 'alpha': 1.0}, {}


def _max_pool(config: Config) -> Settings:
    size = _triple(config.get('pool_size', 2))
    strides = _triple(config.get('strides') or size)
    return 'max_pool', {'size': size, 'strides': strides, 'padding': _padding(config)}, {}


def _upsample(config: Config) -> Settings:
    return 'upsample', {'size': _triple(config.get('size', 2))}, {}


def _zero_pad(config: Config) -> Settings:
    padding = config.get('padding', 1)
    if not isinstance(padding, (list, tuple)):
        padding = [padding] * 3
    pairs = tuple(tuple(p) if isinstance(p, (list, tuple)) else (p, p) for p in padding)
    if [len(pair) for pair in pairs] != [2, 2, 2]:
        raise ValueError(f'padding {padding}')
    padding = tuple(tuple(whole(n, 0) for n in pair) for pair in pairs)
    return 'zero_pad', {'padding': padding}, {}


def _last_axis(config: Config) -> None:
    if config.get('axis', -1) not in (-1, 4):
        raise ValueError(f'axis {config["axis"]}, expected the last one')


def _concatenate(config: Config) -> Settings:
    _last_axis(config)
    return 'concatenate', {}, {}


LAYERS: dict[str, Callable[[Config], Settings]] = {
    'Conv3D': _conv,
    'Conv3DTranspose': _conv_transpose,
    'BatchNormalization': _batch_norm,
    'GroupNormalization': _group_norm,
    'Activation': activation_settings,
    'ReLU': _relu,
    'LeakyReLU': _leaky,
    'ELU': _elu,
    'Softmax': _softmax,
    'MaxPooling3D': _max_pool,
    'UpSampling3D': _upsample,
    'ZeroPadding3D': _zero_pad,
    'Add': lambda config: ('add', {}, {}),
    'Concatenate': _concatenate,
}
