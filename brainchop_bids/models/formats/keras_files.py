"""Keras' own files, ``.keras`` and ``.h5``, read without Keras, and nothing in them is run.

Keras rebuilds layers by names of classes and functions in the file. Here only their settings are
read, by `network_from_layers`, and the weights' arrays.
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

# What a file may unfold to; the largest network of the field, a U-Net, takes 100 MB.
MAX_BYTES = 1 << 30

# Variables in the order in which Keras stores them, and the name it gives a layer's place.
_BATCH_NORM = ('gamma', 'beta', 'moving_mean', 'moving_variance')
_PLACES = {
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
        For a file that is damaged, unfolds to more than a network can be, or holds what
        `network_from_layers` refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(path, archive, 'config.json'))
            stored = BytesIO(_member(path, archive, 'model.weights.h5'))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, NotImplementedError) as error:
        raise ModelError(f'{path}: is no whole .keras file ({error}); save it again') from error
    layers, output = topology(config, path)
    weights: dict[str, np.ndarray] = {}
    seen: Counter[str] = Counter()
    with _opened(path, stored) as file:
        for layer in layers:
            if layer['class_name'] not in _PLACES:
                continue
            place, variables = _PLACES[layer['class_name']]
            number = seen[place]
            seen[place] += 1
            folder = f'layers/{place}_{number}' if number else f'layers/{place}'
            given = _present(layer['config'], variables)
            for i, variable in enumerate(given):
                values = _dataset(path, file, f'{folder}/vars/{i}')
                weights[f'{safe_name(layer["name"])}/{variable}'] = values
    return network_from_layers(path, layers, weights, output=output, files=(path,))


def read_h5(path: Path) -> Network:
    """Read a whole model's ``.h5`` file, of Keras 2 (Nobrainer's among them) or 3.

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
        As `read_keras`; and for files that hold weights alone.
    """
    with _opened(path, path) as file:
        config = file.attrs.get('model_config')
        if config is None or 'model_weights' not in file:
            raise ModelError(
                f'{path}: holds no whole model; save it with model.save(...), not save_weights'
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
        # The size in the directory may be a lie.
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ModelError(
            f'{path}: {name} unfolds to over {MAX_BYTES >> 20} MB; such a file is refused'
        )
    return content


def _opened(path: Path, stored: Any) -> Any:
    import h5py

    try:
        return h5py.File(stored, 'r')
    except OSError as error:
        raise ModelError(f'{path}: is no whole HDF5 file ({error}); save it again') from error


def _present(config: dict[str, Any], variables: Sequence[str]) -> Iterator[str]:
    switches = {'bias': 'use_bias', 'gamma': 'scale', 'beta': 'center'}
    for variable in variables:
        if variable not in switches or config.get(switches[variable], True):
            yield variable


def _weight_names(path: Path, file: Any, layer: str) -> list[str]:
    import h5py

    group = _followed(path, file, f'model_weights/{layer}', missing_ok=True)
    if not isinstance(group, h5py.Group):
        return []
    names = group.attrs.get('weight_names', [])
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _dataset(path: Path, file: Any, name: str) -> np.ndarray:
    import h5py

    found = _followed(path, file, name)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != 'f':
        raise ModelError(f'{path}: {name} is no array of numbers; save it again')
    if found.is_virtual or found.external:
        raise ModelError(f'{path}: {name} lies in another file; such a model is refused')
    if found.nbytes > MAX_BYTES:
        raise ModelError(f'{path}: {name} has {found.nbytes >> 20} MB; such a file is refused')
    try:
        return np.asarray(found[()], np.float32)
    except OSError as error:
        raise ModelError(f'{path}: {name} cannot be read ({error}); save it again') from error


def _followed(path: Path, file: Any, name: str, *, missing_ok: bool = False) -> Any:
    """Return what lies at a path within the file, never through links to other files."""
    import h5py

    place = file
    for part in filter(None, name.split('/')):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            if missing_ok:
                return None
            raise ModelError(f'{path}: has no {name}; save it again')
        if not isinstance(link, h5py.HardLink):
            raise ModelError(f'{path}: {name} is a link; such a model is refused')
        place = place[part]
    return place
