"""Keras' files, ``.keras`` and ``.h5``, read without Keras and without running any of their code.

Keras rebuilds layers from names of classes and functions in the file. Here only the settings of
layers are read, by `network_from_layers`, and the arrays of weights.
"""

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from ..network import Network
from .layer_reader import network_from_layers, safe_name, topology

# Limit of decompressed sizes; the largest networks of the field, U-Nets, take 100 MB.
MAX_BYTES = 1 << 30

# Name of the group in which Keras stores the weights of a layer, and their order.
_BATCH_NORM = ('gamma', 'beta', 'moving_mean', 'moving_variance')
_GROUPS = {
    'Conv3D': ('conv3d', ('kernel', 'bias')),
    'Conv3DTranspose': ('conv3d_transpose', ('kernel', 'bias')),
    'BatchNormalization': ('batch_normalization', _BATCH_NORM),
}


def read_keras(path: Path) -> Network:
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
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(path, archive, 'config.json'))
            stored = BytesIO(_member(path, archive, 'model.weights.h5'))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, NotImplementedError) as error:
        raise ModelError(f'{path}: is not a valid .keras file ({error}); save it again') from error
    layers, output = topology(config, path)
    weights: dict[str, np.ndarray] = {}
    seen: Counter[str] = Counter()
    with _opened(path, stored) as file:
        for layer in layers:
            if layer['class_name'] not in _GROUPS:
                continue
            group, variables = _GROUPS[layer['class_name']]
            number = seen[group]
            seen[group] += 1
            folder = f'layers/{group}_{number}' if number else f'layers/{group}'
            for i, variable in enumerate(_present(layer['config'], variables)):
                values = _dataset(path, file, f'{folder}/vars/{i}')
                weights[f'{safe_name(layer["name"])}/{variable}'] = values
    return network_from_layers(path, layers, weights, output=output, files=(path,))


def read_h5(path: Path) -> Network:
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
    with _opened(path, path) as file:
        config = file.attrs.get('model_config')
        if config is None or 'model_weights' not in file:
            raise ModelError(
                f'{path}: has no whole model; save it with model.save(...), not save_weights'
            )
        try:
            layers, output = topology(json.loads(config), path)
        except ValueError as error:
            raise ModelError(f'{path}: its configuration is not JSON ({error})') from error
        weights: dict[str, np.ndarray] = {}
        for layer in layers:
            for name in _weight_names(path, file, layer['name']):
                variable = name.rpartition('/')[2].partition(':')[0]
                key = f'{safe_name(layer["name"])}/{variable}'
                values = _dataset(path, file, f'model_weights/{layer["name"]}/{name}')
                if key in weights:
                    raise ModelError(f'{path}: has the weight {key} twice')
                weights[key] = values
    return network_from_layers(path, layers, weights, output=output, files=(path,))


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    with archive.open(info) as stream:
        # The size in the archive's directory may be wrong.
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ModelError(
            f'{path}: {name} decompresses to over {MAX_BYTES >> 20} MB; such a file is refused'
        )
    return content


def _opened(path: Path, stored: Any) -> Any:
    import h5py

    try:
        return h5py.File(stored, 'r')
    except OSError as error:
        raise ModelError(f'{path}: is not a valid HDF5 file ({error}); save it again') from error


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
    names = group.attrs.get('weight_names', [])
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _dataset(path: Path, file: Any, name: str) -> np.ndarray:
    import h5py

    dataset = _find(path, file, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != 'f':
        raise ModelError(f'{path}: {name} is not an array of numbers; save it again')
    if dataset.is_virtual or dataset.external:
        raise ModelError(f'{path}: {name} lies in another file; such a model is refused')
    if dataset.nbytes > MAX_BYTES:
        raise ModelError(f'{path}: {name} has {dataset.nbytes >> 20} MB; such a file is refused')
    try:
        return np.asarray(dataset[()], np.float32)
    except OSError as error:
        raise ModelError(f'{path}: {name} cannot be read ({error}); save it again') from error


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
