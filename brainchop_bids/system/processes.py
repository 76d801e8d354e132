"""Processes of a run: they import nothing from the current folder, and none outlives the run.

After ``kill -9`` of a run its workers would otherwise wait for work for ever, and write what they
were computing into folders that the next run uses.
"""

import errno
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .environment import restore_variables, socket_folder
from .errors import SettingsError

_PARENT = 'BRAINCHOP_PARENT'
_SAFE_PATH = 'PYTHONSAFEPATH'
_POLL_SECONDS = 0.5
# What Python and libraries in C++ say of a process or thread that the system refuses.
_REFUSALS = ("can't start new thread", os.strerror(errno.EAGAIN))
# Processes and threads of the smallest run, measured at its peak.
_LEAST_TASKS = 16
# SIGKILL, for which Windows has no name.
_KILLED = 9
# Python 3.10 has no -P, and with -c it puts '' first on the path; only built-in modules are
# imported before this line.
_RUN_MODULE = (
    'import sys; sys.path[:] = [path for path in sys.path if path]; import runpy; '
    "del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
# Debian's home folder for users without one: it does not exist and cannot be created.
NO_HOME = '/nonexistent'
_HAS_SAFE_PATH = sys.version_info >= (3, 11)


def module_command(module: str, *arguments: str, safe_path: bool = _HAS_SAFE_PATH) -> list[str]:
    """Return a command that runs a module without importing from the current folder.

    A dataset may hold files such as ``numpy.py``.

    Parameters
    ----------
    module : str
        Name of the module.
    *arguments : str
        Arguments of the module.
    safe_path : bool
        True if Python has the option ``-P`` (3.11 and later).

    Returns
    -------
    list of str
    """
    if safe_path:
        return [sys.executable, '-P', '-m', module, *arguments]
    return [sys.executable, '-c', _RUN_MODULE, module, *arguments]


def protect_children() -> None:
    """Keep all Python processes started from here on from importing from the current folder.

    Python 3.11 and later read the variable, and so do the children of the children. For 3.10 see
    `start_fork_server`.
    """
    os.environ[_SAFE_PATH] = '1'


def worker_context(preload: Sequence[str] = ()) -> Any:
    """Return the context of `multiprocessing` whose processes are safe beside threads.

    A process that is forked from one with threads can deadlock; the fork server has none. On
    macOS, whose libraries do not survive a fork, and on Windows processes are spawned, which is
    Python's default there.

    Parameters
    ----------
    preload : sequence of str
        Modules that the fork server imports, so that its processes need not.

    Returns
    -------
    multiprocessing.context.BaseContext
    """
    if multiprocessing.get_all_start_methods()[0] == 'spawn':
        return multiprocessing.get_context('spawn')
    context = multiprocessing.get_context('forkserver')
    if preload:
        context.set_forkserver_preload(list(preload))
    start_fork_server()
    return context


def start_fork_server(*, safe_path: bool = _HAS_SAFE_PATH) -> None:
    """Start the fork server and the resource tracker of `multiprocessing`.

    They import nothing from the current folder.

    Parameters
    ----------
    safe_path : bool
        True if Python reads ``PYTHONSAFEPATH`` (3.11 and later), which is then set temporarily,
        since the program need not be one of our commands. Otherwise the processes are started in
        the folder of Python's standard library.
    """
    from multiprocessing import forkserver, resource_tracker

    before, here, temporary = os.environ.get(_SAFE_PATH), os.getcwd(), tempfile.gettempdir()
    if safe_path:
        os.environ[_SAFE_PATH] = '1'
    else:
        os.chdir(os.path.dirname(os.__file__))
    # The first use of multiprocessing's own temporary folder decides where it is.
    tempfile.tempdir = str(socket_folder())
    try:
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = temporary
        if not safe_path:
            os.chdir(here)
        restore_variables({_SAFE_PATH: before})


def describe_end(process: str, code: int, stderr: str = '') -> str:
    """Describe in one line the end of a process that did not return a result.

    Parameters
    ----------
    process : str
        Name of the process, e.g. ``'the segmentation process'``.
    code : int
        Exit code; after signal N it is ``-N`` or, from a shell, ``128 + N``.
    stderr : str
        Text that the process wrote to standard error.

    Returns
    -------
    str
        The line. It mentions memory only after SIGKILL, with which the kernel ends processes that
        take too much of it.
    """
    number = -code if code < 0 else code - 128
    if number == _KILLED:
        return (
            f'{process} was killed: most likely the memory ran out; '
            'grant more with --mem, run fewer scans at once, or use a smaller model'
        )
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if number in set(signal.Signals):
        how = f'was stopped by {signal.Signals(number).name}'
    else:
        how = f'failed with exit code {code}' if code else 'ended without a result'
        lines = lines or ['it wrote nothing to standard error']
    return ': '.join([f'{process} {how}', *lines[-1:]])


def why_refused(message: str) -> str | None:
    """Return a line if an error means that the system refused a process or a thread, else None.

    Parameters
    ----------
    message : str
        An error message, or a traceback that ends with it.

    Returns
    -------
    str or None
        The line, with the message's last line.

    Examples
    --------
    >>> why_refused('BlockingIOError: [Errno 11] Resource temporarily unavailable')
    'the system refused another process or thread (BlockingIOError: [Errno 11] Resource \
temporarily unavailable); raise its limit (ulimit -u, or pids.max of a container or job)'
    """
    lines = message.strip().splitlines()
    if not lines or not any(mark in lines[-1] for mark in _REFUSALS):
        return None
    return (
        f'the system refused another process or thread ({lines[-1].strip()}); raise its limit '
        '(ulimit -u, or pids.max of a container or job)'
    )


def check_processes() -> None:
    """Check that the system lets this process start as many others as a run needs at least.

    Raises
    ------
    SettingsError
        If it does not; libraries would wait for ever or abort.
    """
    done, threads = threading.Event(), []
    # The smallest stack that Python allows, since the address space may be limited as well.
    before = threading.stack_size(2**15)
    try:
        for _ in range(_LEAST_TASKS - 1):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError:
        raise SettingsError(
            f'the system grants {len(threads) + 1} processes and threads in place of the '
            f'{_LEAST_TASKS} that a run needs at least; raise the limit (ulimit -u, or pids.max '
            'of a container or job)'
        ) from None
    finally:
        done.set()
        threading.stack_size(before)
        for thread in threads:
            thread.join()


def name_a_home() -> None:
    """Set ``HOME`` if it is undefined, as for users of a container who have no account.

    Some libraries need it when they are imported, and fail without it.
    """
    if os.path.expanduser('~') == '~':
        os.environ['HOME'] = NO_HOME


def for_children() -> dict[str, str]:
    """Return the environment that tells `die_with_parent` the number of this process."""
    return {_PARENT: str(os.getpid())}


def die_with_parent() -> None:
    """End this process as soon as the process that started it ends, for whatever reason.

    It does nothing unless `for_children` is in the environment: a command that a user has
    started may outlive its shell.
    """
    parent = os.environ.get(_PARENT)
    if parent is not None:
        _end_with(int(parent))


def end_with_run() -> None:
    """End this process, a worker of `multiprocessing`, as soon as the process of the run ends."""
    run = multiprocessing.parent_process()
    if run is not None and run.pid is not None:
        _end_with(run.pid)


def begin_worker(folder: str | Path) -> None:
    """Prepare a worker process of Nipype, which ends with the process of the run.

    Parameters
    ----------
    folder : str or Path
        Working folder, as Nipype requires it.
    """
    os.chdir(folder)
    os.environ.update(for_children())
    end_with_run()


def _end_with(pid: int) -> None:
    # The kernel's parent-death signal does not help: a shell may stand in between, or the fork
    # server, which waits for its workers.
    threading.Thread(target=_wait_and_end, args=(pid,), daemon=True).start()


def _wait_and_end(pid: int) -> None:
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)
    except (OSError, AttributeError):
        import psutil

        # Only Linux has these.
        while psutil.pid_exists(pid):
            time.sleep(_POLL_SECONDS)
        os._exit(1)
    select.select([ended], [], [])
    os._exit(1)
