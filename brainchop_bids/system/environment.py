"""What a command is started with: its streams, folder, encoding of file names and home.

Batch systems, containers and notebooks leave out or change what a terminal has.
"""

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import OutputError, SettingsError

# Bytes that `multiprocessing` and the pool of networks add to the folder of a socket, and those
# that the path of a socket may have (sun_path in unix(7), less its final zero; macOS has 104).
_SOCKET_NAME, _SOCKET_PATH = 32, 103 if sys.platform == 'darwin' else 107


class Streams:
    """The standard streams of a command.

    Parameters
    ----------
    stdout, stderr : _Output or None
        The files behind them; None for a stream that somebody has replaced.
    """

    def __init__(self, stdout: '_Output | None', stderr: '_Output | None') -> None:
        self._stdout, self._stderr = stdout, stderr

    @property
    def lost(self) -> str | None:
        """Reason why lines of standard output could not be written; None if all were."""
        error = None if self._stdout is None else self._stdout.lost
        return None if error is None else error.strerror or str(error)


class _Output(io.FileIO):
    """A file that remembers an error in place of raising it.

    That its reader has gone is raised where ``answers`` is True, and otherwise ignored.
    """

    lost: OSError | None = None
    answers = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            if self.answers:
                raise
            return memoryview(data).nbytes
        except OSError as error:
            self.lost = self.lost or error
            return memoryview(data).nbytes


@contextmanager
def standard_streams(*, answers: bool = True) -> Iterator[Streams]:
    """Let a command write to standard output and standard error whatever they are.

    Closed streams are replaced by the null device, before a file gets their number and receives
    what is printed. A full disk behind a stream does not end the work, and characters that cannot
    be encoded are escaped. A stream that is not the process's own is left as it is, and so is a
    console of Windows.

    Parameters
    ----------
    answers : bool
        Whether the command's result is what it prints: then it ends if nobody reads that.

    Yields
    ------
    Streams
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is given, and children inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    with ExitStack() as stack:
        files = [
            stack.enter_context(_replaced(name, number, answers))
            for number, name in enumerate(('stdout', 'stderr'), 1)
        ]
        yield Streams(*files)


@contextmanager
def _replaced(name: str, number: int, answers: bool) -> Iterator[_Output | None]:
    before = getattr(sys, name)
    if before is not getattr(sys, f'__{name}__') or _is_console(before):
        yield None
        return
    file = _Output(number, 'w', closefd=False)
    file.answers = answers
    direct = getattr(before, 'write_through', False)
    after = io.TextIOWrapper(
        # As Python itself has it if PYTHONUNBUFFERED is set.
        file if direct else io.BufferedWriter(file),
        encoding=getattr(before, 'encoding', 'utf-8'),
        errors='backslashreplace',
        line_buffering=number == 2 or file.isatty(),
        write_through=direct,
    )
    setattr(sys, name, after)
    try:
        yield file
    finally:
        setattr(sys, name, before)
        with suppress(BrokenPipeError):
            after.flush()


def _is_console(stream: Any) -> bool:
    """Return True if a stream writes to a console of Windows, which takes all of Unicode."""
    raw = getattr(getattr(stream, 'buffer', None), 'raw', None)
    return type(raw).__name__ == '_WindowsConsoleIO'


def check_current_folder() -> None:
    """Check that the current folder exists, which relative paths start from.

    Raises
    ------
    SettingsError
        If it has been removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise SettingsError(
            f'the current folder cannot be used ({error.strerror}), it may have been removed; '
            'change to another one (cd) and run again'
        ) from None


def use_utf8() -> None:
    """Start this command again in Python's UTF-8 mode if its locale has another encoding.

    Names of files would otherwise be garbled in what is written, or could not be written at all.
    BIDS requires UTF-8. Nothing happens in a program that is not one of our commands.
    """
    if sys.getfilesystemencoding().lower() in ('utf-8', 'utf8') or not _is_command():
        return
    # The variable is for the processes that are started from here.
    os.environ['PYTHONUTF8'] = '1'
    os.execv(sys.executable, [sys.executable, '-X', 'utf8', *sys.orig_argv[1:]])  # noqa: S606


def _is_command() -> bool:
    """Return True if this process is one of the package's commands, not a program that uses it."""
    main = Path(sys.argv[0])
    return main.name.startswith('brainchop') or main.parent.parent.name == 'brainchop_bids'


@contextmanager
def private_caches() -> Iterator[None]:
    """Keep libraries from writing to the home folder, and from drawing in a notebook.

    Matplotlib and Keras get a temporary folder, unless their variables are set or Keras has a
    configuration there. Child processes inherit the variables.
    """
    # A terminal in a notebook names a backend that other environments do not have.
    os.environ['MPLBACKEND'] = 'agg'
    wanted = {'MPLCONFIGDIR': 'matplotlib', 'KERAS_HOME': 'keras'}
    if Path(os.path.expanduser('~/.keras/keras.json')).exists():
        del wanted['KERAS_HOME']
    missing = {name: folder for name, folder in wanted.items() if not os.environ.get(name)}
    with ExitStack() as stack:
        # Without any temporary folder the libraries do without a cache, too.
        with suppress(OSError):
            made = stack.enter_context(
                tempfile.TemporaryDirectory(prefix='brainchop-', ignore_cleanup_errors=True)
            )
            stack.callback(restore_variables, {name: os.environ.get(name) for name in missing})
            os.environ.update({name: f'{made}/{folder}' for name, folder in missing.items()})
        yield


def restore_variables(variables: dict[str, str | None]) -> None:
    """Set variables of the environment to earlier values; None for those that were not set."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def socket_folder() -> Path:
    """Return the folder for sockets: the temporary one, or another if its path is too long.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If no folder with a short path can be written to.
    """
    given = Path(tempfile.gettempdir())
    for folder in (given, Path('/tmp'), Path('/dev/shm'), Path('/var/tmp')):  # noqa: S108
        if len(os.fsencode(folder)) + _SOCKET_NAME <= _SOCKET_PATH and os.access(folder, os.W_OK):
            return folder
    raise OutputError(
        f'{given}: the path of this temporary folder is too long for sockets; set TMPDIR to a '
        f'folder whose path has at most {_SOCKET_PATH - _SOCKET_NAME} bytes'
    )
