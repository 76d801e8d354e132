"""Fields of protocol buffers, without a schema and without copies of their content.

The encoding is described in https://protobuf.dev/programming-guides/encoding. Nothing is allocated
for a length that a file only declares.
"""

from collections.abc import Iterator

import numpy as np

from ...system.errors import ModelError

# Fields of all messages of a file together; large networks have ten thousand.
_MAX_FIELDS = 200_000
# Bytes of a number in base 128.
_MAX_VARINT = 10
_FIXED = {1: 8, 5: 4}

Field = tuple[int, int | memoryview]


class Reader:
    """Reads the messages of one file.

    Parameters
    ----------
    source : str
        The file, for messages.
    """

    def __init__(self, source: str) -> None:
        self._source, self._left = source, _MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[Field]:
        """Iterate over the fields of a message.

        Parameters
        ----------
        message : memoryview
            The encoded message.

        Yields
        ------
        tuple of (int, int or memoryview)
            Number of the field, and its value: a number, or the bytes of a string, a message,
            packed numbers or a float.

        Raises
        ------
        ModelError
            If the bytes are no message, or the file has too many fields.
        """
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise ModelError(
                    f'{self._source}: has over {_MAX_FIELDS:,} fields; such a file is refused'
                )
            key, place = self._varint(message, place)
            number, wire = key >> 3, key & 7
            if wire == 0:
                value, place = self._varint(message, place)
                yield number, value
                continue
            if wire == 2:
                length, place = self._varint(message, place)
            elif wire in _FIXED:
                length = _FIXED[wire]
            else:
                raise self.damaged(f'a field is of type {wire}')
            if length > len(message) - place:
                raise self.damaged('it ends early')
            yield number, message[place : place + length]
            place += length

    def _varint(self, message: memoryview, place: int) -> tuple[int, int]:
        value = 0
        for i, byte in enumerate(message[place : place + _MAX_VARINT]):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value & (1 << 64) - 1, place + i + 1
        raise self.damaged('it ends early' if place + _MAX_VARINT > len(message) else 'a number')

    def text(self, value: int | memoryview) -> str:
        """Return a field as a string."""
        try:
            return bytes(self.message(value)).decode()
        except UnicodeDecodeError as error:
            raise self.damaged('a name is not UTF-8') from error

    def message(self, value: int | memoryview) -> memoryview:
        """Return a field that is a message."""
        if isinstance(value, int):
            raise self.damaged('a number in place of a message')
        return value

    def number(self, value: int | memoryview) -> int:
        """Return a field that is a signed whole number."""
        if not isinstance(value, int):
            raise self.damaged('a message in place of a number')
        return value - (1 << 64) if value >> 63 else value

    def numbers(self, value: int | memoryview) -> list[int]:
        """Return whole numbers that may be packed, at most a hundred."""
        if isinstance(value, int):
            return [self.number(value)]
        found: list[int] = []
        place = 0
        while place < len(value) and len(found) < 100:
            number, place = self._varint(value, place)
            found.append(self.number(number))
        return found

    def damaged(self, reason: str) -> ModelError:
        """Return the error on a file that is no such message."""
        return ModelError(f'{self._source}: is not a valid ONNX file ({reason}); export it again')


def count_varints(packed: int | memoryview) -> int:
    """Return the number of whole numbers in a field that may be packed."""
    if isinstance(packed, int):
        return 1
    # The last byte of each number is below 128.
    return int(np.count_nonzero(np.frombuffer(packed, np.uint8) < 128))
