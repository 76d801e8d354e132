"""Pool of worker processes that run networks, for all scans of a run.

Starting Python, loading a model and allocating memory take as long as the network itself, so that
each worker is used for many scans.
"""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.atomic import write_text
from ..system.environment import socket_folder
from ..system.errors import BrainchopError
from ..system.locks import lock_file
from ..system.processes import describe_end, for_children, module_command
from .scan_settings import ScanSettings

# Windows has no sockets in folders, whose permissions keep others away: there each scan gets a
# process of its own.
SUPPORTED = hasattr(socket, 'AF_UNIX')
WORKER = 'brainchop_bids.inference.worker'
# Time, s, that a busy process has to end when the run is stopped and its result is not needed.
_GRACE_SECONDS = 2
# Longest time, s, between the end of a worker and the file with its exit code; polling interval.
_CODE_SECONDS, _POLL_SECONDS = 2, 0.02
_PROCESS = 'the segmentation process'


@dataclass(frozen=True)
class Request:
    """Request to a worker process to segment a scan.

    Parameters
    ----------
    settings : ScanSettings
        Settings of the scan.
    model : Path
        Folder of the model.
    folder : Path
        Folder that relative paths start from.
    """

    settings: ScanSettings
    model: Path
    folder: Path

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(
            {
                'settings': self.settings.to_dict(),
                'model': str(self.model),
                'folder': str(self.folder),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> 'Request':
        """Parse the text that `to_json` returns."""
        content = json.loads(text)
        settings = ScanSettings.from_dict(content['settings'])
        return cls(settings, Path(content['model']), Path(content['folder']))


@contextlib.contextmanager
def worker_pool(number: int, example: Request, threads: int) -> Iterator[Path]:
    """Start worker processes.

    Parameters
    ----------
    number : int
        Number of processes.
    example : Request
        A request like those to come; its scan need not exist. Workers load its model in advance.
    threads : int
        Number of threads of each process.

    Yields
    ------
    Path
        Folder that identifies the pool for `segment_in_pool`. The processes end when the context
        is left or this process ends.
    """
    # Not the work folder, because paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix='brainchop-', dir=socket_folder()) as folder:
        workers = [_Worker(Path(folder) / str(place), example, threads) for place in range(number)]
        try:
            yield Path(folder)
        finally:
            for worker in workers:
                worker.close()
            for worker in workers:
                worker.end()


class _Worker:
    """A worker process, and a thread that writes its exit code to a file when it ends.

    Requests come from other processes, which cannot ask the system for the exit code.

    Parameters
    ----------
    path : Path
        Path of its files without their suffixes: ``.socket``, ``.lock``, ``.stderr``, ``.code``.
    example : Request
        A request like those to come.
    threads : int
        Number of threads of the process.
    """

    def __init__(self, path: Path, example: Request, threads: int) -> None:
        with path.with_suffix('.stderr').open('wb') as stderr:
            self._process = subprocess.Popen(  # noqa: S603, our own command
                module_command(WORKER, str(path.with_suffix('.socket')), example.to_json()),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=_environment(threads),
            )
        path.with_suffix('.lock').touch()
        self._path = path
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        write_text(self._path.with_suffix('.code'), str(self._process.wait()))

    def close(self) -> None:
        """Let the process end as soon as it is idle."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def end(self) -> None:
        """Wait until the process has ended, and kill it if that takes too long."""
        self._watcher.join(_GRACE_SECONDS)
        self._process.kill()
        self._watcher.join()


def segment_in_pool(pool: Path, request: Request) -> dict[str, Any] | None:
    """Segment a scan in a process of a pool.

    Parameters
    ----------
    pool : Path
        Folder that `worker_pool` yields.
    request : Request
        The request.

    Returns
    -------
    dict or None
        Facts that `brainchop_bids.inference.scan.segment_scan` returns; None if no process is
        free or left.

    Raises
    ------
    BrainchopError
        If the scan cannot be segmented, or the process ended early.
    """
    for lock in sorted(pool.glob('*.lock')):
        with contextlib.suppress(OSError), lock.open('rb') as held:
            lock_file(held)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(lock.with_suffix('.socket')))
                answer = _ask(connection, request)
            if not answer:
                raise BrainchopError(_ended_early(lock))
            return _stats(answer)
    return None


def segment_in_process(request: Request) -> dict[str, Any]:
    """Segment a scan in a separate process.

    This process does not load TensorFlow, only this scan fails if the other process is killed,
    and the memory of a GPU is released when it ends.

    Parameters
    ----------
    request : Request
        The request.

    Returns
    -------
    dict
        Facts that `brainchop_bids.inference.scan.segment_scan` returns.

    Raises
    ------
    BrainchopError
        If the scan cannot be segmented, or the process ended early.
    """
    with tempfile.TemporaryDirectory(prefix='brainchop-') as folder:
        answer = Path(folder) / 'answer.json'
        done = subprocess.run(  # noqa: S603, our own command
            module_command(WORKER, '--once', str(answer)),
            input=request.to_json(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding='utf-8',
            errors='replace',
            check=False,
            env=_environment(request.settings.threads),
        )
        if answer.exists():
            return _stats(answer.read_text(encoding='utf-8'))
    raise BrainchopError(describe_end(_PROCESS, done.returncode, done.stderr))


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, 'OMP_NUM_THREADS': str(threads), **for_children()}


def _ask(connection: socket.socket, request: Request) -> str:
    """Return the answer of a worker, '' if it ended before it answered."""
    with contextlib.suppress(OSError), connection.makefile('rw', encoding='utf-8') as stream:
        stream.write(request.to_json() + '\n')
        stream.flush()
        return stream.readline()
    return ''


def _stats(answer: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(answer)
    if 'error' in content:
        raise BrainchopError(content['error'])
    return content


def _ended_early(lock: Path) -> str:
    """Describe in one line the end of a worker that did not answer."""
    path, until = lock.with_suffix('.code'), time.monotonic() + _CODE_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            return f'{_PROCESS} gave no answer'
        time.sleep(_POLL_SECONDS)
    stderr = lock.with_suffix('.stderr').read_text('utf-8', 'replace')
    return describe_end(_PROCESS, int(path.read_text('ascii')), stderr)
