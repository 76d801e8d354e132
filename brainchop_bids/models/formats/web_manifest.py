"""Model folders of the browser app: an ONNX file and ``manifest.json``.

``web/src/engine/README.md`` describes the keys.
"""

import json
from pathlib import Path
from typing import Any

from ... import __version__
from ...system.atomic import copy_writer, publish, text_writer
from ...system.errors import ModelError
from ..convert import describe_model
from ..spec import ModelSpec
from . import read_network
from .onnx_files import save_onnx

FORMAT = 'brainchop-web-1'
MANIFEST = 'manifest.json'
WEIGHTS = 'model.onnx'


def write_model(model: ModelSpec, folder: Path) -> None:
    """Write a model as the browser app reads it.

    Parameters
    ----------
    model : ModelSpec
        The model.
    folder : Path
        Existing folder, which gets ``model.onnx`` and ``manifest.json``.

    Raises
    ------
    ModelError
        If the network cannot be expressed in ONNX, takes several scans, or has its weights in
        further files.
    OutputError
        If the files cannot be written.
    """
    content = json.dumps(describe_for_web(model), indent=2) + '\n'
    if model.graph is None:
        save_onnx(read_network(model.folder)[0], folder / WEIGHTS)
    else:
        (file,) = model.graph.files
        publish([(folder / WEIGHTS, copy_writer(file))])
    publish([(folder / MANIFEST, text_writer(content))])


def describe_for_web(model: ModelSpec) -> dict[str, Any]:
    """Return the content of a model's ``manifest.json``.

    Parameters
    ----------
    model : ModelSpec
        The model.

    Returns
    -------
    dict
        Ready for JSON: what `describe_model` returns, and facts on the network.

    Raises
    ------
    ModelError
        If the browser app cannot run it.
    """
    graph = model.graph
    if model.in_channels != 1:
        raise ModelError(
            f'{model.folder}: takes {model.in_channels} scans of a head, the browser app gives '
            'one; use brainchop-segment'
        )
    if graph is not None and len(graph.files) > 1:
        raise ModelError(
            f'{model.folder}: has weights in {len(graph.files) - 1} other files, which the '
            'browser app does not read; save it with its weights inside'
        )
    return {
        'format': FORMAT,
        'version': __version__,
        **describe_model(model),
        'weights': WEIGHTS,
        'sha256': model.sha256,
        'parameters': model.parameters,
        'of_images': model.localises,
        'held': model.held or None,
        'reach': None if model.reach is None else list(model.reach),
        'block': None if model.block is None or model.localises else list(model.block),
        'channels_first': graph is None or graph.channels_first,
        'intracranial': model.intracranial,
    }
