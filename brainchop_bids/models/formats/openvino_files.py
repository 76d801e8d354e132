"""OpenVINO's intermediate form, made from ONNX; `onnx_files` says what it is like."""

import json
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...system.atomic import copy_writer, publish
from ...system.errors import BrainchopError, ModelError
from ..network import Network, fold_batchnorm
from .layer_reader import network_from_layers
from .layer_writer import layers_of, marked
from .onnx_files import onnx_model

_KEY = 'brainchop_network'


def save_openvino(network: Network, path: Path) -> list[Path]:
    """Write a network for OpenVINO, in float32.

    Parameters
    ----------
    network : Network
        The network; its batch normalisation is folded.
    path : Path
        The file, ``.xml``; weights go into a ``.bin`` beside it.

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    BrainchopError
        Where openvino or onnx is not installed.
    OutputError
        Where the files cannot be written.
    """
    openvino = load_openvino()
    network = marked(fold_batchnorm(network))
    weights = path.with_suffix('.bin')
    with TemporaryDirectory() as folder:
        made = Path(folder) / 'network.xml'
        (made.with_suffix('.onnx')).write_bytes(onnx_model(network).SerializeToString())
        model = openvino.convert_model(made.with_suffix('.onnx'))
        model.set_rt_info(json.dumps(layers_of(network)), [_KEY])
        openvino.save_model(model, made, compress_to_fp16=False)
        publish([(weights, copy_writer(made.with_suffix('.bin'))), (path, copy_writer(made))])
    return [path, weights]


def read_openvino(path: Path) -> Network:
    """Read back what `save_openvino` wrote.

    Parameters
    ----------
    path : Path
        The ``.xml`` file.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        For a damaged file, or one of another program.
    """
    core = openvino_core()
    try:
        model = core.read_model(path)
        layers = json.loads(model.get_rt_info([_KEY]).astype(str))
        ops = {op.get_friendly_name(): op for op in model.get_ops()}
        # The last operation goes by the name of the output.
        ops[layers[-1]['name']] = ops.pop('logits')
        weights = _weights({layer['name']: ops.get(layer['name']) for layer in layers})
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(
            f'{path}: was not written by brainchop-models, or is not whole ({reason}); bring the '
            'model as safetensors, .keras, .h5 or tfjs'
        ) from error
    files = (path, path.with_suffix('.bin'))
    return network_from_layers(path, layers, weights, files=files)


def _weights(ops: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return kernels and biases of all convolutions, in Keras' order of axes.

    A convolution with a bias has become an addition of its name.
    """
    weights = {}
    for name, op in ops.items():
        if op is None:
            continue
        conv = op
        if op.get_type_name() == 'Add':
            conv = op.input_value(0).get_node()
        if not conv.get_type_name().startswith('Convolution'):
            continue
        kernel = conv.input_value(1).get_node().get_data()
        weights[f'{name}/kernel'] = np.ascontiguousarray(kernel.transpose(2, 3, 4, 1, 0))
        if conv is not op:
            weights[f'{name}/bias'] = op.input_value(1).get_node().get_data().ravel()
    return weights


def load_openvino() -> Any:
    """Import OpenVINO without what reports its use.

    Returns
    -------
    module
        ``openvino``.

    Raises
    ------
    BrainchopError
        Where it cannot be imported.
    """
    # It would tell its makers of every import, and write into the home folder.
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BrainchopError(
            f'OpenVINO cannot be imported ({error}); install brainchop-bids again, or do without '
            '(--engine tensorflow)'
        ) from error
    return openvino


@cache
def openvino_core() -> Any:
    """Return the process's only ``openvino.Core``.

    Each that is made gives the process another stack for signal handlers, and each that goes
    brings back the one before it. Where the older of two went first, that stack is no longer
    there, and the next signal ends the process (seen with OpenVINO 2026.2).

    Returns
    -------
    openvino.Core

    Raises
    ------
    BrainchopError
        Where OpenVINO cannot be imported.
    """
    return load_openvino().Core()
