"""Clean interruption by SIGTERM (a batch system's warning of the time limit) and SIGINT (Ctrl-C).

The first signal raises `Interrupted` in the main thread, so that context managers remove
half-written files. Later signals are ignored: batch systems repeat theirs, and Ctrl-C in a
terminal reaches parent and children alike.
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
    """Return the number of the signal that was received, None if there was none.

    Returns
    -------
    int or None
    """
    return _stopped_by[0] if _stopped_by else None


def raise_if_stopped() -> None:
    """Raise `Interrupted` again, in case Python or a library dropped the first one.

    Raises
    ------
    Interrupted
        If a signal was received.
    """
    if _stopped_by:
        raise Interrupted(_stopped_by[0])


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGTERM or SIGINT raise `Interrupted`, and ignore all later ones.

    Previous handlers are restored, unless a signal was received: the process is then ending, and
    a second signal must not interrupt that. (At exit, Python removes handlers but keeps ignored
    signals ignored.)
    """
    before = {}
    # Signals can only be handled in the main thread.
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
    """Prepare a process that the App has started for SIGTERM.

    Ctrl-C is ignored here, because the App sends SIGTERM to its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    _parents[:] = [os.getppid()]


def leave_or_go_on() -> None:
    """Let a worker that was interrupted in a node run the next one, or end if its run is gone.

    It is called after the node has been left, and does not return if the fork server has ended.
    """
    if _parents and os.getppid() != _parents[0]:
        os._exit(1)
    _stopped_by.clear()


def end_processes(roots: Iterable[int], grace: float = 5.0) -> None:
    """End processes and all their descendants, first with SIGTERM, then with SIGKILL.

    On Windows, which has no signals, they end at once.

    Parameters
    ----------
    roots : iterable of int
        Process numbers.
    grace : float
        Time between the two signals, s.
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
        # Sent repeatedly: the first signal ends a worker's node, and the next one the worker.
        polite = time.monotonic() < begun + grace
        for process in left:
            # psutil does not signal a later process that has the same number.
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.terminate() if polite else process.kill()
        time.sleep(0.1)
        left = [process for process in left if _runs(process)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _stopped_by:
        _stopped_by.append(number)
        raise Interrupted(number)


def _runs(process: 'psutil.Process') -> bool:
    import psutil

    try:
        # A process that has ended is a zombie until its parent waits for it.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
