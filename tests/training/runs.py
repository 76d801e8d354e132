"""Runs of ``brainchop-train`` in a process of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from brainchop_bids.training.checkpoints import list_states
from tests.processes import children_of, wait_for


def command(config: Path, out: Path, *more: str) -> list[str]:
    """Return the command line; each ``key=value`` becomes a ``--set``."""
    sets = [word for change in more for word in ('--set', change)]
    start = [sys.executable, '-m', 'brainchop_bids.cli.train', str(config)]
    return [*start, '--out', str(out), *sets]


def run(config: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, whatever it is."""
    return subprocess.run(command(config, out, *more), capture_output=True, text=True)


def kill_after(checkpoints: int, config: Path, out: Path, *more: str) -> set[int]:
    """Run until there are so many checkpoints, then kill -9; return the children left behind."""
    with subprocess.Popen(command(config, out, *more), stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list_states(out / 'checkpoints')) >= checkpoints, 1200)
        children = children_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    return children
