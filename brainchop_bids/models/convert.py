"""Conversion of networks and whole model folders from one file format to another."""

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..system.atomic import copy_writer, publish, write_text, writing
from ..system.errors import OutputError, SettingsError
from .formats import read_network
from .formats.onnx_files import save_onnx
from .formats.openvino_files import save_openvino
from .formats.tfjs import save_tfjs
from .formats.torch_files import save_safetensors
from .labelfiles import OVERRIDES
from .network import Network, fold_batchnorm
from .spec import MODEL_NAME, ModelSpec, load_spec


def import_model(folder: Path, models_dir: Path, name: str | None = None) -> Path:
    """Copy a model of any readable format into a folder of models.

    It becomes TensorFlow.js layers, except for ONNX graphs, which stay as they are.

    Parameters
    ----------
    folder : Path
        Any folder that `read_model` reads, with or without labels and facts.
    models_dir : Path
        Folder of model folders.
    name : str, optional
        Name of the new folder; by default that of ``folder``.

    Returns
    -------
    Path
        ``models_dir/name``: the network, and ``brainchop.json`` with all that is known of the
        model.

    Raises
    ------
    SettingsError
        If the name cannot be a folder's name, or is taken.
    ModelError
        If the model cannot be read.
    OutputError
        If it cannot be written.
    """
    name = folder.resolve().name if name is None else name
    if not MODEL_NAME.fullmatch(name):
        raise SettingsError(
            f'{name!r} cannot be the name of a model; use letters, digits, - and _, as in '
            '--name my_model'
        )
    target = models_dir / name
    if target.exists():
        raise SettingsError(f'{target}: exists already; choose another --name')
    spec = load_spec(folder)
    # A folder that is not complete, or not right, must not be found later.
    with writing(target):
        staged = models_dir / f'.{name}.{uuid.uuid4().hex[:12]}'
        staged.mkdir(parents=True)
    try:
        convert_model(replace(spec, name=name), 'onnx' if spec.graph else 'tfjs', staged)
        if not _is_copy(spec, staged):
            raise OutputError(f'{target}: differs from {folder} when read back; check the disk')
        with writing(target):
            staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def _is_copy(spec: ModelSpec, folder: Path) -> bool:
    """Return whether a folder holds the network and the labels of a model."""
    copy = load_spec(folder)
    if copy.labels != spec.labels:
        return False
    if spec.graph:
        return copy.weights_sha256 == spec.weights_sha256
    return fold_batchnorm(read_network(spec.folder)[0]).computes_as(read_network(folder)[0])


def convert_model(spec: ModelSpec, form: str, folder: Path) -> None:
    """Write a model's network and its ``brainchop.json``.

    Parameters
    ----------
    spec : ModelSpec
        The model, with the folder that its network is read from.
    form : str
        One of `FORMATS`.
    folder : Path
        Gets the files.

    Raises
    ------
    ModelError, OutputError, SettingsError
        As `write_network`.
    """
    if spec.graph is not None and form == 'onnx':
        publish([(folder / file.name, copy_writer(file)) for file in spec.graph.files])
    else:
        write_network(read_network(spec.folder)[0], form, folder)
    write_text(folder / OVERRIDES, json.dumps(describe_model(spec), indent=2) + '\n')


def describe_model(spec: ModelSpec) -> dict[str, Any]:
    """Return the content of a model's ``brainchop.json``.

    Parameters
    ----------
    spec : ModelSpec
        The model.

    Returns
    -------
    dict
        Ready for JSON.
    """
    facts: dict[str, Any] = {
        'name': spec.name,
        'normalization': str(spec.normalization),
        **({'inputs': list(spec.inputs)} if len(spec.inputs) > 1 else {}),
        'labels': [
            {
                'index': label.index,
                'name': label.name,
                'abbreviation': label.abbreviation,
                'color': label.hex_color,
                'mapping': label.mapping,
                'freesurfer': label.freesurfer,
            }
            for label in spec.labels
        ],
        'components': spec.cleanup,
        **({'smooth': spec.smoothing.to_dict()} if spec.smoothing.voxels else {}),
        'mask': spec.mask_rule.to_dict() if spec.covers_brain else None,
        **({'derived': {one.name: one.table for one in spec.derived}} if spec.derived else {}),
    }
    for key in ('localiser', 'status', 'license', 'citation', 'task'):
        if getattr(spec, key):
            facts[key] = getattr(spec, key)
    return facts


def write_network(network: Network, form: str, folder: Path) -> None:
    """Write the files of a network.

    Parameters
    ----------
    network : Network
        The network. Batch normalisation is folded where it can be.
    form : str
        One of `FORMATS`.
    folder : Path
        Gets the files.

    Raises
    ------
    SettingsError
        If the format is not known, or needs a package that is not installed.
    ModelError
        If the format cannot express the network.
    OutputError
        If the files cannot be written.
    """
    if form not in FORMATS:
        raise SettingsError(f'{form}: unknown format; expected one of {", ".join(FORMATS)}')
    _WRITERS[form](fold_batchnorm(network), folder)


def _keras_writer(suffix: str) -> Callable[[Network, Path], object]:
    def write(network: Network, folder: Path) -> None:
        from ..system.tensorflow_runtime import load_tensorflow

        load_tensorflow()
        from .keras_model import build_model

        model = build_model(network, network.input_shape)
        publish([(folder / f'model{suffix}', lambda path: model.save(path))])

    return write


_WRITERS: dict[str, Callable[[Network, Path], object]] = {
    'tfjs': save_tfjs,
    'keras': _keras_writer('.keras'),
    'h5': _keras_writer('.h5'),
    'safetensors': save_safetensors,
    'onnx': lambda network, folder: save_onnx(network, folder / 'model.onnx'),
    'openvino': lambda network, folder: save_openvino(network, folder / 'model.xml'),
}
FORMATS = tuple(_WRITERS)
