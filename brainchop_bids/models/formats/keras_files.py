"""Keras' files, ``.keras`` and ``.h5``, read without Keras and without running any of their code.

Keras rebuilds layers from names of classes and functions in the file. Here only the settings of
layers are read, by `network_from_layers`, and the arrays of weights.
"""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from ..network import Network
from .files import Budget, Stored, parse_json
from .layer_graph import Layer, owner, owners, safe_name, topology
from .layer_reader import network_from_layers
from .trial import try_reading

# Limit of the names of the weights of a layer or of a model within the model.
_MOST_NAMES = 4096
_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Weights of layers in the order in which Keras stores them.
_AFFINE = ('gamma', 'beta')
_VARIABLES = {
    'Conv2D': ('kernel', 'bias'),
    'Conv2DTranspose': ('kernel', 'bias'),
    'DepthwiseConv2D': ('kernel', 'bias'),
    'Conv3D': ('kernel', 'bias'),
    'Conv3DTranspose': ('kernel', 'bias'),
    'Dense': ('kernel', 'bias'),
    'BatchNormalization': (*_AFFINE, 'moving_mean', 'moving_variance'),
    'GroupNormalization': _AFFINE,
    'InstanceNormalization': _AFFINE,
    'LayerNormalization': _AFFINE,
    'SlabNormalization': _AFFINE,
    'PReLU': ('alpha',),
}


def read_keras(path: Path) -> Network:
    """Read a ``.keras`` file, after a trial, see `parse_keras`."""
    _need_h5py()
    try_reading(path, __name__, 'parse_keras')
    return parse_keras(path)


def read_h5(path: Path) -> Network:
    """Read an ``.h5`` file, after a trial, see `parse_h5`."""
    _need_h5py()
    try_reading(path, __name__, 'parse_h5')
    return parse_h5(path)


def _need_h5py() -> None:
    """Import h5py: that it is missing would look like a damaged file in the trial."""
    import h5py  # noqa: F401


def parse_keras(path: Path) -> Network:
    """Read a ``.keras`` file.

    Parameters
    ----------
    path : Path
        A zip archive of ``config.json`` and ``model.weights.h5``.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If the file is damaged or too large, or `network_from_layers` refuses its content.
    """
    budget = Budget(path)
    try:
        with zipfile.ZipFile(path) as archive:
            config = _member(budget, archive, 'config.json')
            stored = BytesIO(_member(budget, archive, 'model.weights.h5'))
    except ModelError:
        raise
    except Exception as error:
        # A damaged archive can raise any exception.
        raise ModelError(f'{path}: is not a valid .keras file ({error}); save it again') from error
    layers, output = topology(parse_json(config, path), path)
    weights: dict[str, Stored] = {}
    with _opened(path, stored) as file:
        for place, name in numbered_weights(layers):
            weights[name] = _dataset(budget, file, place)
        return network_from_layers(path, layers, weights, output=output, files=(path,))


def parse_h5(path: Path) -> Network:
    """Read an ``.h5`` file with a whole model, of Keras 2 (such as Nobrainer's) or 3.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        As `read_keras`, and if the file has weights alone.
    """
    budget = Budget(path)
    with _opened(path, path) as file:
        config = _texts(path, file, 'model_config')
        if not config or 'model_weights' not in file:
            raise ModelError(
                f'{path}: has no whole model; save it with model.save(...), not save_weights'
            )
        layers, output = topology(parse_json(config[0], path), path)
        weights: dict[str, Stored] = {}
        for group in dict.fromkeys(layer.get('path', (layer['name'],))[0] for layer in layers):
            names = owners(layers, group)
            for name in _weight_names(path, file, group):
                scope, _, variable = name.partition(':')[0].rpartition('/')
                # Layers of models within the model are stored with it, by names of their own.
                own = names[safe_name(group)] if len(names) == 1 else owner(names, scope)
                key = f'{own}/{variable}'
                values = _dataset(budget, file, f'model_weights/{group}/{name}')
                if key in weights:
                    raise ModelError(f'{path}: has the weight {key} twice')
                weights[key] = values
        return network_from_layers(path, layers, weights, output=output, files=(path,))


def _member(budget: Budget, archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type not in _ZIP:
        raise ValueError(f'{name} has compression {info.compress_type}, which Keras never uses')
    with archive.open(info) as stream:
        # The size in the archive's directory may be wrong.
        content = stream.read(budget.left + 1)
    budget.take(len(content))
    return content


@contextmanager
def _opened(path: Path, stored: Any) -> Iterator[Any]:
    """Open an HDF5 file; damage may also be found while it is read."""
    import h5py

    try:
        with h5py.File(stored, 'r') as file:
            yield file
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise ModelError(f'{path}: is not a valid HDF5 file ({error}); save it again') from error


def numbered_weights(layers: Sequence[Layer]) -> Iterator[tuple[str, str]]:
    """Yield the paths of weights in ``.keras`` files, and their names.

    Parameters
    ----------
    layers : sequence of dict
        From `topology`.

    Yields
    ------
    stored : str
        For example ``layers/conv3d_1/vars/0``.
    name : str
        For example ``conv3d_7/kernel``.
    """
    for layer in layers:
        variables = _VARIABLES.get(layer['class_name'].rpartition('>')[2], ())
        for i, variable in enumerate(_present(layer['config'], variables)):
            yield f'{layer["stored"]}vars/{i}', f'{safe_name(layer["name"])}/{variable}'


def _present(config: dict[str, Any], variables: Sequence[str]) -> Iterator[str]:
    switches = {'bias': 'use_bias', 'gamma': 'scale', 'beta': 'center'}
    for variable in variables:
        if variable not in switches or config.get(switches[variable], True):
            yield variable


def _weight_names(path: Path, file: Any, layer: str) -> list[str]:
    import h5py

    group = _find(path, file, f'model_weights/{layer}', missing_ok=True)
    if not isinstance(group, h5py.Group):
        return []
    return _texts(path, group, 'weight_names')


def _texts(path: Path, node: Any, name: str) -> list[str]:
    """Return an attribute of text, or of a few of them; empty if there is none."""
    if name not in node.attrs:
        return []
    attribute = node.attrs.get_id(name)
    count = math.prod(attribute.shape)
    if count > _MOST_NAMES or count * attribute.dtype.itemsize > path.stat().st_size:
        raise ModelError(f'{path}: has an attribute {name} of {count:,} items; save it again')
    texts = np.asarray(node.attrs[name], object).ravel().tolist()
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _dataset(budget: Budget, file: Any, name: str) -> Stored:
    import h5py

    path, dataset = budget.path, _find(budget.path, file, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != 'f':
        raise ModelError(f'{path}: {name} is not an array of numbers; save it again')
    if dataset.is_virtual or dataset.external:
        raise ModelError(f'{path}: {name} lies in another file; such a model is refused')
    shape = tuple(dataset.shape or ())
    # Whole chunks are decompressed.
    sizes = [math.prod(shape), math.prod(dataset.chunks or ())]
    budget.take(max(sizes) * max(dataset.dtype.itemsize, 4))
    return Stored(shape, partial(_values, dataset))


def _values(dataset: Any) -> np.ndarray:
    return np.asarray(dataset[()])


def _find(path: Path, file: Any, name: str, *, missing_ok: bool = False) -> Any:
    """Return the object at a path within the file, without following links."""
    import h5py

    node = file
    for part in filter(None, name.split('/')):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            if missing_ok:
                return None
            raise ModelError(f'{path}: has no {name}; save it again')
        if not isinstance(link, h5py.HardLink):
            raise ModelError(f'{path}: {name} is a link; such a model is refused')
        node = node[part]
    return node
