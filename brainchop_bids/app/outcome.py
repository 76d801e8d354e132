"""Outcome of every command: one line on standard error and an exit code, never a traceback."""

import os
import select
import signal
import sys
from collections.abc import Callable

from ..system.environment import (
    check_current_folder,
    private_caches,
    standard_streams,
    use_utf8,
)
from ..system.errors import BrainchopError, Interrupted, MemoryLimitError, SettingsError
from ..system.processes import name_a_home, protect_children, why_refused
from ..system.signals import interruptible
from ..system.text import printable

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
# Dependencies that requirements-light.txt leaves out, by the names that they are imported by.
_LEFT_OUT = {
    'h5py': 'h5py',
    'keras': 'tensorflow',
    'niworkflows': 'niworkflows',
    'surface_distance': 'surface-distance',
    'tensorboardX': 'tensorboardX',
    'tensorflow': 'tensorflow',
}
# Exit code that a shell reports for a program whose reader, e.g. `head`, closed the pipe (128 and
# SIGPIPE, for which Windows has no name).
UNREAD = 141


def outcome(
    prog: str,
    work: Callable[[], int],
    *,
    usage: tuple[type[BrainchopError], ...] = (SettingsError,),
    memory: str = 'memory ran out; grant more',
    interrupted: str = 'nothing is lost that was done',
    answers: bool = True,
) -> int:
    """Run a command's work and turn expected errors into one line and an exit code.

    Parameters
    ----------
    prog : str
        Name of the command, which begins the line.
    work : callable
        Does the work and returns the exit code.
    usage : tuple of exceptions
        Exceptions that mean that the command cannot run as given.
    memory, interrupted : str
        Messages for a MemoryError, and for an interruption that has no message of its own.
    answers : bool
        True if standard output has the command's results, so that it fails if they cannot be
        written; False if it only reports on the work.

    Returns
    -------
    int
        The code that ``work`` returned, `FAILED` (also after SIGTERM), `USAGE`, `INTERRUPTED`
        or `UNREAD`.
    """
    use_utf8()
    name_a_home()
    protect_children()
    with standard_streams(answers=answers) as streams:
        with private_caches(), interruptible():
            code = _outcome(prog, work, usage, memory, interrupted)
        if streams.lost is None:
            return code
        say(prog, f'standard output could not be written ({streams.lost}); its lines are lost')
        return max(code, FAILED) if answers else code


def _outcome(
    prog: str,
    work: Callable[[], int],
    usage: tuple[type[BrainchopError], ...],
    memory: str,
    interrupted: str,
) -> int:
    expected: tuple[type[BrainchopError], ...] = (SettingsError, *usage)
    try:
        check_current_folder()
        code = work()
        # Writing what is still buffered may fail as well.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _unread():
            raise
        _be_silent()
        return UNREAD
    except Interrupted as stop:
        code = INTERRUPTED if stop.number == signal.SIGINT else FAILED
        return _fail(prog, f'{stop}: {stop.state or interrupted}', code)
    except MemoryLimitError as error:
        return _fail(prog, str(error), FAILED)
    except expected as error:
        return _fail(prog, str(error), USAGE)
    except BrainchopError as error:
        return _fail(prog, str(error), FAILED)
    except MemoryError:
        return _fail(prog, memory, FAILED)
    except ModuleNotFoundError as error:
        package = _LEFT_OUT.get((error.name or '').partition('.')[0])
        if package is None:
            raise
        return _fail(prog, f'this needs the package {package}; pip install {package}', FAILED)
    except (RuntimeError, BlockingIOError) as error:
        refused = why_refused(str(error))
        if refused is None:
            raise
        return _fail(prog, refused, FAILED)
    except KeyboardInterrupt:
        return _fail(prog, interrupted, INTERRUPTED)


def _be_silent() -> None:
    """Redirect standard output to the null device, after its reader has gone."""
    # At the level of the descriptor, because Python flushes its buffer at exit and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unread() -> bool:
    """Return True if standard output is a pipe whose reader has gone."""
    if not hasattr(select, 'poll'):  # Windows
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def say(prog: str, line: str) -> None:
    """Write a line to standard error, with escapes for what is not printable."""
    print(f'{prog}: {printable(line)}', file=sys.stderr)


def _fail(prog: str, message: str, code: int) -> int:
    say(prog, f'error: {message}')
    return code
