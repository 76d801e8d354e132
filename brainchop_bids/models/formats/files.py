"""Reading of files in model folders, within their own size and with errors that name the file."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ...system.errors import ModelError
from ...system.files import require_regular

# Limit of the size of a file; the largest networks of the field, U-Nets, take 100 MB.
MAX_BYTES = 1 << 30
# Limits of JSON. Descriptions of large networks have 200 kB and ten levels.
_MAX_JSON = 1 << 23
_MAX_DEPTH = 50
_DEEP = f'it has over {_MAX_DEPTH} levels'
_MAX_INTEGER = 1 << 64


@dataclass(frozen=True)
class Stored:
    """Weights in a file, which are read only if their layer has this shape.

    Parameters
    ----------
    shape : tuple of int
        Shape, as the file has it.
    read : callable
        Returns the values.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class Budget:
    """Memory that the content of a file may take, which follows from the size of the file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ModelError
        As `check_file`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, check_file(path)
        # Real weights compress by a tenth; those of new networks have zeros.
        self.left = min(16 * self.size + (1 << 24), MAX_BYTES)

    def take(self, nbytes: int) -> None:
        """Take memory for a part of the content.

        Raises
        ------
        ModelError
            If there is not so much left.
        """
        self.left -= nbytes
        if self.left < 0:
            raise ModelError(
                f'{self.path}: its content would take over {nbytes >> 20:,} MB of memory, but the '
                f'file has {self.size:,} bytes; such a file is refused'
            )


def parse_json(text: str | bytes, path: Path) -> Any:
    """Parse JSON in a model's file.

    Parameters
    ----------
    text : str or bytes
        The JSON.
    path : Path
        The file, for messages.

    Returns
    -------
    object
        Its numbers are finite, and it has no more than 50 levels.

    Raises
    ------
    ModelError
        If it is not JSON, or beyond these limits.
    """
    try:
        if len(text) > _MAX_JSON:
            raise ValueError(f'it has over {_MAX_JSON >> 20} MB')
        content = json.loads(
            text, parse_float=_float, parse_int=_integer, parse_constant=_constant
        )
        _check_depth(content)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else _DEEP
        raise ModelError(f'{path}: is not JSON ({reason}); fetch the model again') from error
    return content


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'the number {text[:20]} is too large')
    return value


def _integer(text: str) -> int:
    # Twenty digits and a sign; more take time to convert.
    value = int(text) if len(text) < 22 else _MAX_INTEGER
    if abs(value) >= _MAX_INTEGER:
        raise ValueError(f'the number {text[:20]}... is too large')
    return value


def _constant(text: str) -> float:
    raise ValueError(f'{text} is no number')


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(_MAX_DEPTH):
        parts = [
            part.values() if isinstance(part, dict) else part
            for part in level
            if isinstance(part, (dict, list))
        ]
        level = [item for part in parts for item in part]
        if not level:
            return
    raise ValueError(_DEEP)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ModelError
        If it is missing, or `parse_json` refuses it.
    """
    content = read_bytes(path, _MAX_JSON)
    return parse_json(content.removeprefix(b'\xef\xbb\xbf'), path)


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Read a file.

    Raises
    ------
    ModelError
        As `check_file`.
    """
    check_file(path, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f'{path}: cannot be read ({error.strerror})') from error


def check_file(path: Path, limit: int = MAX_BYTES) -> int:
    """Return the size of a file in bytes, without opening it.

    Parameters
    ----------
    path : Path
        The file.
    limit : int
        Largest size, bytes.

    Returns
    -------
    int

    Raises
    ------
    ModelError
        If it is missing, too large, or a pipe or device, whose reading might never end.
    """
    try:
        require_regular(path)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ModelError(
            f'{path}: is missing; a model folder needs it, fetch the model again'
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ModelError(f'{path}: cannot be read ({reason})') from error
    if size > limit:
        raise ModelError(
            f'{path}: has {size >> 20:,} MB, expected at most {limit >> 20:,}; such a '
            'file is refused'
        )
    return size


def inside(folder: Path, name: str, file: Path) -> Path:
    """Return the path of a file in a model folder.

    Parameters
    ----------
    folder : Path
        The model folder.
    name : str
        Relative path of the file.
    file : Path
        File that names it, for messages.

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        If the path leads out of the folder, on any operating system.
    """
    forms = PurePosixPath(name), PureWindowsPath(name)
    if not name or any(p.is_absolute() or p.drive or '..' in p.parts for p in forms):
        raise ModelError(
            f'{file}: names the weight file {name!r}, which lies outside the '
            'model folder; such a model is refused'
        )
    return folder / name
