"""Reading of files that may turn out to be something else."""

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: 'a FIFO',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}


class IrregularFileError(OSError):
    """A FIFO, a socket or a device where a file is expected."""

    def __str__(self) -> str:
        """Return the reason alone, because messages name the file."""
        return str(self.strerror)


def require_regular(path: Path) -> None:
    """Raise if a path is a FIFO, a socket or a device, whose reading may never end.

    Parameters
    ----------
    path : Path
        The path; links are followed. Folders pass, since opening them raises at once.

    Raises
    ------
    IrregularFileError
        If it is; ``strerror`` is fit for a message.
    OSError
        If it does not exist or cannot be found.
    """
    kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind is not None:
        raise IrregularFileError(errno.EINVAL, f'is {kind}, not a regular file', str(path))


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    OSError
        If it cannot be read, or see `require_regular`.
    """
    require_regular(path)
    return path.read_bytes()


def read_text(path: Path, encoding: str = 'utf-8') -> str:
    """Return the text of a regular file.

    Raises
    ------
    OSError
        As `read_bytes`.
    UnicodeDecodeError
        If it is not in this encoding.
    """
    return read_bytes(path).decode(encoding)
