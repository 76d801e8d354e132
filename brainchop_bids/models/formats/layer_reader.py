"""Networks from Keras' layer configurations, as in TensorFlow.js, ``.keras`` and ``.h5`` files.

Nothing in a file is executed: only known settings of supported layers are read, and other layers
are refused. Keras' own readers would silently drop the normalisation that brainchop's files imply
by the name of a layer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from ..grids import densities
from ..network import ACTIVATIONS, MERGES, Network, Op
from .files import Stored
from .layer_graph import call_settings, operands, safe_name
from .layer_settings import FUNCTIONS, LARGEST, LAYERS, Config, activation_settings, whole
from .planar import lifted, of_images

# Suffix of the names of convolutions whose output is normalised per channel (mindgrab).
NORM_MARK = '_gn'
MARK_EPSILON = 1e-5

_SYNONYMS = {'swish': 'silu', 'gelu_new': 'gelu_tanh'}
_IGNORED = (
    'Dropout', 'SpatialDropout3D', 'GaussianDropout', 'AlphaDropout', 'GaussianNoise', 'Identity',
    'ActivityRegularization',
)  # fmt: skip
# Functions that take a volume and numbers: factor and term.
_SCALINGS: dict[str, Callable[[list[Any]], tuple[float, float]]] = {
    'Add': lambda given: (1, sum(one for one in given if not isinstance(one, str))),
    'Multiply': lambda given: (math.prod(one for one in given if not isinstance(one, str)), 0),
    'Subtract': lambda given: (1, -given[1]) if isinstance(given[0], str) else (-1, given[0]),
}
_LARGEST_FACTOR = 1e6

# Limits of the numbers of channels, and values for each voxel of the input. The largest networks
# of the field have 2,048 channels.
_MOST_CHANNELS = 1 << 14
_MOST_VALUES = 1 << 20

Weights = Mapping[str, np.ndarray | Stored]


def network_from_layers(
    source: Path,
    layers: Sequence[Config],
    weights: Weights,
    *,
    output: str | None = None,
    files: tuple[Path, ...] = (),
) -> Network:
    """Build a network from the configurations and weights of Keras layers.

    Parameters
    ----------
    source : Path
        The file, for messages.
    layers : sequence of mapping
        ``class_name``, ``name``, ``config`` and ``inbound_nodes`` of each.
    weights : mapping of str to array
        ``layer/variable`` to values.
    output : str, optional
        Name of the output layer; by default the last one.
    files : tuple of Path
        All files of the model.

    Returns
    -------
    Network
        Without layers for training alone; activations are operations of their own.

    Raises
    ------
    ModelError
        If layers or settings are not supported, or weights are missing, unused, not finite or of
        the wrong shape.
    """
    # In networks with marked layers upstream's runtime uses the tanh form of GELU; in others the
    # name has Keras' meaning.
    marked = any(str(layer['name']).endswith(NORM_MARK) for layer in layers)
    images = bool(layers) and of_images(layers)
    if images:
        layers, weights = _lifted(source, layers, weights)
    reader = _Reader(source, dict(weights), marked, any(map(_is_nobrainers, layers)))
    for layer in layers:
        try:
            reader.read(layer)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            reason = f'no {error}' if isinstance(error, KeyError) else error
            raise ModelError(
                f'{source}: layer {layer["name"]!r} cannot be read ({reason})'
            ) from error
    return replace(reader.network(output, files), of_images=images)


def _lifted(
    source: Path, layers: Sequence[Config], weights: Weights
) -> tuple[Sequence[Config], Weights]:
    try:
        return lifted(layers, weights)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f'{source}: its layers of images cannot be read ({error})') from error


@dataclass
class _Reader:
    """Reads the layers one by one."""

    source: Path
    weights: dict[str, np.ndarray | Stored]
    marked: bool
    slabs: bool
    ops: list[Op] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)
    # Last operation of each layer.
    ends: dict[str, str] = field(default_factory=dict)
    shape: tuple[int | None, ...] = ()

    def read(self, layer: Config) -> None:
        kind, name, config = _class_of(layer), safe_name(layer['name']), layer['config']
        if layer['class_name'] == 'TFOpLambda':
            config = call_settings(layer)
        shape = config.get('batch_input_shape') or config.get('batch_shape')
        opens = not self.ops and bool(kind == 'InputLayer' or shape)
        if opens:
            self._open(shape)
        if kind == 'InputLayer':
            if not opens and 'path' not in layer:
                raise ModelError(f'{self.source}: has several inputs; expected one')
            self.ends[name] = self.ops[-1].name
            return
        if not self.ops:
            raise ModelError(
                f'{self.source}: does not say its input shape; expected an InputLayer'
            )
        given = [] if opens else operands(layer)
        sources = [self.ends[safe_name(one)] for one in given if isinstance(one, str)]
        inputs = tuple(sources) or (self.ops[-1].name,)
        if kind in _IGNORED or self._reshapes_one(kind, config, inputs):
            self.ends[name] = inputs[0]
            return
        if config.get('data_format') not in (None, 'channels_last'):
            raise ModelError(f'{self.source}: layer {name!r} is not channels_last')
        if kind == 'ZeroPadding3DChannels':
            self._pad_channels(name, whole(config['padding'], 0), inputs)
        elif kind == 'Rescaling':
            self._scale(name, config['scale'], config.get('offset', 0), inputs)
        elif kind in _SCALINGS and len(sources) == 1:
            self._scale(name, *_SCALINGS[kind](given), inputs)
        elif kind in LAYERS:
            self._read_layer(name, kind, config, inputs)
        else:
            raise ModelError(
                f'{self.source}: layer {name!r} is of class {kind}, which is not supported; '
                'export the network to ONNX, in Keras 3 with model.export("model.onnx", '
                'format="onnx"), and use that file'
            )
        self.ends[name] = self.ops[-1].name

    def _read_layer(self, name: str, kind: str, config: Config, inputs: tuple[str, ...]) -> None:
        if self.slabs and kind == 'GroupNormalization':
            kind = 'SlabNormalization'
        self._add(name, *LAYERS[kind](config), inputs)
        if kind in ('Conv3D', 'Conv3DTranspose', 'Dense'):
            self._follow_convolution(name, config)

    def _reshapes_one(self, kind: str, config: Config, inputs: tuple[str, ...]) -> bool:
        """Return whether a layer only adds axes to the single voxel of a global pooling."""
        if kind != 'Reshape':
            return False
        shape = [1, 1, 1, self.channels[inputs[0]]]
        single = densities(self.ops)[inputs[0]] == 0
        return single and list(config.get('target_shape', ())) == shape

    def _pad_channels(self, name: str, zeros: int, inputs: tuple[str, ...]) -> None:
        """Append a convolution that copies all channels between new ones of zeros (Nobrainer)."""
        count = self.channels[inputs[0]]
        if count + 2 * zeros > _MOST_CHANNELS >> 4:
            raise ValueError(f'{zeros} channels of zeros')
        kernel = np.eye(count, count + 2 * zeros, zeros, dtype=np.float32)[None, None, None]
        settings = {
            'strides': (1, 1, 1),
            'dilation': (1, 1, 1),
            'padding': 'valid',
            'groups': 1,
        }
        self._append(Op(name, 'conv', inputs, kernel.shape[-1], settings, {'kernel': kernel}))

    def _scale(self, name: str, factor: Any, term: Any, inputs: tuple[str, ...]) -> None:
        """Append a multiplication and an addition, as a normalisation of known moments."""
        count = self.channels[inputs[0]]
        values = {'gamma': factor, 'beta': term, 'moving_mean': 0, 'moving_variance': 1}
        weights = {}
        for variable, value in values.items():
            if type(value) not in (int, float) or abs(value) > _LARGEST_FACTOR:
                raise ValueError(f'{value!r} where a number is expected')
            weights[variable] = np.full(count, value, np.float32)
        self._append(Op(name, 'batch_norm', inputs, count, {'epsilon': 0.0}, weights))

    def _open(self, shape: Any) -> None:
        sizes = shape if isinstance(shape, list) else []
        if (
            len(sizes) != 5
            or not all(n is None or (type(n) is int and 0 <= n <= LARGEST) for n in sizes[1:])
            or not sizes[4]
        ):
            raise ModelError(
                f'{self.source}: its input has the shape {shape}; '
                f'expected [batch, X, Y, Z, channels], of 1 to {LARGEST}'
            )
        self.shape = tuple(size or None for size in sizes[1:4])
        self._append(Op('input', 'input', (), sizes[4]))

    def _follow_convolution(self, name: str, config: Config) -> None:
        if name.endswith(NORM_MARK):
            settings = {'groups': -1, 'epsilon': MARK_EPSILON}
            self._add(f'{name}_norm', 'group_norm', settings, {}, (name,))
        activation = config.get('activation') or 'linear'
        if activation != 'linear':
            operation = activation_settings({'activation': activation})
            self._add(f'{name}_activation', *operation, (self.ops[-1].name,))

    def _add(
        self,
        name: str,
        kind: str,
        settings: dict[str, Any],
        shapes: dict[str, Any],
        inputs: tuple[str, ...],
    ) -> None:
        """Append an operation with weights of these shapes, with -1 for the input's channels."""
        given = [self.channels[name] for name in inputs]
        if len(inputs) > 1 and kind not in (*MERGES, 'concatenate'):
            raise ValueError(f'takes {len(inputs)} inputs')
        if kind in MERGES and len(inputs) < 2:
            raise ValueError(f'{kind} of a volume and a number')
        if kind == 'subtract' and len(inputs) != 2:
            raise ValueError(f'subtracts {len(inputs)} inputs')
        if kind == 'activation':
            self._check_function(name, settings)
        channels = sum(given) if kind == 'concatenate' else max(given)
        if kind in MERGES and not {*given} <= {1, channels}:
            raise ValueError(f'{kind} of volumes of {given} channels')
        groups = settings.get('groups', 1)
        if kind in ('group_norm', 'slab_norm') and channels % abs(groups):
            raise ValueError(f'{channels} channels in {groups} groups')
        if kind in ('conv', 'conv_transpose'):
            channels = settings.pop('filters')
            if given[0] % groups:
                raise ValueError(f'{channels} filters in {groups} groups of {given[0]}')
        weights = {}
        for variable, shape in shapes.items():
            parts = groups if variable == 'kernel' else 1
            sizes = tuple(given[0] // parts if n == -1 else n for n in shape)
            values = self._take(name, variable, sizes)
            weights[variable] = values[None, None, None] if values.ndim == 2 else values
        if weights.get('moving_variance', np.zeros(1)).min() < 0:
            raise ValueError('a negative moving_variance')
        self._append(Op(name, kind, inputs, channels, settings, weights))

    def _append(self, op: Op) -> None:
        if op.name in self.channels:
            raise ValueError(f'the name {op.name!r} is used twice')
        if op.channels > _MOST_CHANNELS:
            raise ValueError(f'{op.channels:,} channels, over {_MOST_CHANNELS:,}')
        self.channels[op.name] = op.channels
        self.ops.append(op)

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
        stored = self.weights.pop(key)
        # Before anything is read.
        if tuple(stored.shape) != shape:
            raise ModelError(
                f'{self.source}: weight {key} has the shape {list(stored.shape)}; its layer '
                f'needs {list(shape)}'
            )
        values = stored.read() if isinstance(stored, Stored) else stored
        # Double precision may go beyond single precision; the check below finds it.
        with np.errstate(over='ignore'):
            values = np.asarray(values, np.float32)
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
        network = Network(self.source, ops, (x, y, z), files)
        for name, density in network.density.items():
            if density * self.channels[name] > _MOST_VALUES:
                raise ModelError(
                    f'{self.source}: layer {name!r} makes {density * self.channels[name]:.3g} '
                    f'values of each voxel, over {_MOST_VALUES:,}; such a network is refused'
                )
        padded = sum(max(map(max, op.settings['padding'])) for op in ops if op.kind == 'zero_pad')
        if network.stride > LARGEST or padded > LARGEST:
            raise ModelError(
                f'{self.source}: its grids have voxels or zeros of over {LARGEST} voxels of the '
                'input; such a network is refused'
            )
        return network


def _class_of(layer: Config) -> str:
    """Return the name of a layer's class without its package; of a function, its class."""
    kind = str(layer['class_name']).rpartition('>')[2]
    if kind in ('TFOpLambda', 'SlicingOpLambda'):
        function = str(layer['config'].get('function'))
        return FUNCTIONS.get(function, f'{kind} ({function!r})')
    return kind


def _is_nobrainers(layer: Config) -> bool:
    """Return whether a layer is from Nobrainer, whose group normalisation is another one.

    Its ``.h5`` files do not name packages; but dropout that is active at inference, too, is in
    the networks of that package which have group normalisation.
    """
    if str(layer.get('module', '')).startswith('nobrainer.'):
        return True
    nodes = layer.get('inbound_nodes') or []
    dropped = layer['class_name'] == 'SpatialDropout3D' and 'module' not in layer
    return dropped and "'training': True" in repr(nodes)
