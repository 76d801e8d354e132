"""Checks of ONNX files of other programs, before a library reads them.

Messages and numbers of fields are those of ``onnx.proto`` (https://github.com/onnx/onnx). No
tensor is read, and subgraphs are refused without looking into them.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...system.errors import ModelError
from .files import check_file, inside, read_bytes
from .protobuf import Reader, count_varints

# Versions that OpenVINO reads; torch.onnx.export writes 18 or 20 by default.
_OPSETS, _IR = range(7, 24), range(3, 14)
_DOMAINS = ('', 'ai.onnx')
_MAX_NODES = 20_000
# Operations whose result is not a function of the input, and those on other things than tensors.
_REFUSED = re.compile(
    r'If|Loop|Scan|Bernoulli|Multinomial|Random.*|Optional.*|.*Sequence.*|String.*|TfIdf.*|Regex.*'
    r'|ImageDecoder'
)
# Bytes of a value of each type that is accepted, by the number of the type.
_ITEM = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_FLOAT = 1
# Fields of a tensor with values of its own: number, and how many values the bytes are.
_VALUES: dict[int, Callable[[int | memoryview], int]] = {
    4: lambda value: len(_bytes(value)) // 4,
    5: count_varints,
    7: count_varints,
    10: lambda value: len(_bytes(value)) // 8,
    11: count_varints,
}
_GRAPHS = (6, 11)
_MAX_RANK = 16


@dataclass
class OnnxFile:
    """What is known of a file that passed the checks.

    Parameters
    ----------
    path : Path
        The file.
    properties : dict of str to str
        Metadata.
    operations : set of str
        Kinds of its nodes.
    weights : int
        Number of float32 weights.
    files : list of Path
        The file, and files with its weights.
    """

    path: Path
    properties: dict[str, str] = field(default_factory=dict)
    operations: set[str] = field(default_factory=set)
    weights: int = 0
    files: list[Path] = field(default_factory=list)


def check_onnx(path: Path) -> OnnxFile:
    """Check an ONNX file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    OnnxFile

    Raises
    ------
    ModelError
        If it is damaged, has loops, branches, functions, operations of other domains or of
        random numbers, weights in files that are not beside it, tensors of another size than
        declared, or other than one input and one output.
    """
    return _Checks(path).run()


def _bytes(value: int | memoryview) -> memoryview:
    return memoryview(b'') if isinstance(value, int) else value


class _Checks:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = Reader(str(path))
        self._found = OnnxFile(path, files=[path])
        self._named: set[str] = set()

    def run(self) -> OnnxFile:
        graphs, versions, ir = [], {}, 0
        for number, value in self._fields(memoryview(read_bytes(self._path))):
            if number == 1:
                ir = self._reader.number(value)
            elif number == 7:
                graphs.append(self._reader.message(value))
            elif number == 8:
                domain, version = self._opset(value)
                versions[domain] = version
            elif number == 14:
                self._metadata(value)
            elif number in (20, 25):
                raise self._refused('has functions or training steps', 'export the network alone')
        if len(graphs) != 1:
            raise self._reader.damaged(f'it has {len(graphs)} graphs')
        opset = versions.get('', versions.get('ai.onnx', 0))
        if ir not in _IR or opset not in _OPSETS:
            raise self._refused(
                f'is of opset {opset} and IR version {ir}', 'export it with opset_version=18'
            )
        # Files of `save_onnx` are read differently.
        self._graph(graphs[0])
        return self._found

    def _fields(self, message: int | memoryview) -> Iterator[tuple[int, int | memoryview]]:
        return self._reader.fields(self._reader.message(message))

    def _refused(self, problem: str, advice: str) -> ModelError:
        return ModelError(f'{self._path}: {problem}; {advice}')

    def _opset(self, message: int | memoryview) -> tuple[str, int]:
        fields = dict(self._fields(message))
        domain = self._reader.text(fields[1]) if 1 in fields else ''
        return domain, self._reader.number(fields.get(2, 0))

    def _metadata(self, message: int | memoryview) -> None:
        fields = dict(self._fields(message))
        key, value = (self._reader.text(fields.get(i, memoryview(b''))) for i in (1, 2))
        self._found.properties[key] = value

    def _graph(self, graph: memoryview) -> None:
        inputs, outputs, nodes = [], [], 0
        for number, value in self._fields(graph):
            if number == 1:
                nodes += 1
                self._node(value)
            elif number == 5:
                self._named.add(self._tensor(value))
            elif number == 11:
                inputs.append(self._value(value))
            elif number == 12:
                outputs.append(self._value(value))
            elif number == 15:
                raise self._refused('has sparse weights', 'export it with dense ones')
        if nodes > _MAX_NODES:
            raise self._refused(
                f'has {nodes:,} operations, expected at most {_MAX_NODES:,}',
                'such a file is refused',
            )
        # Weights are listed as inputs, too, in files of older versions.
        inputs = [name for name in inputs if name not in self._named]
        for what, names in (('inputs', inputs), ('outputs', outputs)):
            if len(names) != 1:
                raise self._refused(
                    f'has {len(names)} {what}{" (" * bool(names)}{", ".join(names[:5])}'
                    f'{")" * bool(names)}, expected one',
                    'export a network that takes one volume and returns one',
                )

    def _value(self, message: int | memoryview) -> str:
        fields = dict(self._fields(message))
        name = self._reader.text(fields.get(1, memoryview(b'')))
        kinds = [number for number, _ in self._fields(fields.get(2, memoryview(b'')))]
        if any(number not in (1, 6) for number in kinds):
            raise self._refused(f'{name!r} is no tensor', 'export a network of tensors')
        return name

    def _node(self, message: int | memoryview) -> None:
        kind, domain, attributes = '', '', []
        for number, value in self._fields(message):
            if number == 4:
                kind = self._reader.text(value)
            elif number == 7:
                domain = self._reader.text(value)
            elif number == 5:
                attributes.append(value)
        if domain not in _DOMAINS:
            raise self._refused(
                f'has the operation {kind!r} of {domain!r}, not of ONNX itself',
                'export it with the operations of ONNX',
            )
        if _REFUSED.fullmatch(kind):
            raise self._refused(
                f'has the operation {kind}', 'loops, branches, sequences and chance are refused'
            )
        self._found.operations.add(kind)
        for attribute in attributes:
            self._attribute(kind, attribute)

    def _attribute(self, kind: str, message: int | memoryview) -> None:
        for number, value in self._fields(message):
            if number in _GRAPHS:
                raise self._refused(
                    f'has the operation {kind} with a graph of its own',
                    'loops, branches, sequences and chance are refused',
                )
            if number in (22, 23):
                raise self._refused('has sparse weights', 'export it with dense ones')
            if number in (5, 10):
                self._tensor(value)

    def _tensor(self, message: int | memoryview) -> str:
        name, sizes, kind, outside, stored, count, raw = '', [], 0, False, 0, 0, None
        entries: dict[str, str] = {}
        for number, value in self._fields(message):
            if number == 1:
                sizes += self._reader.numbers(value)
            elif number == 2:
                kind = self._reader.number(value)
            elif number == 8:
                name = self._reader.text(value)
            elif number == 9:
                raw = len(self._reader.message(value))
            elif number == 13:
                pair = dict(self._fields(value))
                key, text = (self._reader.text(pair.get(i, memoryview(b''))) for i in (1, 2))
                entries[key] = text
            elif number == 14:
                outside = value != 0
            elif number in _VALUES:
                count += _VALUES[number](value)
            elif number in (3, 6):
                raise self._refused('has weights that are no numbers', 'export it in float32')
        if kind not in _ITEM:
            raise self._refused(f'{name!r} has values of type {kind}', 'export it in float32')
        if len(sizes) > _MAX_RANK or any(n < 0 for n in sizes):
            raise self._reader.damaged(f'{name!r} has the sizes {sizes[:_MAX_RANK]}')
        expected = math.prod(sizes)
        if bool(entries) != outside or (outside and (count or raw is not None)):
            raise self._reader.damaged(f'{name!r} has values in two places or in none')
        if outside:
            stored = self._outside(name, entries, expected * _ITEM[kind])
        elif raw is not None:
            stored = raw
        else:
            # Complex numbers do not occur, and half floats are stored as whole numbers.
            stored = count * _ITEM[kind]
        if stored != expected * _ITEM[kind] or (raw is not None and count):
            raise self._reader.damaged(
                f'{name!r} has {stored:,} bytes for the sizes {" x ".join(map(str, sizes))}'
            )
        if kind == _FLOAT:
            self._found.weights += expected
        return name

    def _outside(self, name: str, entries: dict[str, str], expected: int) -> int:
        """Check weights in another file; return their number of bytes."""
        location = entries.get('location', '')
        file = inside(self._path.parent, location, self._path)
        # A link, or a folder that is one, could lead anywhere.
        if file.parent != self._path.parent or file.is_symlink():
            raise self._refused(
                f'has the weights {name!r} in {location!r}, expected a file beside it that is no '
                'link',
                'such a file is refused',
            )
        size = check_file(file)
        try:
            offset = int(entries.get('offset') or '0')
            length = int(entries.get('length') or expected)
        except ValueError as error:
            raise self._reader.damaged(f'the place of {name!r} in {location!r}') from error
        if offset < 0 or length < 0 or offset + length > size:
            raise self._reader.damaged(f'{name!r} is beyond the end of {location!r}')
        if file not in self._found.files:
            self._found.files.append(file)
        return length
