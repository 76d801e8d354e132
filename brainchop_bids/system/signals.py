"""Polite kills: SIGTERM, a batch system's warning before the time limit, and SIGINT, Ctrl-C.

The first one raises `Interrupted` in the main thread, so that whatever is open is left by its
context managers, which remove half-written files. Later ones change nothing: batch systems repeat
themselves, and a terminal's Ctrl-C reaches parent and children alike.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from .errors import Interrupted

if TYPE_CHECKING:
    import psutil

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_stopped_by: list[int] = []
_parents: list[int] = []


def stopped_by() -> int | None:
    """Return the signal that has come, None before.

    Returns
    -------
    int or None
    """
    return _stopped_by[0] if _stopped_by else None


def raise_if_stopped() -> None:
    """Raise again what came at a moment when Python, or a library, dropped it.

    Raises
    ------
    Interrupted
        If a signal has come.
    """
    if _stopped_by:
        raise Interrupted(_stopped_by[0])


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first polite kill raise `Interrupted`, and ignore all others.

    Handlers that were there return, unless a signal has come: the process ends then, and a second
    signal must not cut that short. (Python's own end takes handlers away, and leaves alone what
    is ignored.)
    """
    before = {}
    # In another thread than the main one, nobody can be interrupted.
    with suppress(ValueError):
        for number in _NUMBERS:
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if _stopped_by else handler)


def prepare_worker() -> None:
    """Set up a process that the App started: it ends politely.

    Ctrl-C is left to the App, which tells its workers by SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    _parents[:] = [os.getppid()]


def leave_or_go_on() -> None:
    """Let a worker that was stopped in a node take the next one, unless nobody waits for it.

    It is called when the node has been left, and does not return where the fork server is gone.
    """
    if _parents and os.getppid() != _parents[0]:
        os._exit(1)
    _stopped_by.clear()


def end_processes(roots: Iterable[int], grace: float = 5.0) -> None:
    """End processes and all that they started: first politely, then at once.

    Parameters
    ----------
    roots : iterable of int
        Process numbers.
    grace : float
        Seconds that they have to clean up.
    """
    import psutil

    family = []
    for pid in roots:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            family += [root, *root.children(recursive=True)]
    left = list(dict.fromkeys(family))
    begun = time.monotonic()
    while left and time.monotonic() < begun + grace + 1:
        # Again and again: a worker takes the first for its node, and the next for itself.
        polite = time.monotonic() < begun + grace
        for process in left:
            # It does not send to a later process of the same number.
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.send_signal(signal.SIGTERM if polite else signal.SIGKILL)
        time.sleep(0.1)
        left = [process for process in left if _runs(process)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _stopped_by:
        _stopped_by.append(number)
        raise Interrupted(number)


def _runs(process: 'psutil.Process') -> bool:
    import psutil

    try:
        # One that has ended stays a zombie until its parent asks for it.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
