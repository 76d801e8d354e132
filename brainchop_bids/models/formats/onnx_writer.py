"""Writer of ONNX files, so that making them needs no package.

Numbers of fields and of types are those of ``onnx.proto`` (https://github.com/onnx/onnx).
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np

Attribute = float | str | Sequence[int]
_IR_VERSION = 9
# Types of values of tensors.
_TYPES = {np.dtype('float32'): 1, np.dtype('int64'): 7}
# Types of attributes.
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7


def node(
    kind: str, inputs: Iterable[str], output: str, attributes: Mapping[str, Attribute]
) -> bytes:
    """Return a NodeProto with one output, which gives it its name.

    Parameters
    ----------
    kind : str
        Type of the operation, e.g. ``'Conv'``.
    inputs : iterable of str
        Names of its inputs; an empty one is left out.
    output : str
        Name of its output.
    attributes : mapping of str to float, int, str or sequence of int
        Its attributes.

    Returns
    -------
    bytes
    """
    settings = [_field(5, _attribute(*item)) for item in attributes.items()]
    fields = [*(_field(1, name) for name in inputs), _field(2, output), _field(3, output)]
    return b''.join([*fields, _field(4, kind), *settings])


def tensor(name: str, values: np.ndarray) -> bytes:
    """Return a TensorProto of float32 or int64 values."""
    raw = np.ascontiguousarray(values, values.dtype.newbyteorder('<')).tobytes()
    dims = b''.join(_field(1, size) for size in np.shape(values))
    return dims + _field(2, _TYPES[values.dtype]) + _field(8, name) + _field(9, raw)


def value(name: str, shape: Iterable[int | str]) -> bytes:
    """Return the ValueInfoProto of a float32 tensor; sides that are open have names."""
    sides = (_field(1, _field(2 if isinstance(side, str) else 1, side)) for side in shape)
    kind = _field(1, _TYPES[np.dtype('float32')]) + _field(2, b''.join(sides))
    return _field(1, name) + _field(2, _field(1, kind))


def model(
    nodes: Iterable[bytes],
    weights: Iterable[bytes],
    *,
    given: bytes,
    made: bytes,
    opset: int,
    properties: Mapping[str, str],
) -> bytes:
    """Return a ModelProto.

    Parameters
    ----------
    nodes, weights : iterable of bytes
        From `node` and `tensor`.
    given, made : bytes
        The input and the output, from `value`.
    opset : int
        Version of the operations.
    properties : mapping of str to str
        Metadata.

    Returns
    -------
    bytes
        The content of a file.
    """
    graph = [
        *(_field(1, one) for one in nodes),
        _field(2, 'network'),
        *(_field(5, one) for one in weights),
        _field(11, given),
        _field(12, made),
    ]
    facts = (_field(14, _field(1, key) + _field(2, text)) for key, text in properties.items())
    return b''.join(
        [
            _field(1, _IR_VERSION),
            _field(2, 'brainchop-bids'),
            _field(7, b''.join(graph)),
            _field(8, _field(1, '') + _field(2, opset)),
            *facts,
        ]
    )


def _attribute(name: str, content: Attribute) -> bytes:
    if isinstance(content, str):
        stored, kind = _field(4, content), _STRING
    elif isinstance(content, Sequence):
        stored, kind = b''.join(_field(8, int(one)) for one in content), _INTS
    elif isinstance(content, Integral):
        stored, kind = _field(3, int(content)), _INT
    else:
        stored, kind = _varint(2 << 3 | 5) + struct.pack('<f', content), _FLOAT
    return _field(1, name) + stored + _field(20, kind)


def _field(number: int, content: int | str | bytes) -> bytes:
    """Return an encoded field, see `protobuf`."""
    if isinstance(content, int):
        # Negative numbers are two's complement of 64 bits.
        return _varint(number << 3) + _varint(content % (1 << 64))
    raw = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(number: int) -> bytes:
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])
