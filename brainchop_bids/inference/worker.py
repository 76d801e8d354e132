"""Worker process that segments scans on request, see `brainchop_bids.inference.pool`.

    python -P -m brainchop_bids.inference.worker SOCKET EXAMPLE   scan after scan
    python -P -m brainchop_bids.inference.worker --once ANSWER    the scan of standard input

In the first form it ends when its standard input is closed, so that it never outlives the process
that started it.
"""

import contextlib
import json
import os
import select
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..system.atomic import write_text
from ..system.errors import BrainchopError, Interrupted
from ..system.processes import die_with_parent, name_a_home, protect_children
from ..system.resources import available_memory, check_address_space, forget_peak
from ..system.signals import interruptible, stopped_by
from .pool import Request

if TYPE_CHECKING:
    from .plan import Engines


def main(argv: Sequence[str] | None = None) -> int:
    """Answer requests.

    Parameters
    ----------
    argv : sequence of str, optional
        Path of a socket and an example request, or ``--once`` and the file for the answer.

    Returns
    -------
    int
        0.
    """
    die_with_parent()
    name_a_home()
    # Python's -P holds for this process alone.
    protect_children()
    first, second = sys.argv[1:] if argv is None else argv
    if first == '--once':
        write_text(Path(second), answer(sys.stdin.read()))
        return 0
    _serve(first, second)
    return 0


def _serve(path: str, example: str) -> None:
    """Answer requests at a socket until standard input is closed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    from .plan import Engines

    engines = Engines(keep_memory=True)
    # An error in the model or the options is reported with the first scan.
    with contextlib.suppress(BrainchopError, MemoryError):
        prepare(Request.from_json(example), engines)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                break
            _accept(listener, engines)


def _accept(listener: socket.socket, engines: 'Engines') -> None:
    connection, _ = listener.accept()
    # The other process may have been killed meanwhile, which does not matter to the next one.
    with (
        contextlib.suppress(ConnectionError),
        connection,
        connection.makefile('rw', encoding='utf-8') as stream,
    ):
        line = stream.readline()
        if not line:
            return
        forget_peak()
        stream.write(answer(line, engines) + '\n')
    if stopped_by() is not None:
        raise KeyboardInterrupt


def answer(text: str, engines: 'Engines | None' = None) -> str:
    """Segment the scan of a request.

    Parameters
    ----------
    text : str
        Request as `Request.to_json` returns it.
    engines : Engines, optional
        Engines that are kept for the next request.

    Returns
    -------
    str
        One line of JSON: what `segment_scan` returns, or ``error``, a line of text.
    """
    try:
        with interruptible():
            return json.dumps(_segment(Request.from_json(text), engines))
    except Interrupted as stop:
        return json.dumps({'error': f'{stop}: nothing was written'})
    except BrainchopError as error:
        return json.dumps({'error': str(error)})
    except MemoryError:
        scan = json.loads(text)['settings']['t1w']
        return json.dumps({'error': f'{scan}: memory ran out; grant more'})
    except Exception as error:
        return json.dumps({'error': f'{type(error).__name__}: {error}'})


def _segment(request: Request, engines: 'Engines | None') -> dict[str, Any]:
    from ..models.spec import load_segmenter
    from .scan import segment_scan

    check_address_space()
    os.chdir(request.folder)
    return segment_scan(request.settings, load_segmenter(request.model), engines=engines)


def prepare(request: Request, engines: 'Engines') -> None:
    """Load the model, and allocate the memory for a scan.

    Parameters
    ----------
    request : Request
        A scan that need not exist yet.
    engines : Engines
        Engines that are kept for the scans.

    Raises
    ------
    BrainchopError
        If the model cannot be read or does not fit into the memory.
    """
    from ..image.conform import CONFORMED_SHAPE
    from ..models.spec import load_segmenter
    from .plan import make_plan

    settings, spec = request.settings, load_segmenter(request.model)
    memory = settings.memory or available_memory()
    plan = make_plan(spec, CONFORMED_SHAPE, memory, settings.inference)
    if plan.device == 'cpu' and plan.tiles is not None:
        engine = engines.make(plan, spec, settings.threads, settings.normalization)
        engine.reserve(plan.tiles[0].shape)


if __name__ == '__main__':
    sys.exit(main())
