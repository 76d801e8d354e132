"""The pickle in archives of ``torch.save``, read without running any of its code.

A pickle is a program for a stack machine. Only the instructions that ``torch.save`` writes for
tensors, texts, numbers, lists and dictionaries are carried out here, each in memory of the size of
the instruction; Python's own machine would allocate what the pickle asks for.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

Function = Callable[..., Any]

_LITERALS = (
    'BINFLOAT', 'BININT', 'BININT1', 'BININT2', 'BINUNICODE', 'BINUNICODE8', 'LONG1',
    'SHORT_BINUNICODE',
)  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    'EMPTY_DICT': dict,
    'EMPTY_LIST': list,
    'EMPTY_TUPLE': tuple,
    'NEWFALSE': lambda: False,
    'NEWTRUE': lambda: True,
    'NONE': lambda: None,
}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class PickleReader:
    """A machine for one pickle.

    Parameters
    ----------
    function : callable
        Returns the function for a module and a name, or raises an error.
    storage : callable
        Returns the object for a persistent identifier.
    """

    def __init__(self, function: Callable[[str, str], Function], storage: Function) -> None:
        self.function, self.storage = function, storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, pickled: bytes) -> Any:
        """Return the object.

        Parameters
        ----------
        pickled : bytes
            The pickle.

        Raises
        ------
        ValueError, LookupError, TypeError
            If it is damaged or has other instructions.
        """
        for opcode, argument, _ in pickletools.genops(pickled):
            name = opcode.name
            if name == 'STOP':
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _TUPLES:
                self.stack.append(tuple(self._pop(len(self.stack) - _TUPLES[name])))
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ('PROTO', 'FRAME'):
                raise ValueError(f'the instruction {name}, which torch.save does not write')
        raise ValueError('a pickle without an end')

    def _pop(self, start: int) -> list[Any]:
        if start < 0:
            raise ValueError('a pickle that takes more than there is')
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _pop_marked(self) -> list[Any]:
        return self._pop(self.marks.pop())

    def _mark(self, argument: Any) -> None:
        self.marks.append(len(self.stack))

    def _tuple(self, argument: Any) -> None:
        self.stack.append(tuple(self._pop_marked()))

    def _put(self, argument: Any) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def _get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def _set(self, items: list[Any]) -> None:
        if len(items) % 2 or not isinstance(self.stack[-1], dict):
            raise ValueError('items of no dictionary')
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of nested tuples may take for ever.
            if not isinstance(key, (str, int)):
                raise ValueError(f'a {type(key).__name__} as a key')
            self.stack[-1][key] = value

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError('items of no list')
        self.stack[-1].extend(items)

    def _find(self, argument: str) -> None:
        module, _, name = argument.partition(' ')
        self.stack.append(self.function(module, name))

    def _call(self, argument: Any) -> None:
        function, arguments = self._pop(len(self.stack) - 2)
        if not callable(function) or not isinstance(arguments, tuple):
            raise ValueError('a call of what is no function')
        self.stack.append(function(*arguments))

    def _build(self, argument: Any) -> None:
        # The attributes of a dictionary, such as versions of layers.
        self.stack.pop()


_STEPS: Mapping[str, Callable[[PickleReader, Any], None]] = {
    'MARK': PickleReader._mark,
    'TUPLE': PickleReader._tuple,
    'BINPUT': PickleReader._put,
    'LONG_BINPUT': PickleReader._put,
    'MEMOIZE': PickleReader._put,
    'BINGET': PickleReader._get,
    'LONG_BINGET': PickleReader._get,
    'SETITEM': lambda reader, _: reader._set(reader._pop(len(reader.stack) - 2)),
    'SETITEMS': lambda reader, _: reader._set(reader._pop_marked()),
    'APPEND': lambda reader, _: reader._extend(reader._pop(len(reader.stack) - 1)),
    'APPENDS': lambda reader, _: reader._extend(reader._pop_marked()),
    'GLOBAL': PickleReader._find,
    'STACK_GLOBAL': lambda reader, _: reader._find(' '.join(reader._pop(len(reader.stack) - 2))),
    'REDUCE': PickleReader._call,
    'BUILD': PickleReader._build,
    'BINPERSID': lambda reader, _: reader.stack.append(reader.storage(reader.stack.pop())),
}
