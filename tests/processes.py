"""Processes of a run, looked at from outside."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest


def stat(pid: int) -> tuple[str, int, int] | None:
    """Return a process's state, parent and session; None where there is none."""
    try:
        state, parent, _, session = (
            Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[:4]
        )
    except (OSError, ValueError):
        return None
    return state, int(parent), int(session)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected does not."""
    found = stat(pid)
    return found is not None and found[0] != 'Z'


def children_of(pid: int) -> set[int]:
    """Return all processes that descend from one."""
    parents = {number: found[1] for number, found in _all().items()}
    found: set[int] = set()
    wave = {pid}
    while wave:
        wave = {child for child, parent in parents.items() if parent in wave} - found
        found |= wave
    return found


def members(session: int, word: str = '') -> list[int]:
    """Return the processes of a session that are alive and have a word in their command line."""
    found = []
    for pid, (state, _, own) in _all().items():
        if own != session or state == 'Z':
            continue
        try:
            if word in Path(f'/proc/{pid}/cmdline').read_text():
                found.append(pid)
        except OSError:
            continue
    return found


def wait_for(what: Callable[[], object], seconds: float = 60, pause: float = 0.05) -> object:
    """Return what a function gives as soon as it gives something; fail where it does not."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = what()
        if found:
            return found
        time.sleep(pause)
    pytest.fail('it did not come')


def gone(pids: Collection[int], within: float) -> bool:
    """Tell whether processes end within some seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _all() -> dict[int, tuple[str, int, int]]:
    numbers = [int(entry.name) for entry in Path('/proc').iterdir() if entry.name.isdigit()]
    return {pid: found for pid in numbers if (found := stat(pid)) is not None}
