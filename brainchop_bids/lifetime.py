"""No process of a run outlives it, however it ends.

After ``kill -9`` of a run its workers would wait for work for ever, and what they were doing would
be written into folders that the next run uses.
"""

import ctypes
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .publish import writing

_PARENT = 'BRAINCHOP_PARENT'
# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1


def for_children() -> dict[str, str]:
    """Return the environment by which `die_with_parent` knows this process as the parent."""
    return {_PARENT: str(os.getpid())}


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends (Linux).

    Does nothing where `for_children` is not in the environment: a command that a user has
    started may go on without its shell.
    """
    parent = os.environ.get(_PARENT)
    if parent is None:
        return
    # Other systems have no such call; there a process goes on until it is told to stop.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != parent:
        # It was gone before the kernel knew.
        sys.exit(1)


def begin_worker(folder: str | Path) -> None:
    """Prepare a worker process of Nipype, which ends with the process of the run.

    Parameters
    ----------
    folder : str or Path
        Where to be, as Nipype wants it.
    """
    os.chdir(folder)
    os.environ.update(for_children())
    run = multiprocessing.parent_process()
    if run is not None:
        threading.Thread(target=_end_with, args=(run,), daemon=True).start()


def _end_with(run: Any) -> None:
    # The kernel's signal would come with the end of the fork server, which waits for its workers.
    run.join()
    os._exit(1)


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """Keep two runs from working in one folder: the second one gets a folder within it.

    Parameters
    ----------
    folder : Path
        The work folder; made where it is missing.

    Yields
    ------
    Path
        ``folder``, or a new one in it, which is removed at the end.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / '.lock').open('w') as lock:
        try:
            # Held by the process, whatever becomes of it; on NFS, too, since Linux 2.6.12.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with writing(folder):
                other = Path(tempfile.mkdtemp(prefix='beside-', dir=folder))
            try:
                yield other
            finally:
                shutil.rmtree(other, ignore_errors=True)
        else:
            yield folder
