"""Readers and writers of networks, one module for each file format."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...system.errors import BrainchopError, ModelError
from ..network import Network
from ..registry import facts_by_shapes, known_facts
from .files import read_json
from .keras_files import read_h5, read_keras
from .onnx_checks import check_onnx
from .onnx_files import is_own, read_onnx
from .openvino_files import read_openvino
from .tfjs import TOPOLOGY, is_tfjs, read_tfjs
from .torch_files import network_of_header, network_of_state
from .torch_state import read_state

if TYPE_CHECKING:
    from .onnx_graph import OnnxGraph


def _read_onnx(path: Path) -> 'Network | OnnxGraph':
    found = check_onnx(path)
    if is_own(found):
        return read_onnx(path)
    # Imported here, because it loads OpenVINO.
    from .onnx_graph import read_graph

    return read_graph(found)


_READERS: dict[str, 'Callable[[Path], Network | OnnxGraph]'] = {
    '.keras': read_keras,
    '.h5': read_h5,
    '.onnx': _read_onnx,
    '.xml': read_openvino,
}
_SUFFIXES = (*_READERS, '.safetensors', '.pth', '.pt')


def read_network(folder: Path) -> tuple[Network, str]:
    """Read the network in a model's folder, as `read_model` if it is a `Network`.

    Raises
    ------
    ModelError
        As for `read_model`, or if it is another program's ONNX file.
    """
    network, form = read_model(folder)
    if not isinstance(network, Network):
        raise ModelError(
            f'{network.source}: is an ONNX graph, which only OpenVINO runs; it cannot be '
            'converted to another format or trained'
        )
    return network, form


def read_model(folder: Path) -> 'tuple[Network | OnnxGraph, str]':
    """Read the network in a model's folder.

    Parameters
    ----------
    folder : Path
        A folder with TensorFlow.js' ``model.json`` and shards, or with a single file: ``.keras``,
        ``.h5``, ``.safetensors``, ``.pth`` or ``.pt``, ``.onnx``, or ``.xml`` as written by
        `write_network`. PyTorch's weights need brainchop's ``model.json`` beside them, unless
        the registry knows them.

    Returns
    -------
    network : Network or OnnxGraph
    form : str
        The format: ``'tfjs'``, ``'openvino'``, or the file's suffix without the dot.

    Raises
    ------
    ModelError
        If there is no network or more than one, or the files cannot be read.
    """
    if not folder.is_dir():
        raise ModelError(f'{folder}: is not a model folder; expected a folder with {TOPOLOGY}')
    try:
        return _read(folder)
    except (BrainchopError, ImportError):
        raise
    except Exception as error:
        # Whatever damage was not foreseen is the fault of this model, and of no other.
        raise ModelError(
            f'{folder}: cannot be read ({type(error).__name__}: {error}); fetch the model again'
        ) from error


def _read(folder: Path) -> 'tuple[Network | OnnxGraph, str]':
    file = folder / TOPOLOGY
    described = read_json(file) if file.exists() else None
    if is_tfjs(described):
        return read_tfjs(folder), 'tfjs'
    path = _weight_file(folder)
    form = {'.xml': 'openvino'}.get(path.suffix.lower(), path.suffix[1:].lower())
    if path.suffix.lower() in _READERS:
        return _READERS[path.suffix.lower()](path), form
    network = network_of_header(path) if form == 'safetensors' else None
    if network is not None:
        return network, form
    state = read_state(path)
    if described is not None:
        return network_of_state(file, described, state, (path, file)), form
    digest = hashlib.sha256()
    for array in state.values():
        digest.update(array.astype('<f4').tobytes())
    shapes = [array.shape for array in state.values() if array.ndim == 5]
    known = (known_facts(digest.hexdigest()) or facts_by_shapes(shapes)).get('network')
    if known is None:
        raise ModelError(
            f'{path}: has weights without a description of layers; add a {TOPOLOGY} that '
            'describes a chain of layers, or export any other network: torch.onnx.export('
            "network.eval(), torch.zeros(1, 1, 64, 64, 64), 'model.onnx')"
        )
    return network_of_state(path, known, state, (path,)), form


def holds_model(folder: Path) -> bool:
    """Return whether a folder seems to have a model."""
    try:
        return os.path.lexists(folder / TOPOLOGY) or bool(_candidates(folder))
    except OSError:
        # It is shown with the reason when it is read.
        return True


def _candidates(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())


def _weight_file(folder: Path) -> Path:
    candidates = _candidates(folder)
    if not candidates and (folder / TOPOLOGY).exists():
        raise ModelError(
            f'{folder / TOPOLOGY}: has no "weightsManifest", and there are no weights beside it; '
            f'expected a file that ends in {", ".join(_SUFFIXES)}'
        )
    if not candidates and (folder / 'saved_model.pb').exists():
        raise ModelError(
            f'{folder}: is a TensorFlow SavedModel, which is not read; save the Keras model in it '
            'as one file with Keras 2, tf_keras.models.load_model(DIR).save("model.h5"), or '
            'convert it: python -m tf2onnx.convert --saved-model DIR --output model.onnx'
        )
    # Weights alone, which the converter of TensorFlow.js leaves beside a .keras file.
    whole = [path for path in candidates if not path.name.endswith('.weights.h5')]
    candidates = whole or candidates
    if len(candidates) != 1:
        names = ', '.join(path.name for path in candidates) or 'no weights'
        raise ModelError(
            f'{folder}: has {names}; expected {TOPOLOGY} with its shards, or one file of '
            f'{", ".join(_SUFFIXES)}'
        )
    return candidates[0]
