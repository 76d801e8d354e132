"""No process of a run outlives it, however it ends.

After ``kill -9`` of a run its workers would wait for work for ever, and what they were doing would
be written into folders that the next run uses.
"""

import fcntl
import multiprocessing
import os
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import writing

_PARENT = 'BRAINCHOP_PARENT'
_POLL_SECONDS = 0.5


def for_children() -> dict[str, str]:
    """Return the environment by which `die_with_parent` knows this process as the parent."""
    return {_PARENT: str(os.getpid())}


def die_with_parent() -> None:
    """End this process as soon as the one that started it ends, however that ends.

    Does nothing where `for_children` is not in the environment: a command that a user has
    started may go on without its shell.
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
        Where to be, as Nipype wants it.
    """
    os.chdir(folder)
    os.environ.update(for_children())
    end_with_run()


def _end_with(pid: int) -> None:
    # Not the kernel's signal at the death of a parent: between us there may be a shell, or the
    # fork server, which waits for its workers.
    threading.Thread(target=_wait_and_end, args=(pid,), daemon=True).start()


def _wait_and_end(pid: int) -> None:
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)
    except (OSError, AttributeError):
        # Other systems than Linux have none.
        while _exists(pid):
            time.sleep(_POLL_SECONDS)
        os._exit(1)
    select.select([ended], [], [])
    os._exit(1)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


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
    path = folder / '.lock'
    with writing(path):
        # Somebody else's, in a folder that several users share, or no file at all.
        opened = path.open('w')
    with opened as lock:
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
