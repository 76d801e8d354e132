"""Takes from Python what macOS or Windows lacks; Python imports this file when it starts.

The environment variable ``PRETEND`` names the system. What libraries have taken at their import
they keep: only the code under test is to miss it.
"""

import _thread
import importlib
import multiprocessing
import os
import select
import signal
import socket
import subprocess  # noqa: F401
import sys
import sysconfig
import types
import warnings
from multiprocessing import context, forkserver, popen_fork, spawn  # noqa: F401

# These look at the system at their import.
import numpy  # noqa: F401
import psutil  # noqa: F401

_SYSTEM = os.environ.get('PRETEND', '')
# These look at the system at their import, too, but take some time.
_LIBRARIES = ('asyncio', 'concurrent.futures.process', 'getpass', 'tempfile', 'urllib.request')
_NO_LINUX = (
    'memfd_create pidfd_open posix_fadvise posix_fallocate sched_getaffinity sched_setaffinity'
)
_NO_POSIX = (
    'O_NOFOLLOW O_NONBLOCK chown fork getegid geteuid getgid getloadavg getpgid getpgrp getuid '
    'killpg mkfifo nice setsid statvfs sysconf uname wait4'
)
_NO_SIGNALS = 'SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGUSR1 SIGUSR2 alarm setitimer sigwait'
_looking = _thread.allocate_lock()


def _hide(module: types.ModuleType, names: str) -> None:
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def _pretend_windows() -> None:
    import fcntl

    locks = types.ModuleType('msvcrt')
    locks.LK_NBLCK = fcntl.LOCK_EX | fcntl.LOCK_NB
    # As that function, it locks a number of bytes from where the file is read.
    locks.locking = lambda number, kind, size: fcntl.lockf(number, kind, size, 0, os.SEEK_CUR)
    sys.modules['msvcrt'] = locks
    for name in ('fcntl', 'grp', 'pwd', 'resource'):
        sys.modules[name] = None
    few = types.ModuleType('signal')
    few.__dict__.update(vars(signal))
    _hide(few, _NO_SIGNALS)
    sys.modules['signal'] = few
    _hide(os, _NO_POSIX)
    _hide(socket, 'AF_UNIX')
    _hide(select, 'epoll poll')
    for name in ('fork', 'forkserver'):
        context._concrete_contexts.pop(name, None)
    multiprocessing.set_start_method('spawn', force=True)
    multiprocessing.get_all_start_methods = lambda: ['spawn']
    sys.addaudithook(_refuse_as_windows)


def _refuse_as_windows(event: str, arguments: tuple) -> None:
    """Refuse names that Windows has not, links, and the removal of files that are open."""
    if event == 'os.symlink':
        raise OSError(1314, 'A required privilege is not held by the client')
    if event in ('os.rename', 'os.remove', 'os.mkdir'):
        paths = [os.fspath(path) for path in arguments if isinstance(path, (str, os.PathLike))]
        for path in paths:
            name = os.path.basename(path)
            if set(name) & set('<>:"|?*\\') or name.endswith(('.', ' ')):
                raise OSError(123, f'The file name is incorrect: {name}')
            if event != 'os.mkdir' and _in_use(os.path.realpath(path)):
                raise PermissionError(13, 'The file is used by another process', path)


def _in_use(path: str) -> bool:
    if not os.path.isfile(path) or not _looking.acquire(blocking=False):
        return False
    try:
        with open('/proc/self/maps', encoding='utf-8') as file:
            if any(line.rstrip().endswith(path) for line in file):
                return True
        opened = [f'/proc/self/fd/{number}' for number in os.listdir('/proc/self/fd')]
        return any(os.path.lexists(one) and os.readlink(one) == path for one in opened)
    finally:
        _looking.release()


def _hide_proc(event: str, arguments: tuple) -> None:
    if event == 'open' and str(arguments[0]).startswith(('/proc/', '/sys/')):
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals['__name__'] in ('pathlib', 'io'):
            frame = frame.f_back
        if frame.f_globals['__name__'].startswith(('brainchop_bids', 'nipype')):
            raise FileNotFoundError(2, 'No such file or directory', arguments[0])


if _SYSTEM:
    for _library in _LIBRARIES:
        importlib.import_module(_library)
    warnings.filterwarnings('error', category=EncodingWarning, module='brainchop_bids')
    _hide(os, _NO_LINUX)
    sys.addaudithook(_hide_proc)
    if _SYSTEM == 'windows':
        _pretend_windows()
    else:
        # Later, the file that it reads would have another name.
        sysconfig.get_config_vars()
        sys.platform = 'darwin'
        multiprocessing.get_all_start_methods = lambda: ['spawn', 'fork', 'forkserver']
