"""``brainchop-segment`` again and again in one process, for the scans of a run.

Starting Python, loading a model and getting memory from the system take as long as the network
itself. The process listens on a socket and ends with its standard input, and so never outlives
who started it.
"""

import contextlib
import io
import json
import os
import select
import socket
import sys
from collections.abc import Sequence

from ..app.outcome import FAILED
from ..cli.segment import build_parser, prepare
from ..cli.segment import main as segment
from ..system.errors import BrainchopError
from ..system.processes import die_with_parent
from ..system.resources import forget_peak
from ..system.signals import stopped_by


def main(argv: Sequence[str] | None = None) -> int:
    """Answer requests until standard input ends.

    A request is a line of JSON, ``{"arguments": [...], "folder": "..."}``: a command line of
    ``brainchop-segment`` and the folder to be in. The answer is ``{"code": ..., "said": "..."}``:
    its exit code and standard error.

    Parameters
    ----------
    argv : sequence of str, optional
        Path of the socket, then the command line of a scan to come, to be prepared for.

    Returns
    -------
    int
        0.
    """
    die_with_parent()
    path, *example = sys.argv[1:] if argv is None else argv
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    from .plan import keep_engines

    keep_engines()
    # What is wrong with the command line is told with the first scan.
    with contextlib.suppress(BrainchopError, SystemExit, MemoryError):
        prepare(build_parser().parse_args(example))
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                break
            _answer(listener)
    return 0


def _answer(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    # Whoever asked may have been killed meanwhile; the next one has nothing to do with that.
    with contextlib.suppress(ConnectionError), connection, connection.makefile('rw') as stream:
        line = stream.readline()
        if not line:
            return
        request = json.loads(line)
        said = io.StringIO()
        os.chdir(request['folder'])
        forget_peak()
        with contextlib.redirect_stderr(said):
            try:
                code = segment(request['arguments'])
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else FAILED
            except Exception as error:
                said.write(f'{type(error).__name__}: {error}\n')
                code = FAILED
        stream.write(json.dumps({'code': code, 'said': said.getvalue()}) + '\n')
    if stopped_by() is not None:
        raise KeyboardInterrupt


if __name__ == '__main__':
    sys.exit(main())
