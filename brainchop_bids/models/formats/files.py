"""Reading of files in model folders, with errors that name the file."""

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...system import files
from ...system.errors import ModelError


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ModelError
        If it is missing or not JSON.
    """
    try:
        return json.loads(read_bytes(path).decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ModelError(f'{path}: is not JSON ({error}); fetch the model again') from error


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises
    ------
    ModelError
        If it is missing or cannot be read.
    """
    try:
        return files.read_bytes(path)
    except FileNotFoundError as error:
        raise ModelError(
            f'{path}: is missing; a model folder needs it, fetch the model again'
        ) from error
    except OSError as error:
        raise ModelError(f'{path}: cannot be read ({error.strerror})') from error


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
