"""Run a command and take the peak memory of everything it starts."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf('SC_PAGE_SIZE')
_INTERVAL = 0.02


@dataclass(frozen=True)
class Run:
    """What a command took.

    Parameters
    ----------
    seconds : float
        Wall time.
    peak_mb : float
        Highest sum of the resident memory of all its processes, in 10^6 bytes. Pages that two
        of them share count twice.
    """

    seconds: float
    peak_mb: float


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command in a session of its own and watch that session.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    environment : mapping, optional
        Its whole environment; this process's by default.

    Returns
    -------
    Run

    Raises
    ------
    SystemExit
        If the command fails; with the end of what it said.
    """
    start = time.perf_counter()
    child = subprocess.Popen(
        command,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    said, peak = b'', 0
    while child.poll() is None:
        peak = max(peak, _resident(child.pid))
        said += child.stdout.read() or b''
        time.sleep(_INTERVAL)
    seconds = time.perf_counter() - start
    said += child.stdout.read() or b''
    if child.returncode != 0:
        tail = said.decode(errors='replace')[-2000:]
        raise SystemExit(f'exit code {child.returncode}: {" ".join(command)}\n{tail}')
    return Run(seconds, peak / 1e6)


def _resident(session: int) -> int:
    """Return the resident bytes of all processes of a session."""
    total = 0
    for folder in Path('/proc').iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name in brackets may hold spaces: what follows it does not.
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * _PAGE
    return total
