"""Networks from Keras' layer configurations, as in TensorFlow.js, ``.keras`` and ``.h5`` files.

Nothing in a file is executed: only known settings of supported layers are read, and other layers
are refused. Keras' own readers would silently drop the normalisation that brainchop's files imply
by the name of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from ..network import ACTIVATIONS, Network, Op
from .files import Stored
from .layer_settings import LARGEST, LAYERS, Config, activation_settings
from .planar import lifted, of_images

# Suffix of the names of convolutions whose output is normalised per channel (mindgrab).
NORM_MARK = '_gn'
MARK_EPSILON = 1e-5

_SYNONYMS = {'swish': 'silu', 'gelu_new': 'gelu_tanh'}
_IGNORED = (
    'Dropout', 'SpatialDropout3D', 'GaussianDropout', 'AlphaDropout', 'GaussianNoise', 'Identity',
)  # fmt: skip

# Limits of the numbers of layers, channels, and values for each voxel of the input. The largest
# networks of the field have 500 layers and 2,048 channels.
_MOST_LAYERS = 4096
_MOST_CHANNELS = 1 << 14
_MOST_VALUES = 1 << 20

Weights = Mapping[str, np.ndarray | Stored]


def topology(config: Any, source: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return the layers in a model's configuration, and the name of the output layer.

    Parameters
    ----------
    config : object
        Configuration with ``class_name`` and ``config``.
    source : Path
        The file, for messages.

    Returns
    -------
    layers : list of dict
        Configuration of each layer.
    output : str or None
        None if the last layer is the output.

    Raises
    ------
    ModelError
        If it is not a Functional or Sequential model.
    """
    try:
        kind, inner = config['class_name'], config['config']
        layers = inner if isinstance(inner, list) else inner['layers']
        if kind not in ('Functional', 'Model', 'Sequential'):
            raise ValueError(f'a model of class {kind!r}')
        if len(layers) > _MOST_LAYERS:
            raise ValueError(f'{len(layers):,} layers, over {_MOST_LAYERS:,}')
        for layer in layers:
            # In Sequential models the name is in the configuration only.
            layer.setdefault('name', layer['config']['name'])
            if not isinstance(layer['class_name'], str) or not isinstance(layer['config'], dict):
                raise ValueError(f'layer {layer["name"]!r} without a class or settings')
        if not layers:
            raise ValueError('no layers')
        outputs = [] if isinstance(inner, list) else inner.get('output_layers') or []
        # Keras 3 writes a single output without a list around it.
        if outputs and not isinstance(outputs[0], list):
            outputs = [outputs]
        if len(outputs) > 1:
            raise ValueError(f'{len(outputs)} outputs')
        return list(layers), safe_name(outputs[0][0]) if outputs else None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f'{source}: its topology cannot be read ({error}); expected the configuration '
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
    reader = _Reader(source, dict(weights), marked)
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


def safe_name(name: object) -> str:
    """Return a layer's name without slashes, which Keras reserves for paths of variables."""
    return str(name).replace('/', '_')


@dataclass
class _Reader:
    """Reads the layers one by one."""

    source: Path
    weights: dict[str, np.ndarray | Stored]
    marked: bool
    ops: list[Op] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)
    # Last operation of each layer.
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
        if kind not in LAYERS:
            raise ModelError(
                f'{self.source}: layer {name!r} is of class {kind}, which is not supported; '
                f'expected one of {", ".join(sorted(LAYERS))}'
            )
        if config.get('data_format') not in (None, 'channels_last'):
            raise ModelError(f'{self.source}: layer {name!r} is not channels_last')
        self._add(name, *LAYERS[kind](config), inputs)
        if kind in ('Conv3D', 'Conv3DTranspose'):
            self._follow_convolution(name, config)
        self.ends[name] = self.ops[-1].name

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
        if len(inputs) > 1 and kind not in ('add', 'concatenate'):
            raise ValueError(f'takes {len(inputs)} inputs')
        if kind == 'activation':
            self._check_function(name, settings)
        channels = sum(given) if kind == 'concatenate' else given[0]
        if kind == 'add' and len(set(given)) > 1:
            raise ValueError(f'adds volumes of {given} channels')
        groups = settings.get('groups', 1)
        if kind in ('conv', 'conv_transpose'):
            channels = settings.pop('filters')
            if given[0] % groups:
                raise ValueError(f'{channels} filters in {groups} groups of {given[0]}')
        weights = {}
        for variable, shape in shapes.items():
            sizes = tuple(given[0] // max(groups, 1) if n == -1 else n for n in shape)
            weights[variable] = self._take(name, variable, sizes)
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
