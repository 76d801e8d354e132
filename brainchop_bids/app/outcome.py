"""Outcome of every command: one line on standard error and an exit code, never a traceback."""

import os
import select
import signal
import sys
from collections.abc import Callable

from ..system.errors import BrainchopError, Interrupted, MemoryLimitError, SettingsError
from ..system.processes import name_a_home, protect_children
from ..system.signals import interruptible

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
# What a shell shows of a program that ended because nobody read on, as `head` does.
UNREAD = 128 + signal.SIGPIPE


def outcome(
    prog: str,
    work: Callable[[], int],
    *,
    usage: tuple[type[BrainchopError], ...] = (SettingsError,),
    memory: str = 'memory ran out; grant more',
    interrupted: str = 'nothing is lost that was done',
) -> int:
    """Do a command's work and turn what users can mend into a line and a code.

    Parameters
    ----------
    prog : str
        The command, which begins the line.
    work : callable
        Returns the exit code.
    usage : tuple of exceptions
        Those that mean that the command cannot run as given.
    memory, interrupted : str
        What to say where memory runs out, and after a polite kill that knows nothing better.

    Returns
    -------
    int
        The code that ``work`` returned, `FAILED` (SIGTERM, too), `USAGE`, `INTERRUPTED` or
        `UNREAD`.
    """
    name_a_home()
    protect_children()
    with interruptible():
        return _outcome(prog, work, usage, memory, interrupted)


def _outcome(
    prog: str,
    work: Callable[[], int],
    usage: tuple[type[BrainchopError], ...],
    memory: str,
    interrupted: str,
) -> int:
    try:
        code = work()
        # What is left to write may find no reader either.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _unread():
            raise
        be_silent()
        return UNREAD
    except Interrupted as stop:
        code = INTERRUPTED if stop.number == signal.SIGINT else FAILED
        return _fail(prog, f'{stop}: {stop.state or interrupted}', code)
    except MemoryLimitError as error:
        return _fail(prog, str(error), FAILED)
    except usage as error:
        return _fail(prog, str(error), USAGE)
    except BrainchopError as error:
        return _fail(prog, str(error), FAILED)
    except MemoryError:
        return _fail(prog, memory, FAILED)
    except KeyboardInterrupt:
        return _fail(prog, interrupted, INTERRUPTED)


def be_silent() -> None:
    """Let standard output lead nowhere, where nobody reads it any more."""
    # At the descriptor: what is still buffered is written as Python ends, which would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unread() -> bool:
    """Tell whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def say(prog: str, line: str) -> None:
    """Write a line to standard error."""
    print(f'{prog}: {line}', file=sys.stderr)


def _fail(prog: str, message: str, code: int) -> int:
    say(prog, f'error: {message}')
    return code
