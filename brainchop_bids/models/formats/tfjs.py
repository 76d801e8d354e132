"""TensorFlow.js' layers format: topology, weight manifest, shards. No Keras here.

The form is that of the TensorFlow.js converter: ``model.json`` holds ``modelTopology`` (a Keras
model's configuration) and ``weightsManifest`` (groups of weights, and the binary shards that
hold each group's values one after the other, little-endian).

TensorFlow.js has no layer of nearest neighbours in 3-D. Such an operation is written as a
transposed convolution that copies each value to all voxels of its place, and read back as what it
is.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...system.atomic import publish, text_writer
from ...system.errors import ModelError
from ..network import Network, Op
from .files import inside, read_bytes, read_json
from .layer_reader import network_from_layers, topology
from .layer_writer import layers_of, marked

TOPOLOGY = 'model.json'

# What a manifest may say about a weight's bytes; the second column are quantised forms.
_DTYPES = {'float32': '<f4', 'int32': '<i4'}
STORED = {'float32': '<f4', 'float16': '<f2'}
_QUANTISED = {'uint8': 'u1', 'uint16': '<u2', 'float16': '<f2'}


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
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Number of bytes in the shards."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Group:
    """Weights that follow one another in the bytes of these shards."""

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
        For a file that is missing, JSON that cannot be read or lacks what the format demands, a
        shard outside the folder, shards shorter or longer than the manifest says, and what
        `network_from_layers` refuses.
    """
    file = folder / TOPOLOGY
    content = read_json(file)
    if not is_tfjs(content):
        raise ModelError(
            f'{file}: has no "weightsManifest"; expected a model in the tfjs layers format'
        )
    groups = tuple(_group(folder, entry) for entry in _listed(content['weightsManifest'], folder))
    for group in groups:
        _check_sizes(group)
    given = content.get('modelTopology')
    layers, output = topology(
        given.get('model_config') if isinstance(given, dict) else given, file
    )
    weights: dict[str, np.ndarray] = {}
    for name, values in _weights(groups):
        # Before the layer a name may have the scopes it was made in.
        key = '/'.join(name.split('/')[-2:])
        if key in weights:
            raise ModelError(f'{file}: its weight manifest has {key} twice')
        weights[key] = values
    shards = tuple(path for group in groups for path in group.paths)
    network = network_from_layers(file, layers, weights, output=output, files=(file, *shards))
    return replace(network, ops=tuple(map(_understood, network.ops)))


def is_tfjs(content: Any) -> bool:
    """Tell whether a ``model.json`` is one of this format."""
    return isinstance(content, dict) and 'weightsManifest' in content


def _listed(value: object, folder: Path) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ModelError(f'{folder / TOPOLOGY}: "weightsManifest" is no list of weight groups')
    return value


def _weights(groups: tuple[Group, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each weight's name and values, as float32 in its own shape."""
    for group in groups:
        data, start = b''.join(read_bytes(path) for path in group.paths), 0
        for weight in group.weights:
            if len(data) < start + weight.nbytes:
                raise ModelError(f'{group.paths[-1]}: became shorter while it was read')
            values = np.frombuffer(data, weight.dtype, weight.size, start)
            start += weight.nbytes
            array = values.astype(np.float32).reshape(weight.shape)
            if weight.scale != 1 or weight.shift:
                array = array * np.float32(weight.scale) + np.float32(weight.shift)
            yield weight.name, array


def _group(folder: Path, entry: Any) -> Group:
    try:
        paths = tuple(inside(folder, str(path), folder / TOPOLOGY) for path in entry['paths'])
        weights = tuple(_weight(weight) for weight in entry['weights'])
        if not paths:
            raise ValueError('a group without paths')
        return Group(paths, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f'{folder / TOPOLOGY}: its weight manifest is not understood ({error})'
        ) from error


def _weight(entry: dict[str, Any]) -> Weight:
    name, shape = str(entry['name']), tuple(int(size) for size in entry['shape'])
    if any(size < 0 for size in shape):
        raise ValueError(f'weight {name!r} of shape {list(shape)}')
    quantised = entry.get('quantization')
    known = _DTYPES if quantised is None else _QUANTISED
    dtype = str((entry if quantised is None else quantised)['dtype'])
    if dtype not in known:
        raise ValueError(f'weight {name!r} of type {dtype!r}; expected one of {list(known)}')
    if quantised is None or dtype == 'float16':
        return Weight(name, shape, known[dtype])
    return Weight(name, shape, known[dtype], float(quantised['scale']), float(quantised['min']))


def _check_sizes(group: Group) -> None:
    """Compare a group's shards with the bytes its weights need.

    The manifest gives only the sum. The converter fills all shards but the last to one size,
    so a shard before the last that differs from the largest of them is the one at fault.
    """
    expected = sum(weight.nbytes for weight in group.weights)
    sizes = []
    for path in group.paths:
        try:
            sizes.append(path.stat().st_size if path.is_file() else -1)
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
    """Write a network as a layers-format folder.

    Parameters
    ----------
    network : Network
        The network, best with batch normalisation folded: TensorFlow.js has none in 3-D.
    folder : Path
        Gets ``model.json`` and one weight file.
    dtype : {'float32', 'float16'}
        Of the stored weights; readers round nothing, and make float32 of both.

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    ModelError
        For an operation that the format has no words for, and a weight that is too large for
        float16.
    OutputError
        Where they cannot be written.
    """
    network = marked(network)
    network = replace(network, ops=tuple(map(_spelled, network.ops)))
    weights, data = [], b''
    for op in network.ops:
        for variable, values in op.weights.items():
            name = f'{op.name}/{variable}'
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
                    'layers': layers_of(network),
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
            (files[1], text_writer(json.dumps(content) + '\n')),
        ]
    )
    return files


def _copying(channels: int, size: tuple[int, int, int]) -> np.ndarray:
    """Return the kernel by which a transposed convolution gives each voxel its place's value."""
    kernel = np.zeros((*size, channels, channels), np.float32)
    kernel[:] = np.eye(channels)
    return kernel


def _spelled(op: Op) -> Op:
    """Return what TensorFlow.js has in place of nearest neighbours."""
    if op.kind != 'upsample':
        return op
    size = op.settings['size']
    settings = {'strides': size, 'dilation': (1, 1, 1), 'padding': 'valid', 'groups': 1}
    weights = {'kernel': _copying(op.channels, size)}
    return replace(op, kind='conv_transpose', settings=settings, weights=weights)


def _understood(op: Op) -> Op:
    """Return nearest neighbours for what `_spelled` makes of them."""
    if op.kind != 'conv_transpose' or op.settings['dilation'] != (1, 1, 1) or 'bias' in op.weights:
        return op
    size = op.settings['strides']
    kernel = op.weights['kernel']
    shape = (*size, op.channels, op.channels)
    if kernel.shape != shape or not np.array_equal(kernel, _copying(op.channels, size)):
        return op
    return replace(op, kind='upsample', settings={'size': size}, weights={})
