"""Locks on files, which end with the process that holds them, however that ends."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from .atomic import writing
from .errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

_POLL_SECONDS = 0.1


def lock_file(file: IO, *, wait: bool = False) -> None:
    """Lock an open file; closing it unlocks it.

    On NFS this works since Linux 2.6.12.

    Parameters
    ----------
    file : file object
        The file.
    wait : bool
        Wait until no other process has locked it.

    Raises
    ------
    OSError
        If another process has locked it, or the file system has no locks.
    """
    while True:
        try:
            if 'fcntl' in globals():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                # Its first byte, which need not exist; typeshed has these for Windows alone.
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            return
        except (BlockingIOError, PermissionError):
            if not wait:
                raise
            time.sleep(_POLL_SECONDS)


def open_lock(path: Path) -> BinaryIO:
    """Open a file that is only locked; one that is there keeps its content.

    Parameters
    ----------
    path : Path
        The file; created if it is missing.

    Returns
    -------
    file object

    Raises
    ------
    OutputError
        If it cannot be opened, or is a link, which might lead to somebody's file.
    """
    if path.is_symlink():
        raise OutputError(f'{path}: is a link, and links are not locked; remove it and run again')
    # Windows has the first two.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
    with writing(path):
        return os.fdopen(os.open(path, flags, 0o666), 'rb', buffering=0)


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """Keep two runs from using one folder: the second run gets a subfolder.

    Parameters
    ----------
    folder : Path
        The work folder; created if it is missing.

    Yields
    ------
    Path
        ``folder``, or a new one in it, which is removed at the end.

    Raises
    ------
    OutputError
        If it cannot be created.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / '.lock'
    with open_lock(path) as lock:
        try:
            lock_file(lock)
        except OSError:
            with writing(folder):
                other = Path(tempfile.mkdtemp(prefix='beside-', dir=folder))
            try:
                yield other
            finally:
                shutil.rmtree(other, ignore_errors=True)
        else:
            yield folder
