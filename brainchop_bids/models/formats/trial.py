"""Trial of a reader in a process of its own.

The HDF5 library, which is written in C, may crash, loop for ever or allocate any amount of memory
on a damaged file (seen with HDF5 1.14 and random changes of one byte). OpenVINO, too, is given no
file that it has not read in a trial. The trial costs half a second.
"""

import os
import resource
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from ...system.errors import ModelError
from .files import MAX_BYTES, check_file

# Bytes of a file for each further second of processor time.
_SPEED = 50_000_000
# Exit code of a trial whose reader refuses the file.
_REFUSED = 3


def try_reading(
    path: Path, module: str, reader: str, kind: str = 'HDF5', seconds: int = 4
) -> None:
    """Read a file in another process, whose memory and time are limited.

    Parameters
    ----------
    path : Path
        The file.
    module, reader : str
        Full name of a module, and name of the function in it that is called with the path.
    kind : str
        Name of the format, for messages.
    seconds : int
        Processor time, to which some is added for large files.

    Raises
    ------
    ModelError
        If the reader raises it, or does not come to an end.
    """
    check_file(path)
    status = path.stat()
    _try(path, module, reader, kind, seconds, (status.st_ino, status.st_size, status.st_mtime_ns))


@cache
def _try(
    path: Path, module: str, reader: str, kind: str, seconds: int, state: tuple[int, ...]
) -> None:
    code = f'import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()'
    command = [sys.executable, '-c', code, str(path), module, reader, str(seconds)]
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:
        # No process is to be had; most files are not damaged.
        return
    if done.returncode == _REFUSED:
        raise ModelError(done.stdout.decode('utf-8', 'replace'))
    if done.returncode:
        raise ModelError(
            f'{path}: is not a valid {kind} file (its library crashes or does not come to an '
            'end); save it again'
        )


def main() -> None:
    """Carry out one trial, in the process made for it."""
    path, module, reader, seconds = sys.argv[1:]
    read = getattr(import_module(module), reader)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    memory = pages * resource.getpagesize() + 2 * MAX_BYTES
    used, size = sum(os.times()[:2]), Path(path).stat().st_size
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(used) + int(seconds) + size // _SPEED),
    ):
        limit = resource.getrlimit(kind)[1]
        most = most if limit == resource.RLIM_INFINITY else min(most, limit)
        resource.setrlimit(kind, (most, limit))
    try:
        read(Path(path))
    except ModelError as error:
        sys.stdout.buffer.write(str(error).encode())
        sys.stdout.flush()
        sys.exit(_REFUSED)
