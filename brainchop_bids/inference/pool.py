"""Processes that run networks, for all scans of a run."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..system.processes import for_children

# For a process that is not idle: the run is stopped, and what it makes is not wanted.
_GRACE_SECONDS = 2


@contextlib.contextmanager
def staying_processes(
    number: int, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Path]:
    """Start processes that wait for scans; see `brainchop_bids.inference.worker`.

    Parameters
    ----------
    number : int
        How many.
    arguments : sequence of str
        Command line of a scan to come, which they prepare for meanwhile.
    environment : mapping of str
        Environment variables besides those of this process.

    Yields
    ------
    Path
        The folder by which `ask` finds them. They end with the context, or with this process.
    """
    # Not in the work folder: names of sockets must be short.
    with tempfile.TemporaryDirectory(prefix='brainchop-') as folder:
        command = [sys.executable, '-m', 'brainchop_bids.inference.worker']
        processes = [
            subprocess.Popen(  # noqa: S603, our own command
                [*command, str(Path(folder) / f'{place}.socket'), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **environment, **for_children()},
            )
            for place in range(number)
        ]
        for place in range(number):
            (Path(folder) / f'{place}.lock').touch()
        try:
            yield Path(folder)
        finally:
            for process in processes:
                if process.stdin is not None:
                    process.stdin.close()
            for process in processes:
                try:
                    process.wait(timeout=_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def ask(folder: Path, arguments: Sequence[str]) -> tuple[int, str] | None:
    """Let one of the processes do a command line, in this process's folder.

    Parameters
    ----------
    folder : Path
        Of `staying_processes`.
    arguments : sequence of str
        Of ``brainchop-segment``.

    Returns
    -------
    tuple of (int, str) or None
        The exit code and what was said; -9 where the process was killed meanwhile. None where
        none is free or left.
    """
    for lock in sorted(folder.glob('*.lock')):
        with contextlib.suppress(OSError), lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(lock.with_suffix('.socket')))
                return _ask(connection, arguments)
    return None


def _ask(connection: socket.socket, arguments: Sequence[str]) -> tuple[int, str]:
    request = {'arguments': list(arguments), 'folder': str(Path.cwd())}
    answer = ''
    with contextlib.suppress(OSError), connection.makefile('rw') as stream:
        stream.write(json.dumps(request) + '\n')
        stream.flush()
        answer = stream.readline()
    if not answer:
        return -9, ''
    found = json.loads(answer)
    return int(found['code']), str(found['said'])
