"""What all readers of model files need."""

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...system.errors import ModelError


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ModelError
        Where it is missing or not JSON.
    """
    try:
        return json.loads(read_bytes(path).decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ModelError(f'{path}: is not JSON ({error}); fetch the model again') from error


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f'{path}: is missing; a model folder needs it, fetch the model again'
        ) from error
    except OSError as error:
        raise ModelError(f'{path}: cannot be read ({error.strerror})') from error


def inside(folder: Path, name: str, file: Path) -> Path:
    # Backslashes and drive letters climb out on Windows alone; a model folder should not
    # depend on where it is read.
    forms = PurePosixPath(name), PureWindowsPath(name)
    if not name or any(p.is_absolute() or p.drive or '..' in p.parts for p in forms):
        raise ModelError(
            f'{file}: names the weight file {name!r}, which lies outside the '
            'model folder; such a model is refused'
        )
    return folder / name
