"""TensorFlow.js' layers format, read and written without Keras.

The format is that of the TensorFlow.js converter: ``model.json`` has ``modelTopology`` (a Keras
model's configuration) and ``weightsManifest`` (groups of weights, and the binary shards that
store the values of each group, little-endian).

TensorFlow.js has no 3-D upsampling. That of volumes by nearest neighbours is written as a
transposed convolution that copies each value to all its voxels, and recognised when it is read.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...system.atomic import publish, text_writer
from ...system.errors import ModelError
from ...system.files import IrregularFileError, require_regular
from ..network import Network, Op
from .files import Stored, inside, read_bytes, read_json
from .keras_files import numbered_weights
from .layer_graph import owner, owners, topology
from .layer_reader import network_from_layers
from .layer_writer import described, mark_normalised

TOPOLOGY = 'model.json'

# NumPy's types for the types in a manifest; the last ones are those of quantised weights.
_DTYPES = {'float32': '<f4', 'int32': '<i4'}
STORED = {'float32': '<f4', 'float16': '<f2'}
_QUANTISED = {'uint8': 'u1', 'uint16': '<u2', 'float16': '<f2'}
# Limit of scales of quantised weights, which times 65535 must be a float32.
_MOST = 1e30


@dataclass(frozen=True)
class Weight:
    """One array of a manifest.

    Parameters
    ----------
    name : str
        ``<layer>/<variable>``, e.g. ``conv3d_0/kernel``.
    shape : tuple of int
        Kernels are ``(D, H, W, Cin, Cout)``.
    dtype : str
        NumPy's code of the stored values.
    scale, shift : float
        Quantised integers stand for ``stored * scale + shift``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    shift: float = 0.0

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes in the shards."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class WeightGroup:
    """Weights that are stored consecutively in shards."""

    paths: tuple[Path, ...]
    weights: tuple[Weight, ...]


def read_tfjs(folder: Path) -> Network:
    """Read a folder in the layers format.

    Parameters
    ----------
    folder : Path
        A folder with ``model.json`` and its weight shards.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If a file is missing or cannot be read, a shard is outside the folder or has the wrong
        size, or `network_from_layers` refuses the network.
    """
    file = folder / TOPOLOGY
    content = read_json(file)
    if not is_tfjs(content):
        raise ModelError(
            f'{file}: has no "weightsManifest"; expected a model in the tfjs layers format'
        )
    config = content.get('modelTopology')
    if content.get('format') == 'graph-model' or (isinstance(config, dict) and 'node' in config):
        raise ModelError(
            f'{file}: is a TensorFlow.js graph model, which has no layers; use the Keras model '
            'that it was made from (.keras or .h5), or convert that with tensorflowjs_converter '
            '--output_format=tfjs_layers_model'
        )
    groups = tuple(
        _group(folder, entry) for entry in _weight_groups(content['weightsManifest'], folder)
    )
    for group in groups:
        _check_sizes(group)
    layers, output = topology(
        config.get('model_config') if isinstance(config, dict) else config, file
    )
    weights: dict[str, Stored] = {}
    names, numbered = owners(layers), dict(numbered_weights(layers))
    for name, values in _weights(groups):
        # A name may begin with scopes; the converter copies the names in .keras files.
        scope, _, variable = name.rpartition('/')
        key = numbered.get(name) or f'{owner(names, scope)}/{variable}'
        if key in weights:
            raise ModelError(f'{file}: its weight manifest has {key} twice')
        weights[key] = values
    shards = tuple(path for group in groups for path in group.paths)
    network = network_from_layers(file, layers, weights, output=output, files=(file, *shards))
    return replace(network, ops=tuple(map(_as_upsampling, network.ops)))


def is_tfjs(content: Any) -> bool:
    """Return whether the content of a ``model.json`` is of this format."""
    return isinstance(content, dict) and 'weightsManifest' in content


def _weight_groups(value: object, folder: Path) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ModelError(f'{folder / TOPOLOGY}: "weightsManifest" is not a list of weight groups')
    return value


def _weights(groups: tuple[WeightGroup, ...]) -> Iterator[tuple[str, Stored]]:
    """Yield each weight's name and values, as float32 in its own shape."""
    for group in groups:
        data, start = cache(partial(_shards, group)), 0
        for weight in group.weights:
            yield weight.name, Stored(weight.shape, partial(_values, data, weight, start))
            start += weight.nbytes


def _shards(group: WeightGroup) -> bytes:
    data = b''.join(read_bytes(path) for path in group.paths)
    if len(data) < sum(weight.nbytes for weight in group.weights):
        raise ModelError(f'{group.paths[-1]}: was truncated while it was read')
    return data


def _values(data: Callable[[], bytes], weight: Weight, start: int) -> np.ndarray:
    values = np.frombuffer(data(), weight.dtype, weight.size, start)
    if weight.scale != 1 or weight.shift:
        # In double precision, as in the converter and in TensorFlow.js.
        values = values.astype(np.float64) * weight.scale + weight.shift
    return values.astype(np.float32).reshape(weight.shape)


def _group(folder: Path, entry: Any) -> WeightGroup:
    try:
        paths = tuple(inside(folder, str(path), folder / TOPOLOGY) for path in entry['paths'])
        weights = tuple(_weight(weight) for weight in entry['weights'])
        if not paths or len(set(paths)) < len(paths):
            raise ValueError('a group without paths, or with one of them twice')
        return WeightGroup(paths, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f'{folder / TOPOLOGY}: its weight manifest cannot be read ({error})'
        ) from error


def _weight(entry: dict[str, Any]) -> Weight:
    name, shape = str(entry['name']), entry['shape']
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f'weight {name!r} of shape {shape!r}')
    quantised = entry.get('quantization')
    types = _DTYPES if quantised is None else _QUANTISED
    dtype = str((entry if quantised is None else quantised)['dtype'])
    if dtype not in types:
        raise ValueError(f'weight {name!r} of type {dtype!r}; expected one of {list(types)}')
    if quantised is None or dtype == 'float16':
        return Weight(name, tuple(shape), types[dtype])
    scale, shift = quantised['scale'], quantised['min']
    if not all(type(n) in (int, float) and abs(n) < _MOST for n in (scale, shift)):
        raise ValueError(f'weight {name!r} of scale {scale!r} and min {shift!r}')
    return Weight(name, tuple(shape), types[dtype], scale, shift)


def _check_sizes(group: WeightGroup) -> None:
    """Check the sizes of a group's shards.

    Only their sum is known. The converter writes shards of equal size except for the last one, so
    that a shard before the last that differs from the largest one must be wrong.
    """
    expected = sum(weight.nbytes for weight in group.weights)
    sizes = []
    for path in group.paths:
        try:
            require_regular(path)
            sizes.append(path.stat().st_size if path.is_file() else -1)
        except IrregularFileError as error:
            raise ModelError(f'{path}: {error.strerror}; fetch the model again') from None
        except OSError:
            sizes.append(-1)
        if sizes[-1] < 0:
            raise ModelError(
                f'{path}: weight file is missing; {group.paths[0].parent / TOPOLOGY} names it '
                f'({expected} bytes in {len(group.paths)} file(s)); fetch the model again'
            )
    if sum(sizes) == expected:
        return
    full = max(sizes[:-1], default=0)
    odd = next((i for i, size in enumerate(sizes[:-1]) if size != full), len(sizes) - 1)
    needed = expected - (sum(sizes) - sizes[odd])
    raise ModelError(
        f'{group.paths[odd]}: weight file has {sizes[odd]} bytes, expected {needed}; '
        'fetch the model again'
    )


def save_tfjs(network: Network, folder: Path, dtype: str = 'float32') -> list[Path]:
    """Write a network in the layers format.

    Parameters
    ----------
    network : Network
        The network; its batch normalisation should be folded, since TensorFlow.js has none in 3-D.
    folder : Path
        Gets ``model.json`` and one weight file.
    dtype : {'float32', 'float16'}
        Type of the stored weights, which are read as float32.

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    ModelError
        If an operation cannot be expressed, or a weight is too large for float16.
    OutputError
        If they cannot be written.
    """
    network = mark_normalised(network)
    if not network.of_images:
        network = replace(network, ops=tuple(map(_as_convolution, network.ops)))
    layers, arrays = described(network)
    weights, data = [], b''
    for name, values in arrays.items():
        entry: dict[str, Any] = {'name': name, 'shape': list(values.shape), 'dtype': 'float32'}
        if dtype == 'float16':
            entry['quantization'] = {'dtype': dtype, 'original_dtype': 'float32'}
            if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                raise network.fault(f'{name} is too large for float16; write float32')
        weights.append(entry)
        data += np.ascontiguousarray(values, STORED[dtype]).tobytes()
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
                    'name': 'network',
                    'layers': layers,
                    'input_layers': [[network.ops[0].name, 0, 0]],
                    'output_layers': [[network.ops[-1].name, 0, 0]],
                },
            },
        },
        'weightsManifest': [{'paths': [shard], 'weights': weights}],
    }
    files = [folder / shard, folder / TOPOLOGY]
    publish(
        [
            (files[0], lambda path: path.write_bytes(data)),
            (files[1], text_writer(json.dumps(content, separators=(',', ':')) + '\n')),
        ]
    )
    return files


def _copy_kernel(channels: int, size: tuple[int, int, int]) -> np.ndarray:
    """Return the kernel of a transposed convolution that copies each value to its voxels."""
    kernel = np.zeros((*size, channels, channels), np.float32)
    kernel[:] = np.eye(channels)
    return kernel


def _as_convolution(op: Op) -> Op:
    """Replace upsampling by a transposed convolution."""
    if op.kind != 'upsample':
        return op
    size = op.settings['size']
    settings = {'strides': size, 'dilation': (1, 1, 1), 'padding': 'valid', 'groups': 1}
    weights = {'kernel': _copy_kernel(op.channels, size)}
    return replace(op, kind='conv_transpose', settings=settings, weights=weights)


def _as_upsampling(op: Op) -> Op:
    """Replace a transposed convolution from `_as_convolution` by upsampling."""
    if op.kind != 'conv_transpose' or op.settings['dilation'] != (1, 1, 1) or 'bias' in op.weights:
        return op
    size = op.settings['strides']
    kernel = op.weights['kernel']
    shape = (*size, op.channels, op.channels)
    if kernel.shape != shape or not np.array_equal(kernel, _copy_kernel(op.channels, size)):
        return op
    return replace(op, kind='upsample', settings={'size': size}, weights={})
