"""ONNX files that are hostile or damaged; each function writes one and returns what is said."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CASES: dict[str, Callable[[Path], str]] = {}
OPEN = (1, 1, 'x', 'y', 'z')
_ABSENT = '/no/such/file'


def case(write: Callable[[Path], str]) -> Callable[[Path], str]:
    CASES[write.__name__] = write
    return write


def constant(name: str, values: Any, kind: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def onnx_model(
    nodes: Sequence[Any],
    weights: Sequence[TensorProto] = (),
    *,
    given: Sequence[Any] = OPEN,
    made: Sequence[Any] = (1, 2, 'x', 'y', 'z'),
    kind: int = TensorProto.FLOAT,
    opset: int = 18,
) -> Any:
    """Return a model with the input ``in`` and the output ``out``."""
    graph = helper.make_graph(
        list(nodes),
        'graph',
        [helper.make_tensor_value_info('in', TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info('out', kind, made)],
        list(weights),
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid('', opset)])


def save(folder: Path, model: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'model.onnx').write_bytes(model.SerializeToString())


def conv(kernel: TensorProto | None = None) -> tuple[list[Any], list[TensorProto]]:
    """Return a 1x1x1 convolution from ``in`` to ``out``."""
    kernel = kernel or constant('kernel', np.ones((2, 1, 1, 1, 1)), np.float32)
    return [helper.make_node('Conv', ['in', 'kernel'], ['out'])], [kernel]


def outside(**entries: Any) -> TensorProto:
    """Return the kernel of `conv`, with its values in another file."""
    kernel = TensorProto(name='kernel', data_type=TensorProto.FLOAT, dims=(2, 1, 1, 1, 1))
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        kernel.external_data.add(key=key, value=str(value))
    return kernel


def added(*inputs: str) -> list[Any]:
    """Return the sum of ``in`` and other values, as a node for ``out``."""
    return [helper.make_node('Add', ['in', *inputs], ['out'])]


def elsewhere(name: str, location: str, said: str) -> None:
    def write(folder: Path) -> str:
        (folder / 'sub').mkdir(parents=True)
        (folder / 'sub' / 'w').write_bytes(bytes(8))
        os.symlink(folder / 'sub' / 'w', folder / 'link')
        save(folder, onnx_model(*conv(outside(location=location))))
        return said

    CASES[name] = write


elsewhere('weights_above', '../w', "names the weight file '../w', which lies outside")
elsewhere('weights_anywhere', _ABSENT, f"names the weight file '{_ABSENT}', which lies outside")
elsewhere('weights_of_windows', 'C:\\w', 'which lies outside the model folder')
elsewhere('weights_in_a_folder', 'sub/w', "in 'sub/w', expected a file beside it that is no link")
elsewhere('weights_by_a_link', 'link', "in 'link', expected a file beside it that is no link")
elsewhere('weights_that_are_missing', 'w', 'w: is missing; a model folder needs it')
elsewhere('weights_of_no_name', '', "names the weight file ''")


@case
def weights_of_an_attribute_elsewhere(folder: Path) -> str:
    node = helper.make_node('Constant', [], ['kernel'], value=outside(location='../w'))
    save(folder, onnx_model([node, *conv()[0]]))
    return "names the weight file '../w', which lies outside"


@case
def weights_beyond_their_file(folder: Path) -> str:
    save(folder, onnx_model(*conv(outside(location='w', offset=4, length=8))))
    (folder / 'w').write_bytes(bytes(8))
    return "'kernel' is beyond the end of 'w'"


@case
def weights_shorter_than_their_shape(folder: Path) -> str:
    save(folder, onnx_model(*conv(outside(location='w', length=4))))
    (folder / 'w').write_bytes(bytes(8))
    return "'kernel' has 4 bytes for the sizes 2 x 1 x 1 x 1 x 1"


def wrong_sizes(name: str, sizes: Sequence[int], said: str) -> None:
    def write(folder: Path) -> str:
        kernel = TensorProto(name='kernel', data_type=TensorProto.FLOAT, raw_data=bytes(8))
        kernel.dims.extend(sizes)
        save(folder, onnx_model(*conv(kernel)))
        return said

    CASES[name] = write


wrong_sizes('terabytes_declared', (1 << 20, 1 << 20), "'kernel' has 8 bytes for the sizes")
wrong_sizes('sizes_below_zero', (-1, -2), "'kernel' has the sizes [-1, -2]")
wrong_sizes('sizes_that_overflow', (1 << 32, 1 << 32), "'kernel' has 8 bytes for the sizes")
wrong_sizes('a_hundred_axes', (1,) * 100, "'kernel' has the sizes [1, 1, ")


def body() -> Any:
    """Return a graph that a loop repeats."""
    flag = helper.make_tensor_value_info('flag', TensorProto.BOOL, [])
    return helper.make_graph([helper.make_node('Identity', ['c'], ['flag'])], 'body', [], [flag])


def control(kind: str, **attributes: Any) -> None:
    def write(folder: Path) -> str:
        node = helper.make_node(kind, ['in'], ['out'], **attributes)
        save(folder, onnx_model([node]))
        return f'has the operation {kind}'

    CASES[f'operation_{kind}'] = write


control('Loop', body=body())
control('Scan', body=body(), num_scan_inputs=1)
control('If', then_branch=body(), else_branch=body())
control('RandomNormalLike')
control('SequenceMap', body=body())
control('Relu', body=body())


@case
def unknown_domain(folder: Path) -> str:
    save(folder, onnx_model([helper.make_node('Run', ['in'], ['out'], domain='com.evil')]))
    return "has the operation 'Run' of 'com.evil', not of ONNX itself"


@case
def function_of_its_own(folder: Path) -> str:
    model = onnx_model(*conv())
    model.functions.add(name='f', domain='d')
    save(folder, model)
    return 'has functions or training steps'


@case
def later_opset(folder: Path) -> str:
    save(folder, onnx_model(*conv(), opset=99))
    return 'is of opset 99 and IR version 9; export it with opset_version=18'


@case
def two_inputs(folder: Path) -> str:
    model = onnx_model(*conv())
    model.graph.input.add(name='more').type.tensor_type.elem_type = TensorProto.FLOAT
    save(folder, model)
    return 'has 2 inputs (in, more), expected one'


@case
def no_output(folder: Path) -> str:
    model = onnx_model(*conv())
    del model.graph.output[:]
    save(folder, model)
    return 'has 0 outputs, expected one'


@case
def sparse_weights(folder: Path) -> str:
    model = onnx_model(*conv())
    model.graph.sparse_initializer.add()
    save(folder, model)
    return 'has sparse weights'


@case
def strings_as_weights(folder: Path) -> str:
    save(folder, onnx_model(*conv(helper.make_tensor('kernel', TensorProto.STRING, [1], [b'x']))))
    return 'has weights that are no numbers'


def written(name: str, content: bytes, said: str) -> None:
    def write(folder: Path) -> str:
        folder.mkdir(parents=True)
        (folder / 'model.onnx').write_bytes(content)
        return said

    CASES[name] = write


def wrapped(content: bytes, field: int, levels: int) -> bytes:
    """Return a message within messages; lengths are written in five bytes."""
    for _ in range(levels):
        size = bytes(len(content) >> 7 * i & 127 | 128 * (i < 4) for i in range(5))
        content = bytes([field << 3 | 2]) + size + content
    return content


_GOOD = onnx_model(*conv()).SerializeToString()
written('cut_off', _GOOD[:-9], 'is not a valid ONNX file (it ends early)')
written('two_gigabytes_declared', b'\x08\x09\x3a\xff\xff\xff\xff\x07', 'it ends early')
written('no_onnx', b'These are no bytes of ONNX.', 'is not a valid ONNX file (')
written('nothing', b'', 'is not a valid ONNX file (it has 0 graphs)')
written('endless_number', b'\x08' + b'\xff' * 99, 'is not a valid ONNX file (a number)')
written('graphs_that_merge', _GOOD + _GOOD, 'is not a valid ONNX file (it has 2 graphs)')
written('countless_fields', b'\x08\x09' * 300_000, 'has over 200,000 fields')
# A graph in an attribute of a node in a graph, and so on.
_NESTED = wrapped(wrapped(wrapped(b'', 6, 1), 5, 1), 1, 1)
for _ in range(2000):
    _NESTED = wrapped(wrapped(wrapped(_NESTED, 6, 1), 5, 1), 1, 1)
_HEAD = onnx_model(*conv())
_HEAD.ClearField('graph')
written(
    'graphs_in_graphs', _HEAD.SerializeToString() + wrapped(_NESTED, 7, 1), 'with a graph of its'
)


@case
def types_in_types(folder: Path) -> str:
    model = onnx_model(*conv())
    kind = model.graph.input[0].type
    for _ in range(50):
        kind.ClearField('value')
        kind = kind.sequence_type.elem_type
    save(folder, model)
    return "'in' is no tensor"


@case
def constant_of_terabytes(folder: Path) -> str:
    node = helper.make_node('ConstantOfShape', ['size'], ['much'])
    size = constant('size', (1, 1, 1 << 14, 1 << 14, 1 << 14))
    save(folder, onnx_model([node, *added('much')], [size]))
    return 'model.onnx: '


@case
def constant_that_expands(folder: Path) -> str:
    nodes = [
        helper.make_node('Expand', ['one', 'size'], ['much']),
        helper.make_node('ReduceSum', ['much'], ['little'], keepdims=0),
        *added('little'),
    ]
    weights = [constant('one', [1], np.float32), constant('size', (1 << 12, 1 << 12, 4))]
    save(folder, onnx_model(nodes, weights, made=OPEN))
    return 'computes 256 MB of constants out of'


@case
def constant_of_tiles(folder: Path) -> str:
    nodes = [
        helper.make_node('Tile', ['one', 'times'], ['much']),
        helper.make_node('ReduceSum', ['much'], ['little'], keepdims=0),
        *added('little'),
    ]
    weights = [constant('one', [1], np.float32), constant('times', [1 << 27])]
    save(folder, onnx_model(nodes, weights, made=OPEN))
    return 'computes 512 MB of constants out of'


@case
def sizes_by_values(folder: Path) -> str:
    nodes = [
        helper.make_node('NonZero', ['in'], ['places']),
        helper.make_node('Cast', ['places'], ['numbers'], to=TensorProto.FLOAT),
        helper.make_node('ReduceSum', ['numbers'], ['sum'], keepdims=0),
        *added('sum'),
    ]
    save(folder, onnx_model(nodes, made=OPEN))
    return "the size of 'places' depends on values"


@case
def weights_that_are_no_numbers(folder: Path) -> str:
    kernel = constant('kernel', np.full((2, 1, 1, 1, 1), np.nan), np.float32)
    save(folder, onnx_model(*conv(kernel)))
    return "weight 'kernel' holds values that are no numbers (NaN)"


@case
def volumes_of_terabytes(folder: Path) -> str:
    sides = (30_000,) * 3
    save(folder, onnx_model(*conv(), given=(1, 1, *sides), made=(1, 2, *sides)))
    return 'takes volumes of 30000 x 30000 x 30000, expected at most 1024'


@case
def labels_in_place_of_classes(folder: Path) -> str:
    node = helper.make_node('ArgMax', ['in'], ['out'], axis=1)
    save(folder, onnx_model([node], made=OPEN, kind=TensorProto.INT64))
    return 'its output is of type i64, expected float32'


@case
def planes_in_place_of_volumes(folder: Path) -> str:
    save(folder, onnx_model([helper.make_node('Relu', ['in'], ['out'])], given=OPEN[:4]))
    return 'expected five axes: batch, channels and three of a volume'


@case
def volumes_that_shrink(folder: Path) -> str:
    node = helper.make_node('MaxPool', ['in'], ['out'], kernel_shape=[2] * 3, strides=[2] * 3)
    save(folder, onnx_model([node], made=(1, 1, 'a', 'b', 'c')))
    return 'expected the same voxels'
