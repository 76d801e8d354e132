"""Keras models from the tfjs layers format, built from the topology's own words.

Nothing in a file is ever executed: each layer is built here from a short list of settings, and
a layer that is not in the list is refused. Keras' own reader is no help in any case, since it
would silently lose the normalisation that brainchop's files imply by a layer's name.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ...errors import ModelError
from ...publish import publish, text_writer
from ..meshnet import ACTIVATIONS, channel_norm
from .manifest import TOPOLOGY, LayersModel, read_layers_model

# Brainchop's mark of a convolution whose output is normalised per channel (mindgrab).
NORM_MARK = '_gn'

_IGNORED = ('Dropout', 'SpatialDropout3D', 'GaussianDropout', 'AlphaDropout', 'GaussianNoise')


def load_tfjs(folder: str | Path, *, input_shape: tuple[int | None, ...] | None = None) -> Any:
    """Build the Keras model of a tfjs layers-format folder.

    Parameters
    ----------
    folder : path
        A folder with ``model.json`` and its weight shards.
    input_shape : tuple of int or None, optional
        Spatial shape of the input; left open by default, whatever the file says, so that one
        model serves every volume.

    Returns
    -------
    keras.Model
        Input ``(batch, X, Y, Z, channels)``, output the logits (or whatever the file's last
        layer gives), float32. Layers that only matter in training are left out; a convolution
        marked ``_gn`` is followed by a normalisation of each channel over the volume.

    Raises
    ------
    ModelError
        For what `read_layers_model` refuses, layers or settings that are not supported, and
        weights that are missing, left over or of another shape than the layer's.
    """
    model = read_layers_model(folder)
    reader = _Reader(model, input_shape or (None, None, None))
    try:
        network = reader.build()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(
            f'{model.file}: layer {reader.current!r} is not understood ({error})'
        ) from error
    _set_weights(network, model)
    return network


class _Reader:
    """Builds layer after layer; remembers which one, for messages."""

    def __init__(self, model: LayersModel, shape: tuple[int | None, ...]) -> None:
        self.model = model
        self.shape = shape
        self.current = ''
        self.tensors: dict[str, Any] = {}
        self.inputs: list[Any] = []
        # Upstream's runtime takes the tanh form of GELU for its own networks, which are those
        # with marked layers; elsewhere the name means what it means in Keras.
        self.marked = any(str(layer['name']).endswith(NORM_MARK) for layer in model.layers)

    def build(self) -> Any:
        previous = ''
        for layer in self.model.layers:
            kind, name, config = layer['class_name'], str(layer['name']), layer['config']
            self.current = name
            open_input = not self.inputs and (
                kind == 'InputLayer' or 'batch_input_shape' in config or 'batch_shape' in config
            )
            if open_input:
                channels = (config.get('batch_input_shape') or config['batch_shape'])[4]
                self.inputs.append(keras.Input((*self.shape, channels), name='input'))
                self.tensors[name] = self.inputs[0]
            if kind == 'InputLayer':
                if not open_input:
                    raise ModelError(f'{self.model.file}: has several inputs; expected one')
            else:
                sources = [name] if open_input else _sources(layer) or [previous]
                arguments = [self.tensors[source] for source in sources]
                self.tensors[name] = self.layer(kind, name, config, arguments)
            previous = name
        return keras.Model(self.inputs[0], self.tensors[previous])

    def layer(self, kind: str, name: str, config: dict[str, Any], inputs: list[Any]) -> Any:
        if kind in _IGNORED:
            return inputs[0]
        if kind not in _BUILDERS:
            raise ModelError(
                f'{self.model.file}: layer {name!r} is of class {kind}, which is not supported; '
                f'expected one of {", ".join(sorted(_BUILDERS))}'
            )
        if config.get('data_format', 'channels_last') != 'channels_last':
            raise ModelError(f'{self.model.file}: layer {name!r} is not channels_last')
        built = _BUILDERS[kind](_safe(name), config)
        result = built(inputs if kind in _MERGING else inputs[0])
        if kind in ('Conv3D', 'Conv3DTranspose'):
            if name.endswith(NORM_MARK):
                result = channel_norm(_safe(name) + '_norm')(result)
            activation = config.get('activation') or 'linear'
            if activation != 'linear':
                result = self.activation(_safe(name) + '_activation', activation, result)
        elif kind == 'Activation':
            result = self.activation(_safe(name), config['activation'], inputs[0])
        return result

    def activation(self, name: str, kind: str, tensor: Any) -> Any:
        if kind == 'gelu' and self.marked:
            kind = 'gelu_tanh'
        if kind not in ACTIVATIONS:
            raise ModelError(
                f'{self.model.file}: layer {name!r} has the activation {kind!r}; '
                f'expected one of {", ".join(sorted(ACTIVATIONS))}'
            )
        return keras.layers.Activation(ACTIVATIONS[kind], name=name)(tensor)


def _safe(name: str) -> str:
    # Keras reserves the slash for paths of variables.
    return name.replace('/', '_')


def _sources(layer: dict[str, Any]) -> list[str]:
    """Return the names of the layers that feed this one, as Keras 2 files write them."""
    nodes = layer.get('inbound_nodes') or []
    if not nodes:
        return []
    if len(nodes) > 1:
        raise ValueError('the layer is used more than once')
    return [str(source[0]) for source in nodes[0]]


def _conv(name: str, config: Mapping[str, Any]) -> Any:
    return keras.layers.Conv3D(
        filters=config['filters'],
        kernel_size=config['kernel_size'],
        strides=config.get('strides', 1),
        padding=config.get('padding', 'valid'),
        dilation_rate=config.get('dilation_rate', 1),
        groups=config.get('groups', 1),
        use_bias=config.get('use_bias', True),
        name=name,
    )


def _transposed(name: str, config: Mapping[str, Any]) -> Any:
    if config.get('output_padding') is not None:
        raise ValueError('output_padding is not supported')
    return keras.layers.Conv3DTranspose(
        filters=config['filters'],
        kernel_size=config['kernel_size'],
        strides=config.get('strides', 1),
        padding=config.get('padding', 'valid'),
        dilation_rate=config.get('dilation_rate', 1),
        use_bias=config.get('use_bias', True),
        name=name,
    )


def _batch_norm(name: str, config: Mapping[str, Any]) -> Any:
    axis = config.get('axis', -1)
    if (axis[0] if isinstance(axis, list) else axis) not in (-1, 4):
        raise ValueError(f'normalisation over axis {axis}, expected the last one')
    return keras.layers.BatchNormalization(
        epsilon=config.get('epsilon', 1e-3),
        center=config.get('center', True),
        scale=config.get('scale', True),
        name=name,
    )


def _leaky(name: str, config: Mapping[str, Any]) -> Any:
    slope = config.get('negative_slope', config.get('alpha', 0.3))
    return keras.layers.LeakyReLU(negative_slope=slope, name=name)


def _relu(name: str, config: Mapping[str, Any]) -> Any:
    return keras.layers.ReLU(
        max_value=config.get('max_value'),
        negative_slope=config.get('negative_slope') or 0.0,
        threshold=config.get('threshold') or 0.0,
        name=name,
    )


_BUILDERS: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
    'Conv3D': _conv,
    'Conv3DTranspose': _transposed,
    'BatchNormalization': _batch_norm,
    'Activation': lambda name, config: keras.layers.Identity(),
    'ReLU': _relu,
    'LeakyReLU': _leaky,
    'ELU': lambda name, config: keras.layers.ELU(alpha=config.get('alpha', 1.0), name=name),
    'Softmax': lambda name, config: keras.layers.Softmax(axis=config.get('axis', -1), name=name),
    'Add': lambda name, config: keras.layers.Add(name=name),
    'Concatenate': lambda name, config: keras.layers.Concatenate(
        axis=config.get('axis', -1), name=name
    ),
}
_MERGING = ('Add', 'Concatenate')


def _set_weights(network: Any, model: LayersModel) -> None:
    """Give each layer its weights, by name; none may be missing, left over or misshapen."""
    given: dict[tuple[str, str], np.ndarray] = {}
    for name, values in model.weights():
        layer, _, variable = name.rpartition('/')
        given[(layer.rpartition('/')[2], variable)] = values
    for layer in network.layers:
        for variable in layer.weights:
            key = (layer.name, variable.name)
            if key not in given:
                raise ModelError(
                    f'{model.file}: its weight manifest has no {layer.name}/{variable.name}, '
                    f'of shape {list(variable.shape)}; fetch the model again'
                )
            values = given.pop(key)
            if values.shape != tuple(variable.shape):
                raise ModelError(
                    f'{model.file}: weight {layer.name}/{variable.name} has the shape '
                    f'{list(values.shape)}; its layer needs {list(variable.shape)}'
                )
            variable.assign(values)
    if given:
        names = ', '.join('/'.join(key) for key in sorted(given)[:3])
        raise ModelError(
            f'{model.file}: no layer takes the weights {names}; its topology is incomplete'
        )


def save_tfjs(model: Any, folder: Path, *, input_shape: tuple[int, int, int]) -> list[Path]:
    """Write a Keras model as a tfjs layers-format folder.

    Parameters
    ----------
    model : keras.Model
        A functional chain of the layers that `load_tfjs` reads, batch normalisation folded.
    folder : Path
        Gets ``model.json`` and one weight file.
    input_shape : tuple of 3 int
        The spatial shape to name in the file.

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    ModelError
        For a layer that the format has no place for here.
    OutputError
        Where they cannot be written.
    """
    layers, weights, data = [], [], b''
    previous = ''
    for layer in model.layers:
        # Only chains are written, so that the layer before is the one that feeds this one.
        layers.append(_described(layer, previous, input_shape))
        previous = layer.name
        for variable in layer.weights:
            values = np.asarray(keras.ops.convert_to_numpy(variable.value), '<f4')
            name = f'{layer.name}/{variable.name}'
            weights.append({'name': name, 'shape': list(values.shape), 'dtype': 'float32'})
            data += values.tobytes()
    shard = 'group1-shard1of1.bin'
    content = {
        'format': 'layers-model',
        'generatedBy': 'keras',
        'convertedBy': 'brainchop-bids',
        'modelTopology': {
            'keras_version': '2.7.0',
            'backend': 'tensorflow',
            'model_config': {
                'class_name': 'Functional',
                'config': {
                    'name': model.name,
                    'layers': layers,
                    'input_layers': [[layers[0]['name'], 0, 0]],
                    'output_layers': [[previous, 0, 0]],
                },
            },
        },
        'weightsManifest': [{'paths': [shard], 'weights': weights}],
    }
    files = [folder / shard, folder / TOPOLOGY]
    publish(
        [
            (files[0], lambda path: path.write_bytes(data)),
            (files[1], text_writer(json.dumps(content) + '\n')),
        ]
    )
    return files


def _described(layer: Any, previous: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return a layer in the words of Keras 2, which TensorFlow.js reads."""
    config: dict[str, Any] = {'name': layer.name, 'dtype': 'float32'}
    kind = type(layer).__name__
    if kind == 'InputLayer':
        config.update(batch_input_shape=[None, *shape, layer.batch_shape[-1]], sparse=False)
    elif kind == 'Conv3D' and layer.activation is keras.activations.linear:
        config.update(
            filters=layer.filters,
            kernel_size=list(layer.kernel_size),
            strides=list(layer.strides),
            padding=layer.padding,
            data_format='channels_last',
            dilation_rate=list(layer.dilation_rate),
            groups=layer.groups,
            activation='linear',
            use_bias=layer.use_bias,
        )
    elif kind == 'Activation':
        config['activation'] = keras.activations.serialize(layer.activation)
    else:
        raise ModelError(
            f'layer {layer.name!r} is a {kind}, which is not written; expected a chain of Conv3D '
            'and Activation layers (fold batch normalisation first)'
        )
    taken = [[[previous, 0, 0, {}]]] if previous else []
    return {'class_name': kind, 'name': layer.name, 'config': config, 'inbound_nodes': taken}
