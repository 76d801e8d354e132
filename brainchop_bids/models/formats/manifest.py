"""The tfjs layers format as files: topology, weight manifest, shards. No Keras here.

The form is that of the TensorFlow.js converter: ``model.json`` holds ``modelTopology`` (a Keras
model's configuration) and ``weightsManifest`` (groups of weights, and the binary shards that
hold each group's values one after the other, little-endian).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ...errors import ModelError

TOPOLOGY = 'model.json'

# What a manifest may say about a weight's bytes; the second column are quantised forms.
_DTYPES = {'float32': '<f4', 'int32': '<i4'}
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


@dataclass(frozen=True)
class LayersModel:
    """A checked tfjs folder: every shard exists and has the size its manifest demands.

    Parameters
    ----------
    folder : Path
        The folder.
    layers : tuple of dict
        The topology's layers in file order, as Keras' configuration has them.
    groups : tuple of Group
        Weights and shards.
    """

    folder: Path
    layers: tuple[dict[str, Any], ...]
    groups: tuple[Group, ...]

    @property
    def file(self) -> Path:
        """The topology's file, for messages."""
        return self.folder / TOPOLOGY

    @property
    def shards(self) -> tuple[Path, ...]:
        """All weight files in the manifest's order."""
        return tuple(path for group in self.groups for path in group.paths)

    @property
    def parameters(self) -> int:
        """Number of weights' values."""
        return sum(weight.size for group in self.groups for weight in group.weights)

    def weights_sha256(self) -> str:
        """Return the checksum of the weights' bytes, however they are cut into shards."""
        digest = hashlib.sha256()
        for path in self.shards:
            digest.update(_read(path))
        return digest.hexdigest()

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each weight's name and values, as float32 in its own shape.

        Raises
        ------
        ModelError
            Where a file changed since it was checked, or a value is not finite.
        """
        for group in self.groups:
            data, start = b''.join(_read(path) for path in group.paths), 0
            for weight in group.weights:
                if len(data) < start + weight.nbytes:
                    raise ModelError(f'{group.paths[-1]}: became shorter while it was read')
                values = np.frombuffer(data, weight.dtype, weight.size, start)
                start += weight.nbytes
                array = values.astype(np.float32).reshape(weight.shape)
                if weight.scale != 1 or weight.shift:
                    array = array * np.float32(weight.scale) + np.float32(weight.shift)
                if not np.isfinite(array).all():
                    raise ModelError(
                        f'{group.paths[0]}: weight {weight.name} holds values that are not '
                        'finite; fetch the model again'
                    )
                yield weight.name, array


def read_layers_model(folder: str | Path) -> LayersModel:
    """Read and check a tfjs layers-format folder without loading Keras.

    Parameters
    ----------
    folder : path
        A folder with ``model.json`` and its weight shards.

    Returns
    -------
    LayersModel

    Raises
    ------
    ModelError
        For a folder or file that is missing, JSON that cannot be read or lacks what the format
        demands, a shard outside the folder, or shards shorter or longer than the manifest says.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f'{folder}: is no model folder; expected a folder with {TOPOLOGY}')
    content = read_json(folder / TOPOLOGY)
    if not isinstance(content, dict) or 'weightsManifest' not in content:
        raise ModelError(
            f'{folder / TOPOLOGY}: has no "weightsManifest"; '
            'expected a model in the TensorFlow.js layers format'
        )
    groups = tuple(_group(folder, entry) for entry in _listed(content['weightsManifest'], folder))
    for group in groups:
        _check_sizes(group)
    return LayersModel(folder, _layers(content, folder), groups)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ModelError
        Where it is missing or not JSON.
    """
    try:
        return json.loads(_read(path).decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ModelError(f'{path}: is not JSON ({error}); fetch the model again') from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f'{path}: is missing; a model folder needs it, fetch the model again'
        ) from error
    except OSError as error:
        raise ModelError(f'{path}: cannot be read ({error.strerror})') from error


def _listed(value: object, folder: Path) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ModelError(f'{folder / TOPOLOGY}: "weightsManifest" is no list of weight groups')
    return value


def _layers(content: dict[str, Any], folder: Path) -> tuple[dict[str, Any], ...]:
    try:
        model = content['modelTopology']['model_config']
        config = model['config']
        layers = config if isinstance(config, list) else config['layers']
        if model['class_name'] not in ('Functional', 'Model', 'Sequential'):
            raise ValueError(f'a model of class {model["class_name"]!r}')
        for layer in layers:
            # Sequential files name a layer in its configuration only.
            layer.setdefault('name', layer['config']['name'])
            if not isinstance(layer['class_name'], str):
                raise ValueError(f'layer {layer["name"]!r} without a class')
        if not layers:
            raise ValueError('no layers')
        return tuple(layers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f'{folder / TOPOLOGY}: its topology is not understood ({error}); expected '
            'modelTopology.model_config of a Functional or Sequential Keras model'
        ) from error


def _group(folder: Path, entry: Any) -> Group:
    try:
        paths = tuple(_inside(folder, str(path)) for path in entry['paths'])
        weights = tuple(_weight(weight) for weight in entry['weights'])
        if not paths:
            raise ValueError('a group without paths')
        return Group(paths, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f'{folder / TOPOLOGY}: its weight manifest is not understood ({error})'
        ) from error


def _inside(folder: Path, name: str) -> Path:
    # Backslashes and drive letters climb out on Windows alone; a model folder should not
    # depend on where it is read.
    forms = PurePosixPath(name), PureWindowsPath(name)
    if not name or any(p.is_absolute() or p.drive or '..' in p.parts for p in forms):
        raise ModelError(
            f'{folder / TOPOLOGY}: names the weight file {name!r}, which lies outside the '
            'model folder; such a model is refused'
        )
    return folder / name


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
