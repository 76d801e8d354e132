"""ONNX files for other programs, with channels first.

Input ``input`` is ``[batch, channels, X, Y, Z]``, output ``logits`` ``[batch, classes, X, Y, Z]``,
float32, with open batch and sizes; networks of images take and make ``[batch, channels, X, Y]``.
Keras' layer configurations are kept in the file's metadata for
`read_onnx`; `onnx_graph` is for ONNX files of other programs.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...system.atomic import bytes_writer, publish
from ...system.errors import ModelError, SettingsError
from ..network import Network, Op
from . import onnx_writer
from .files import Stored, parse_json, read_bytes
from .layer_graph import topology
from .layer_reader import network_from_layers
from .layer_writer import described, mark_normalised, renamed
from .onnx_checks import OnnxFile
from .onnx_layers import WRITERS

_OPSET = 18
_KEY = 'brainchop_network'
_OUTPUT = 'logits'


def save_onnx(network: Network, path: Path) -> None:
    """Write a network as ONNX.

    Parameters
    ----------
    network : Network
        The network.
    path : Path
        The file, ``.onnx``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content = onnx_model(network)
    publish([(path, bytes_writer(content))])


def onnx_model(network: Network) -> bytes:
    """Return a network as the content of an ONNX file, see the docstring of this module."""
    network = named_for_onnx(network)
    layers, _ = described(network, depthwise=False)
    graph = _Graph()
    for op in network.ops[1:]:
        _WRITERS[op.kind](graph, _of_images(op) if network.of_images else op)
    graph.node('Identity', [network.ops[-1].name], _OUTPUT)
    sides = ('x', 'y') if network.of_images else ('x', 'y', 'z')
    ends = [f'{side}_out' for side in sides]
    return onnx_writer.model(
        graph.nodes,
        graph.weights,
        given=onnx_writer.value(network.ops[0].name, ['batch', network.in_channels, *sides]),
        made=onnx_writer.value(_OUTPUT, ['batch', network.classes, *ends]),
        opset=_OPSET,
        properties={_KEY: json.dumps(layers, separators=(',', ':'))},
    )


def named_for_onnx(network: Network) -> Network:
    """Return a network from `mark_normalised`, without a layer that is called as the output."""
    names, other = {op.name for op in network.ops}, f'{_OUTPUT}_layer'
    while other in names:
        other += '_'
    return renamed(mark_normalised(network), {_OUTPUT: other})


def is_own(found: OnnxFile) -> bool:
    """Return whether `save_onnx` wrote a file."""
    return _KEY in found.properties


def read_onnx(path: Path) -> Network:
    """Read a file that `save_onnx` wrote.

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
        If the file is damaged or from another program.
    """
    onnx, content = _onnx(), read_bytes(path)
    try:
        # Weights in other files are not loaded.
        model = onnx.load_model_from_string(content)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        # Names of constants have a colon.
        tensors = [tensor for tensor in model.graph.initializer if ':' not in tensor.name]
    except Exception as error:
        # protobuf has exceptions of its own.
        raise ModelError(f'{path}: is not a valid ONNX file ({error}); write it again') from error
    config = parse_json(properties[_KEY], path)
    layers, _ = topology({'class_name': 'Functional', 'config': config}, path)
    weights = {tensor.name: _stored(onnx, path, tensor) for tensor in tensors}
    return network_from_layers(path, layers, weights, files=(path,))


def _stored(onnx: Any, path: Path, tensor: Any) -> Stored:
    """Return a weight in Keras' order of axes."""
    axes = len(tensor.dims)
    order = (*range(2, axes), 1, 0) if tensor.name.endswith('/kernel') else range(axes)
    # Only what `save_onnx` writes, which is as long as the file.
    if not tensor.HasField('raw_data') or tensor.data_type != onnx.TensorProto.FLOAT:
        raise ModelError(f'{path}: has no values of {tensor.name!r}; write it again')

    def read() -> np.ndarray:
        array = np.frombuffer(tensor.raw_data, '<f4').reshape(tuple(tensor.dims))
        return np.ascontiguousarray(array.transpose(order))

    return Stored(tuple(tensor.dims[axis] for axis in order), read)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise SettingsError(
            'reading ONNX files needs the package onnx; pip install "brainchop-bids[convert]"'
        ) from error
    return onnx


class _Graph:
    """Nodes and weights of a graph in construction."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.weights: list[bytes] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(onnx_writer.node(kind, inputs, output, attributes))

    def weight(self, name: str, values: np.ndarray) -> str:
        self.weights.append(onnx_writer.tensor(name, values))
        return name


def _of_images(op: Op) -> Op:
    """Return an operation without the first axis of volumes."""
    settings = {
        key: value[1:] if key in ('strides', 'dilation', 'size') else value
        for key, value in op.settings.items()
    }
    weights = {key: value[0] if key == 'kernel' else value for key, value in op.weights.items()}
    return replace(op, settings=settings, weights=weights)


def _conv(graph: _Graph, op: Op) -> None:
    settings = op.settings
    kernel = np.moveaxis(op.weights['kernel'], (-1, -2), (0, 1))
    inputs = [*op.inputs, graph.weight(f'{op.name}/kernel', kernel)]
    if 'bias' in op.weights:
        inputs.append(graph.weight(f'{op.name}/bias', op.weights['bias']))
    attributes = {
        'kernel_shape': op.kernel_size,
        'strides': settings['strides'],
        'dilations': settings['dilation'],
    }
    if op.kind == 'conv':
        attributes |= {'group': settings['groups'], **_padding(op, op.kernel_size)}
        graph.node('Conv', inputs, op.name, **attributes)
        return
    reach = [(n - 1) * d + 1 for n, d in zip(op.kernel_size, settings['dilation'], strict=True)]
    over = [n - stride for n, stride in zip(reach, settings['strides'], strict=True)]
    # Strides larger than the kernel leave zeros at the end.
    attributes['output_padding'] = [max(-n, 0) for n in over]
    if settings['padding'] == 'same':
        # Keras crops the output to strides times the size of the input.
        cut = [max(n, 0) for n in over]
        attributes['pads'] = [n // 2 for n in cut] + [n - n // 2 for n in cut]
    graph.node('ConvTranspose', inputs, op.name, **attributes)


def _padding(op: Op, size: Sequence[int]) -> dict[str, Any]:
    """Return the padding of a convolution or pooling as attributes."""
    settings = op.settings
    if settings['padding'] == 'valid':
        return {}
    if set(settings['strides']) != {1}:
        # Depends on the size of the volume; odd padding is at the end, as in Keras.
        if set(settings.get('dilation', (1,))) != {1}:
            raise ModelError(
                f'{op.name}: strides together with dilation cannot be expressed in ONNX'
            )
        return {'auto_pad': 'SAME_UPPER'}
    dilation = settings.get('dilation', (1,) * len(size))
    spans = [(n - 1) * d for n, d in zip(size, dilation, strict=True)]
    return {'pads': [span // 2 for span in spans] + [span - span // 2 for span in spans]}


def _batch_norm(graph: _Graph, op: Op) -> None:
    ones, zeros = np.ones(op.channels, np.float32), np.zeros(op.channels, np.float32)
    defaults = {'gamma': ones, 'beta': zeros, 'moving_mean': zeros, 'moving_variance': ones}
    parameters = [
        graph.weight(f'{op.name}{"/" if name in op.weights else ":"}{name}', values)
        for name, values in {**defaults, **op.weights}.items()
    ]
    graph.node(
        'BatchNormalization', [*op.inputs, *parameters], op.name, epsilon=op.settings['epsilon']
    )


def _activation(graph: _Graph, op: Op) -> None:
    function, alpha = op.settings['function'], op.settings['alpha']
    (source,) = op.inputs
    simple = {
        'linear': 'Identity',
        'relu': 'Relu',
        'selu': 'Selu',
        'sigmoid': 'Sigmoid',
        'softplus': 'Softplus',
        'tanh': 'Tanh',
        'mish': 'Mish',
        'softsign': 'Softsign',
        'exponential': 'Exp',
    }
    if function in simple:
        graph.node(simple[function], [source], op.name)
    elif function in ('leaky_relu', 'elu'):
        graph.node(
            {'leaky_relu': 'LeakyRelu', 'elu': 'Elu'}[function], [source], op.name, alpha=alpha
        )
    elif function == 'softmax':
        graph.node('Softmax', [source], op.name, axis=1)
    elif function == 'relu6':
        bounds = [graph.weight(f'{op.name}:{n}', np.float32(n)) for n in (0, 6)]
        graph.node('Clip', [source, *bounds], op.name)
    elif function == 'silu':
        graph.node('Sigmoid', [source], f'{op.name}:sigmoid')
        graph.node('Mul', [source, f'{op.name}:sigmoid'], op.name)
    else:
        _gelu(graph, op, source, tanh=function == 'gelu_tanh')


def _gelu(graph: _Graph, op: Op, source: str, *, tanh: bool) -> None:
    """Write GELU in basic operations; ONNX has it since opset 20 only."""

    def number(value: float) -> str:
        return graph.weight(f'{op.name}:{value:.4g}', np.float32(value))

    def node(kind: str, *inputs: str) -> str:
        name = f'{op.name}:{len(graph.nodes)}'
        graph.node(kind, inputs, name)
        return name

    if tanh:
        cube = node('Mul', node('Mul', source, source), source)
        inner = node('Add', source, node('Mul', cube, number(0.044715)))
        curve = node('Tanh', node('Mul', inner, number(np.sqrt(2 / np.pi))))
    else:
        curve = node('Erf', node('Mul', source, number(np.sqrt(0.5))))
    half = node('Mul', source, number(0.5))
    graph.node('Mul', [half, node('Add', curve, number(1.0))], op.name)


def _pool(graph: _Graph, op: Op) -> None:
    size, kind = op.settings['size'], {'max_pool': 'MaxPool', 'avg_pool': 'AveragePool'}[op.kind]
    strides = op.settings['strides']
    graph.node(kind, op.inputs, op.name, kernel_shape=size, strides=strides, **_padding(op, size))


def _upsample(graph: _Graph, op: Op) -> None:
    scales = graph.weight(f'{op.name}:scales', np.array([1, 1, *op.settings['size']], np.float32))
    graph.node(
        'Resize',
        [*op.inputs, '', scales],
        op.name,
        mode='nearest',
        coordinate_transformation_mode='asymmetric',
        nearest_mode='floor',
    )


def _zero_pad(graph: _Graph, op: Op) -> None:
    before, after = zip(*op.settings['padding'], strict=True)
    pads = graph.weight(f'{op.name}:pads', np.array([0, 0, *before, 0, 0, *after], np.int64))
    graph.node('Pad', [*op.inputs, pads], op.name)


_WRITERS: dict[str, Callable[[_Graph, Op], None]] = {
    'conv': _conv,
    'conv_transpose': _conv,
    'batch_norm': _batch_norm,
    'activation': _activation,
    'max_pool': _pool,
    'avg_pool': _pool,
    'upsample': _upsample,
    'zero_pad': _zero_pad,
    'concatenate': lambda graph, op: graph.node('Concat', op.inputs, op.name, axis=1),
    **WRITERS,
}
