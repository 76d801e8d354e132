"""Trial of a reader in a process of its own.

The HDF5 library, which is written in C, may crash, loop for ever or allocate any amount of memory
on a damaged file (seen with HDF5 1.14 and random changes of one byte). OpenVINO, too, is given no
file that it has not read in a trial. The trial costs half a second.
"""

import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

from ...system.errors import ModelError
from .files import MAX_BYTES, check_file

# Bytes of a file for each further second of processor time.
_SPEED = 50_000_000
# Processor time, s, and memory, bytes, of Python and its libraries; and how often, s, the process
# is looked at.
_IMPORT_SECONDS, _LIBRARIES, _WATCH_SECONDS = 5, 500_000_000, 0.1
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
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        # No process is to be had; most files are not damaged.
        return
    said = _watch(process, _IMPORT_SECONDS + seconds + path.stat().st_size // _SPEED)
    if process.returncode == _REFUSED:
        raise ModelError(said.decode('utf-8', 'replace'))
    if process.returncode:
        raise ModelError(
            f'{path}: is not a valid {kind} file (its library crashes or does not come to an '
            'end); save it again'
        )


def _watch(process: 'subprocess.Popen[bytes]', seconds: int) -> bytes:
    """Return what a process prints; kill it if it takes more time or memory than is granted.

    On Linux the process also limits itself, more strictly.
    """
    import psutil

    while True:
        try:
            return process.communicate(timeout=_WATCH_SECONDS)[0]
        except subprocess.TimeoutExpired:
            with suppress(psutil.Error):
                found = psutil.Process(process.pid)
                memory, used = found.memory_info().rss, sum(found.cpu_times()[:2])
                if memory > 2 * MAX_BYTES + _LIBRARIES or used > seconds:
                    process.kill()


def main() -> None:
    """Carry out one trial, in the process made for it."""
    path, module, reader, seconds = sys.argv[1:]
    read = getattr(import_module(module), reader)
    # Only Linux has all that this needs; elsewhere `_watch` does it alone.
    with suppress(ImportError, OSError, ValueError):
        _limit(int(seconds) + Path(path).stat().st_size // _SPEED)
    try:
        read(Path(path))
    except ModelError as error:
        sys.stdout.buffer.write(str(error).encode())
        sys.stdout.flush()
        sys.exit(_REFUSED)


def _limit(seconds: int) -> None:
    """Limit the memory and the processor time of this process to some more than it has used."""
    import resource

    pages = int(Path('/proc/self/statm').read_text('ascii').split()[0])
    used = sum(os.times()[:2])
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, pages * resource.getpagesize() + 2 * MAX_BYTES),
        (resource.RLIMIT_CPU, int(used) + seconds),
    ):
        limit = resource.getrlimit(kind)[1]
        most = most if limit == resource.RLIM_INFINITY else min(most, limit)
        resource.setrlimit(kind, (most, limit))
