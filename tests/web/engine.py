"""The browser app's engine, run in Node."""

import atexit
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ENGINE = Path(__file__).parents[2] / 'web' / 'src' / 'engine'


class EngineError(Exception):
    """What the engine raises: the name of its error, and the message."""


def ask(call: str, **request: Any) -> Any:
    """Run one call of ``run_engine.mjs`` and return its result.

    Parameters
    ----------
    call : str
        Name of the call.
    **request : object
        Arguments of the call, ready for JSON but for paths.

    Raises
    ------
    EngineError
        With the name of the engine's error and its message.
    """
    asked = json.dumps({'call': call, **request}, default=str)
    process = _started()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(asked + '\n')
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        _started.cache_clear()
        raise AssertionError(f'Node ended with {process.wait()}')
    found = json.loads(line)
    if 'error' in found:
        raise EngineError(found['error'], found['message'])
    return found['result']


@cache
def _started() -> 'subprocess.Popen[str]':
    """Start Node, once for all tests of a process."""
    node = shutil.which('node')
    if node is None:
        pytest.skip('npm: there is no Node')
    script = Path(__file__).with_name('run_engine.mjs')
    command = [node, str(script), str(ENGINE)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    return process


def put(path: Path, values: np.ndarray) -> dict[str, str]:
    """Write an array as the engine holds it, first axis fastest; return how to read it."""
    values.ravel(order='F').tofile(path)
    return {'path': str(path), 'type': values.dtype.name.capitalize().replace('int', 'int')}


def got(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array that the engine wrote."""
    return np.fromfile(path, dtype).reshape(shape, order='F')


def box_of(shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Return the box of a whole volume."""
    return {'low': [0, 0, 0], 'high': list(shape)}
