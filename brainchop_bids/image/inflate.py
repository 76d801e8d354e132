"""Decompression of the part of a file that is needed, in memory of the size of this part."""

import zlib
from collections.abc import Iterator
from pathlib import Path

GZIP = b'\x1f\x8b'
_IN, _OUT = 1 << 16, 1 << 20  # bytes that are read and decompressed at once
_RATIO = 1100  # deflate makes at most 1032 bytes of one
# Bytes behind the part that are decompressed too, since the checksum follows them.
BEHIND = 1 << 24


def most_inflated(size: int) -> int:
    """Return the length that a compressed file of some bytes can have at most."""
    return size * _RATIO


def inflate(path: Path, start: int, size: int) -> tuple[bytearray, int]:
    """Decompress a part of a gzip file; faster than the gzip module.

    Parameters
    ----------
    path : Path
        The file, which may have several members. Anything else behind them is ignored.
    start, size : int
        First byte of the part in the decompressed content, and number of bytes.

    Returns
    -------
    part : bytearray
        The part; shorter if the content ends early.
    length : int
        Length of the content, whose checksums are correct. If more than 16 MB follow the part,
        they are not decompressed: it is then the length up to there.

    Raises
    ------
    OSError
        If the file cannot be read.
    EOFError, zlib.error
        If it is damaged or cut short.
    """
    part, length, end = bytearray(), 0, start + size
    for piece in _pieces(path):
        if length < end:
            part += memoryview(piece)[max(0, start - length) : end - length]
        length += len(piece)
        if length > end + BEHIND:
            break
    return part, length


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open('rb') as stream:
        rest = stream.read(_IN)
        # Some programs write padding, mostly zeros, behind the last member.
        while rest.startswith(GZIP):
            unpacker = zlib.decompressobj(31)
            while not unpacker.eof:
                piece = unpacker.decompress(rest, _OUT)
                rest = unpacker.unconsumed_tail
                if piece:
                    yield piece
                if not rest and not unpacker.eof:
                    rest = stream.read(_IN)
                    if not rest and not piece:
                        raise EOFError('the compressed data end too early')
            rest = unpacker.unused_data
            if len(rest) < len(GZIP):
                rest += stream.read(_IN)
