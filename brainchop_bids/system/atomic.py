"""Atomic writing: files are written beside their destination and then renamed."""

import errno
import gzip
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from .errors import OutputError
from .files import require_regular

_MARK = '.brainchop-'
# Age of a temporary file after which no run can still be writing it.
_STALE_SECONDS = 3600

Writer = Callable[[Path], object]


class Staged:
    """Files that are written under temporary names and renamed together at the end.

    A context manager: on success it renames the files, in the order in which their names were
    requested; after an exception it removes them, and existing files stay as they are.

    Parameters
    ----------
    replaces : Path, optional
        A file whose presence marks the set as complete. It is removed before the first rename,
        so that an interrupted set never looks complete.

    Examples
    --------
    >>> with Staged() as staged:  # doctest: +SKIP
    ...     staged.path(Path('volumes.tsv')).write_text('index')
    """

    def __init__(self, replaces: Path | None = None) -> None:
        self._replaces = replaces
        self._files: list[tuple[Path, Path]] = []
        self._scratch: list[Path] = []

    def __enter__(self) -> 'Staged':
        """Return the empty set of files."""
        return self

    def path(self, final: Path) -> Path:
        """Return the temporary path to write to; it has the suffixes of the final one."""
        _sweep(final)
        self._files.append((_beside(final), final))
        return self._files[-1][0]

    def scratch(self, near: Path) -> Path:
        """Return the path of a temporary file that is removed at the end."""
        self._scratch.append(_beside(near))
        return self._scratch[-1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename the files, or remove them after an exception.

        Raises
        ------
        OutputError
            If a file cannot be renamed.
        """
        try:
            if kind is None:
                if self._replaces is not None:
                    with writing(self._replaces):
                        self._replaces.unlink(missing_ok=True)
                for hidden, final in self._files:
                    with writing(final):
                        os.replace(hidden, final)
        finally:
            for hidden in [*(hidden for hidden, _ in self._files), *self._scratch]:
                # Windows removes no file that is still mapped; a later run does, see `_sweep`.
                with suppress(PermissionError):
                    hidden.unlink(missing_ok=True)


def publish(files: Sequence[tuple[Path, Writer]], *, replaces: Path | None = None) -> None:
    """Write several files under temporary names, then rename them in the given order.

    Parameters
    ----------
    files : sequence of (Path, callable)
        Final path, and a function that writes the content to the path that it is given.
    replaces : Path, optional
        As for `Staged`.

    Raises
    ------
    OutputError
        If a file cannot be written; existing files are then unchanged.
    """
    with Staged(replaces) as staged:
        for path, write in files:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write(staged.path(path))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` into one line: the file that could not be written, the reason, advice.

    Raises
    ------
    OutputError
        In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(cannot_write(path, error)) from error


def text_writer(text: str) -> Writer:
    """Return a writer of UTF-8 text."""
    # As bytes, since Windows would write other line ends.
    return lambda path: path.write_bytes(text.encode())


def bytes_writer(content: bytes) -> Writer:
    """Return a writer of bytes."""
    return lambda path: path.write_bytes(content)


def copy_writer(source: Path) -> Writer:
    """Return a writer that copies a file, and compresses it if the name ends in ``.gz``.

    The gzip header has neither time nor name, so that equal contents give equal bytes.
    """

    def write(path: Path) -> None:
        if path.suffix != '.gz' or source.suffix == '.gz':
            shutil.copyfile(source, path)
            return
        with (
            source.open('rb') as raw,
            path.open('wb') as out,
            gzip.GzipFile('', 'wb', compresslevel=5, fileobj=out, mtime=0) as packed,
        ):
            shutil.copyfileobj(raw, packed, 2**20)

    return write


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; a file that has this content already is not touched.

    Parameters
    ----------
    path : Path
        File to write.
    text : str
        Its content.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        if path.read_text(encoding='utf-8') == text:
            return
    except (OSError, ValueError):
        pass
    publish([(path, text_writer(text))])


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    require_regular(path)
    with path.open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def cannot_write(path: Path, error: OSError) -> str:
    """Return a line that says that a file cannot be written, the reason, and advice."""
    reason = error.strerror or str(error)
    advice = {
        errno.ENOSPC: 'free some space',
        errno.EDQUOT: 'free some of your quota',
        errno.EACCES: 'ask for permission or choose another folder',
        errno.EROFS: 'choose another folder',
    }.get(error.errno or 0, 'check the folder')
    return f'{path}: cannot be written: {reason}; {advice} and run again (what is done stays done)'


def _beside(path: Path) -> Path:
    return path.with_name(f'{_MARK}{uuid.uuid4().hex[:12]}-{path.name}')


def _sweep(path: Path) -> None:
    """Remove temporary files that a killed run left of this file."""
    for litter in path.parent.glob(f'{_MARK}*-{path.name}'):
        try:
            if time.time() - litter.stat().st_mtime > _STALE_SECONDS:
                litter.unlink()
        except (FileNotFoundError, PermissionError):
            continue
