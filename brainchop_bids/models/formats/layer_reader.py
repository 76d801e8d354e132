"""Keras' own words for a network, as TensorFlow.js, ``.keras`` and ``.h5`` files have them.

Nothing in a file is ever executed: each layer is understood from a short list of settings, and a
layer that is not in the list is refused. Keras' own readers are no help in any case, since they
would silently lose the normalisation that brainchop's files imply by a layer's name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from ..network import ACTIVATIONS, LEAKY_SLOPE, Network, Op

# Brainchop's mark of a convolution whose output is normalised per channel (mindgrab).
NORM_MARK = '_gn'
MARK_EPSILON = 1e-5

_SYNONYMS = {'swish': 'silu', 'gelu_new': 'gelu_tanh'}
_IGNORED = (
    'Dropout', 'SpatialDropout3D', 'GaussianDropout', 'AlphaDropout', 'GaussianNoise', 'Identity',
)  # fmt: skip

Config = Mapping[str, Any]
Weights = Mapping[str, np.ndarray]


def topology(config: Any, source: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return the layers of a model's configuration, and the name of the one it gives out.

    Parameters
    ----------
    config : object
        What ``class_name`` and ``config`` hold in a file.
    source : Path
        The file.

    Raises
    ------
    ModelError
        Where it is no Functional or Sequential model.
    """
    try:
        kind, inner = config['class_name'], config['config']
        layers = inner if isinstance(inner, list) else inner['layers']
        if kind not in ('Functional', 'Model', 'Sequential'):
            raise ValueError(f'a model of class {kind!r}')
        for layer in layers:
            # Sequential files name a layer in its configuration only.
            layer.setdefault('name', layer['config']['name'])
            if not isinstance(layer['class_name'], str):
                raise ValueError(f'layer {layer["name"]!r} without a class')
        if not layers:
            raise ValueError('no layers')
        outputs = [] if isinstance(inner, list) else inner.get('output_layers') or []
        # Of one output Keras 3 writes the output itself in place of a list of them.
        if outputs and not isinstance(outputs[0], list):
            outputs = [outputs]
        if len(outputs) > 1:
            raise ValueError(f'{len(outputs)} outputs')
        return list(layers), safe_name(outputs[0][0]) if outputs else None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f'{source}: its topology is not understood ({error}); expected the configuration '
            'of a Functional or Sequential Keras model with one output'
        ) from error


def network_from_layers(
    source: Path,
    layers: Sequence[Config],
    weights: Weights,
    *,
    output: str | None = None,
    files: tuple[Path, ...] = (),
) -> Network:
    """Make a network of Keras layers and their weights.

    Parameters
    ----------
    source : Path
        The file, for messages.
    layers : sequence of mapping
        ``class_name``, ``name``, ``config`` and ``inbound_nodes`` of each.
    weights : mapping of str to array
        ``layer/variable`` to values.
    output : str, optional
        Name of the layer that gives the output; by default the last one.
    files : tuple of Path
        All files that these are from.

    Returns
    -------
    Network
        Without layers that only matter in training; activations stand alone.

    Raises
    ------
    ModelError
        For layers or settings that are not supported, and weights that are missing, left over,
        not finite or of another shape than the layer's.
    """
    # Upstream's runtime takes the tanh form of GELU for its own networks, which are those with
    # marked layers; elsewhere the name means what it means in Keras.
    marked = any(str(layer['name']).endswith(NORM_MARK) for layer in layers)
    reader = _Reader(source, dict(weights), marked)
    for layer in layers:
        try:
            reader.read(layer)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ModelError(
                f'{source}: layer {layer["name"]!r} is not understood ({error})'
            ) from error
    return reader.network(output, files)


def safe_name(name: object) -> str:
    """Return a layer's name without slashes, which Keras reserves for paths of variables."""
    return str(name).replace('/', '_')


@dataclass
class _Reader:
    """Reads layer after layer."""

    source: Path
    weights: dict[str, np.ndarray]
    marked: bool
    ops: list[Op] = field(default_factory=list)
    # What each layer gives: the last of its operations.
    ends: dict[str, str] = field(default_factory=dict)
    shape: tuple[int | None, ...] = ()

    def read(self, layer: Config) -> None:
        kind, name, config = layer['class_name'], safe_name(layer['name']), layer['config']
        shape = config.get('batch_input_shape') or config.get('batch_shape')
        opens = not self.ops and bool(kind == 'InputLayer' or shape)
        if opens:
            self._open(shape)
        if kind == 'InputLayer':
            if not opens:
                raise ModelError(f'{self.source}: has several inputs; expected one')
            self.ends[name] = 'input'
            return
        if not self.ops:
            raise ModelError(
                f'{self.source}: does not say its input shape; expected an InputLayer'
            )
        sources = () if opens else _sources(layer)
        inputs = tuple(self.ends[source] for source in sources) or (self.ops[-1].name,)
        if kind in _IGNORED:
            self.ends[name] = inputs[0]
            return
        if kind not in _LAYERS:
            raise ModelError(
                f'{self.source}: layer {name!r} is of class {kind}, which is not supported; '
                f'expected one of {", ".join(sorted(_LAYERS))}'
            )
        if config.get('data_format') not in (None, 'channels_last'):
            raise ModelError(f'{self.source}: layer {name!r} is not channels_last')
        self._add(name, *_LAYERS[kind](config), inputs)
        if kind in ('Conv3D', 'Conv3DTranspose'):
            self._behind_convolution(name, config)
        self.ends[name] = self.ops[-1].name

    def _open(self, shape: Any) -> None:
        if not shape or len(shape) != 5 or not isinstance(shape[4], int):
            raise ModelError(
                f'{self.source}: its input has the shape {shape}; '
                'expected [batch, X, Y, Z, channels]'
            )
        self.shape = tuple(size or None for size in shape[1:4])
        self.ops.append(Op('input', 'input', (), shape[4]))

    def _behind_convolution(self, name: str, config: Config) -> None:
        if name.endswith(NORM_MARK):
            settings = {'groups': -1, 'epsilon': MARK_EPSILON}
            self._add(f'{name}_norm', 'group_norm', settings, {}, (name,))
        activation = config.get('activation') or 'linear'
        if activation != 'linear':
            made = _activation({'activation': activation})
            self._add(f'{name}_activation', *made, (self.ops[-1].name,))

    def _add(
        self,
        name: str,
        kind: str,
        settings: dict[str, Any],
        shapes: dict[str, Any],
        inputs: tuple[str, ...],
    ) -> None:
        """Append an operation; ``shapes`` names its weights, -1 for the channels that enter."""
        known = {op.name: op for op in self.ops}
        entering = [known[name].channels for name in inputs]
        if len(inputs) > 1 and kind not in ('add', 'concatenate'):
            raise ValueError(f'takes {len(inputs)} inputs')
        if kind == 'activation':
            self._check_function(name, settings)
        channels = sum(entering) if kind == 'concatenate' else entering[0]
        if kind == 'add' and len(set(entering)) > 1:
            raise ValueError(f'adds volumes of {entering} channels')
        groups = settings.get('groups', 1)
        if kind in ('conv', 'conv_transpose'):
            channels = int(settings.pop('filters'))
            if channels < 1 or groups < 1 or entering[0] % groups:
                raise ValueError(f'{channels} filters in {groups} groups of {entering[0]}')
        weights = {}
        for variable, shape in shapes.items():
            sizes = tuple(entering[0] // max(groups, 1) if n == -1 else n for n in shape)
            weights[variable] = self._take(name, variable, sizes)
        self.ops.append(Op(name, kind, inputs, channels, settings, weights))

    def _check_function(self, name: str, settings: dict[str, Any]) -> None:
        function = _SYNONYMS.get(settings['function'], settings['function'])
        if function == 'gelu' and self.marked:
            function = 'gelu_tanh'
        if function not in ACTIVATIONS:
            raise ModelError(
                f'{self.source}: layer {name!r} has the activation {function!r}; '
                f'expected one of {", ".join(sorted([*ACTIVATIONS, *_SYNONYMS]))}'
            )
        settings['function'] = function

    def _take(self, layer: str, variable: str, shape: tuple[int, ...]) -> np.ndarray:
        key = f'{layer}/{variable}'
        if key not in self.weights:
            raise ModelError(
                f'{self.source}: has no {key}, of shape {list(shape)}; fetch the model again'
            )
        values = np.asarray(self.weights.pop(key), np.float32)
        if values.shape != shape:
            raise ModelError(
                f'{self.source}: weight {key} has the shape {list(values.shape)}; its layer '
                f'needs {list(shape)}'
            )
        if not np.isfinite(values).all():
            raise ModelError(
                f'{self.source}: weight {key} holds values that are not finite; fetch the '
                'model again'
            )
        return values

    def network(self, output: str | None, files: tuple[Path, ...]) -> Network:
        if self.weights:
            names = ', '.join(sorted(self.weights)[:3])
            raise ModelError(
                f'{self.source}: no layer takes the weights {names}; its topology is incomplete'
            )
        if len(self.ops) < 2:
            raise ModelError(f'{self.source}: has no layers')
        if output is not None and output not in self.ends:
            raise ModelError(f'{self.source}: its output {output!r} is none of its layers')
        last = self.ops[-1].name if output is None else self.ends[output]
        needed = {last}
        for op in reversed(self.ops):
            if op.name in needed:
                needed.update(op.inputs)
        ops = tuple(op for op in self.ops if op.name in needed or op.kind == 'input')
        x, y, z = self.shape
        return Network(self.source, ops, (x, y, z), files)


def _sources(layer: Config) -> tuple[str, ...]:
    """Return the names of the layers that feed this one."""
    nodes = layer.get('inbound_nodes') or []
    if not nodes:
        return ()
    if len(nodes) > 1:
        raise ValueError('the layer is used more than once')
    if isinstance(nodes[0], dict):
        # Keras 3: tensors anywhere among the arguments of the call.
        return tuple(_histories(nodes[0].get('args', [])))
    return tuple(safe_name(source[0]) for source in nodes[0])


def _histories(value: Any) -> list[str]:
    if isinstance(value, dict):
        if 'keras_history' in value:
            return [safe_name(value['keras_history'][0])]
        return _histories(list(value.values()))
    if isinstance(value, (list, tuple)):
        return [name for part in value for name in _histories(part)]
    return []


def _triple(value: Any) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in (value if isinstance(value, (list, tuple)) else [value] * 3))
    if min(x, y, z) < 1:
        raise ValueError(f'{value} where sizes are expected')
    return x, y, z


def _padding(config: Config, default: str = 'valid') -> str:
    padding = str(config.get('padding', default))
    if padding not in ('same', 'valid'):
        raise ValueError(f'padding {padding!r}')
    return padding


Parts = tuple[str, dict[str, Any], dict[str, Any]]


def _conv(config: Config) -> Parts:
    filters, size = int(config['filters']), _triple(config['kernel_size'])
    settings = {
        'filters': filters,
        'strides': _triple(config.get('strides', 1)),
        'dilation': _triple(config.get('dilation_rate', 1)),
        'padding': _padding(config),
        'groups': int(config.get('groups', 1)),
    }
    bias = {'bias': (filters,)} if config.get('use_bias', True) else {}
    return 'conv', settings, {'kernel': (*size, -1, filters), **bias}


def _conv_transpose(config: Config) -> Parts:
    if config.get('output_padding') is not None:
        raise ValueError('output_padding is not supported')
    _, settings, shapes = _conv(config)
    *size, _, filters = shapes['kernel']
    return 'conv_transpose', settings, {**shapes, 'kernel': (*size, filters, -1)}


def _batch_norm(config: Config) -> Parts:
    axis = config.get('axis', -1)
    if (axis[0] if isinstance(axis, list) else axis) not in (-1, 4):
        raise ValueError(f'normalisation over axis {axis}, expected the last one')
    names = ['gamma'] * bool(config.get('scale', True)) + ['beta'] * bool(
        config.get('center', True)
    )
    shapes = {name: (-1,) for name in (*names, 'moving_mean', 'moving_variance')}
    return 'batch_norm', {'epsilon': float(config.get('epsilon', 1e-3))}, shapes


def _group_norm(config: Config) -> Parts:
    if config.get('axis', -1) not in (-1, 4):
        raise ValueError(f'normalisation over axis {config["axis"]}, expected the last one')
    if config.get('scale', True) or config.get('center', True):
        raise ValueError('scale and center are not supported')
    settings = {'groups': int(config.get('groups', 32)), 'epsilon': float(config['epsilon'])}
    return 'group_norm', settings, {}


def _activation(config: Config) -> Parts:
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


def _relu(config: Config) -> Parts:
    top, slope = config.get('max_value'), float(config.get('negative_slope') or 0)
    if config.get('threshold') or top not in (None, 6) or (top and slope):
        raise ValueError(f'a ReLU with {dict(config)}')
    if slope:
        return 'activation', {'function': 'leaky_relu', 'alpha': slope}, {}
    return 'activation', {'function': 'relu6' if top else 'relu', 'alpha': 1.0}, {}


def _leaky(config: Config) -> Parts:
    slope = config.get('negative_slope', config.get('alpha', 0.3))
    return 'activation', {'function': 'leaky_relu', 'alpha': float(slope)}, {}


def _elu(config: Config) -> Parts:
    return 'activation', {'function': 'elu', 'alpha': float(config.get('alpha', 1.0))}, {}


def _softmax(config: Config) -> Parts:
    _last_axis(config)
    return 'activation', {'function': 'softmax', 'alpha': 1.0}, {}


def _max_pool(config: Config) -> Parts:
    size = _triple(config.get('pool_size', 2))
    strides = _triple(config.get('strides') or size)
    return 'max_pool', {'size': size, 'strides': strides, 'padding': _padding(config)}, {}


def _upsample(config: Config) -> Parts:
    return 'upsample', {'size': _triple(config.get('size', 2))}, {}


def _zero_pad(config: Config) -> Parts:
    padding = config.get('padding', 1)
    if not isinstance(padding, (list, tuple)):
        padding = [padding] * 3
    pairs = tuple(tuple(p) if isinstance(p, (list, tuple)) else (p, p) for p in padding)
    if len(pairs) != 3 or any(type(n) is not int or n < 0 for pair in pairs for n in pair):
        raise ValueError(f'padding {padding}')
    return 'zero_pad', {'padding': pairs}, {}


def _last_axis(config: Config) -> None:
    if config.get('axis', -1) not in (-1, 4):
        raise ValueError(f'axis {config["axis"]}, expected the last one')


def _concatenate(config: Config) -> Parts:
    _last_axis(config)
    return 'concatenate', {}, {}


_LAYERS: dict[str, Callable[[Config], Parts]] = {
    'Conv3D': _conv,
    'Conv3DTranspose': _conv_transpose,
    'BatchNormalization': _batch_norm,
    'GroupNormalization': _group_norm,
    'Activation': _activation,
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
