"""OpenVINO's intermediate representation, converted from ONNX (see `onnx_files`)."""

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
from .files import check_file, parse_json
from .layer_graph import topology
from .layer_reader import network_from_layers
from .layer_writer import described
from .onnx_files import named_for_onnx, onnx_model

_KEY = 'brainchop_network'


def save_openvino(network: Network, path: Path) -> list[Path]:
    """Write a network in OpenVINO's intermediate representation, in float32.

    Parameters
    ----------
    network : Network
        The network; its batch normalisation is folded.
    path : Path
        The file, ``.xml``; weights are written to a ``.bin`` file beside it.

    Returns
    -------
    list of Path
        The two files.

    Raises
    ------
    BrainchopError
        If openvino or onnx is not installed.
    OutputError
        If the files cannot be written.
    """
    openvino = load_openvino()
    network = named_for_onnx(fold_batchnorm(network))
    for op in network.ops:
        if op.weights and op.kind not in ('conv', 'conv_transpose'):
            raise network.fault(
                f'weights of {op.kind} are not read from OpenVINO files; write onnx, which '
                'OpenVINO reads, too'
            )
    weights = path.with_suffix('.bin')
    with TemporaryDirectory() as folder:
        file = Path(folder) / 'network.xml'
        file.with_suffix('.onnx').write_bytes(onnx_model(network))
        model = openvino.convert_model(file.with_suffix('.onnx'))
        model.set_rt_info(json.dumps(described(network, depthwise=False)[0]), [_KEY])
        openvino.save_model(model, file, compress_to_fp16=False)
        publish([(weights, copy_writer(file.with_suffix('.bin'))), (path, copy_writer(file))])
    return [path, weights]


def read_openvino(path: Path) -> Network:
    """Read a file that `save_openvino` wrote.

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
        If the file is damaged or from another program.
    """
    core = openvino_core()
    files = (path, path.with_suffix('.bin'))
    for file in files:
        check_file(file)
    try:
        model = core.read_model(path)
        content = parse_json(model.get_rt_info([_KEY]).astype(str), path)
        layers, _ = topology({'class_name': 'Functional', 'config': content}, path)
        ops = {op.get_friendly_name(): op for op in model.get_ops()}
        # The last operation has the name of the output.
        ops[layers[-1]['name']] = ops.pop('logits')
        weights = _weights({layer['name']: ops.get(layer['name']) for layer in layers})
    except (RuntimeError, ValueError, KeyError, MemoryError) as error:
        reason = (str(error).strip().splitlines() or ['damaged'])[-1]
        raise ModelError(
            f'{path}: was not written by brainchop-models, or is damaged ({reason}); use the '
            'model as safetensors, .keras, .h5 or tfjs'
        ) from error
    return network_from_layers(path, layers, weights, files=files)


def _weights(ops: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return kernels and biases of all convolutions, in Keras' order of axes.

    A convolution with a bias has become an addition with its name.
    """
    weights = {}
    for name, op in ops.items():
        if op is None:
            continue
        conv = op
        if op.get_type_name() == 'Add':
            conv = op.input_value(0).get_node()
        kind = conv.get_type_name()
        if 'Convolution' not in kind:
            continue
        kernel = conv.input_value(1).get_node().get_data()
        if kind.startswith('Group'):
            # (groups, filters of a group, channels of a group, ...)
            kernel = kernel.reshape(-1, *kernel.shape[2:])
        weights[f'{name}/kernel'] = np.ascontiguousarray(np.moveaxis(kernel, (1, 0), (-2, -1)))
        if conv is not op:
            weights[f'{name}/bias'] = op.input_value(1).get_node().get_data().ravel()
    return weights


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    Returns
    -------
    module
        ``openvino``.

    Raises
    ------
    BrainchopError
        If it cannot be imported.
    """
    # Telemetry would use the network and write to the home folder.
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

    Each ``Core`` installs an alternate stack for signal handlers, and restores the previous one at
    its end. If the older of two ends first, the restored stack no longer exists and the next
    signal ends the process (seen with OpenVINO 2026.2).

    Returns
    -------
    openvino.Core

    Raises
    ------
    BrainchopError
        If OpenVINO cannot be imported.
    """
    return load_openvino().Core()
