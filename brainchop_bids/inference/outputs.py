"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import OutputError


class Staged:
    """Writes files under other names in the same folders, and renames all of them at the end.

    Used as a context manager: leaving it in peace renames, leaving it by an error removes.

    Examples
    --------
    >>> with Staged() as staged:  # doctest: +SKIP
    ...     staged.path(Path('volumes.tsv')).write_text('index')
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []
        self._scratch: list[Path] = []

    def __enter__(self) -> 'Staged':
        """Start with nothing staged."""
        return self

    def path(self, final: Path) -> Path:
        """Return the name to write to; its suffixes are those of the final name."""
        temporary = _beside(final)
        self._files.append((temporary, final))
        return temporary

    def scratch(self, near: Path) -> Path:
        """Return the name of a file that is removed at the end."""
        self._scratch.append(_beside(near))
        return self._scratch[-1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename what was staged, or remove it after an error."""
        try:
            if kind is None:
                for temporary, final in self._files:
                    with writing(final):
                        temporary.replace(final)
        finally:
            for temporary in [*(temporary for temporary, _ in self._files), *self._scratch]:
                temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line which file could not be written, and why.

    Raises
    ------
    OutputError
        In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f'{path}: cannot be written ({reason}); free space or choose another place'
        ) from error


def create_array(path: Path, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """Create a file of float32 zeros, in Fortran order, as an array that lies on the disk.

    Raises
    ------
    OSError
        Where the disk has too little space. Asked for beforehand: writing to a mapped file on
        a full disk kills the process.
    """
    size = offset + 4 * int(np.prod(shape, dtype=np.int64))
    with path.open('wb') as file:
        if hasattr(os, 'posix_fallocate'):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, np.float32, 'r+', offset, shape, order='F')


def _beside(path: Path) -> Path:
    return path.with_name(f'.{os.getpid()}.tmp.{path.name}')
