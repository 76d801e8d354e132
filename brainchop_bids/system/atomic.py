"""Files appear whole or not at all: written beside their place, then renamed."""

import errno
import gzip
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from .errors import OutputError

_MARK = '.brainchop-'
# Long enough that no run still writes such a file, short enough that litter does not last.
_STALE_SECONDS = 3600

Writer = Callable[[Path], object]


class Staged:
    """Files written beside their places, which get their names in one sweep at the end.

    A context manager: leaving it in peace renames, in the order the files were asked for;
    leaving it by an error removes what was written and leaves what was there.

    Parameters
    ----------
    replaces : Path, optional
        A file whose presence says that the set is complete: it is removed before the first
        rename, so that an interrupted sweep never looks finished.

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
        """Start with nothing staged."""
        return self

    def path(self, final: Path) -> Path:
        """Return the name to write to; its suffixes are those of the final name."""
        _sweep(final)
        self._files.append((_beside(final), final))
        return self._files[-1][0]

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
        """Rename what was staged, or remove it after an error.

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
                hidden.unlink(missing_ok=True)


def publish(files: Sequence[tuple[Path, Writer]], *, replaces: Path | None = None) -> None:
    """Write several files, then give them their names in one sweep and in the given order.

    Parameters
    ----------
    files : sequence of (Path, callable)
        Final path and what writes the content to the path it is called with.
    replaces : Path, optional
        As for `Staged`.

    Raises
    ------
    OutputError
        If a file cannot be written; nothing is left behind and what was there stays.
    """
    with Staged(replaces) as staged:
        for path, write in files:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write(staged.path(path))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line which file could not be written, why, and what to do.

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
    return lambda path: path.write_text(text, encoding='utf-8')


def bytes_writer(content: bytes) -> Writer:
    """Return a writer of bytes."""
    return lambda path: path.write_bytes(content)


def copy_writer(source: Path) -> Writer:
    """Return a writer that copies a file, compressing it where the name ends in ``.gz``.

    The gzip header carries neither time nor name: equal content gives equal bytes.
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
    """Write one text file whole or not at all; a file that already says so is left alone.

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
    with path.open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def cannot_write(path: Path, error: OSError) -> str:
    """Say in one line that a file cannot be written, why, and what to do."""
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
    """Remove what a killed run left of this very file."""
    for litter in path.parent.glob(f'{_MARK}*-{path.name}'):
        try:
            if time.time() - litter.stat().st_mtime > _STALE_SECONDS:
                litter.unlink()
        except FileNotFoundError:
            continue
