"""``brainchop-web``: the browser app on this machine."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..app.outcome import DONE, outcome, say
from ..system.errors import Interrupted, ModelError, SettingsError
from ..system.text import show
from .options import Parser, count

PROG = 'brainchop-web'
_PORT = 8265
_LAST_PORT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the browser app to this machine until Ctrl-C.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 ended by Ctrl-C or SIGTERM, 1 a file cannot be written, 2 the command cannot run as
        given.
    """
    arguments = build_parser().parse_args(argv)
    return outcome(PROG, lambda: _run(arguments), usage=(SettingsError, ModelError))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-web``."""
    parser = Parser(
        prog=PROG,
        description='Segment scans in the browser: serve the page and models to this machine '
        'alone, and open it. Scans stay in the browser; nothing is sent anywhere.',
        epilog='Exit code: 0 ended by Ctrl-C, 1 a file cannot be written, 2 the command cannot '
        'run as given.',
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    parser.add_argument(
        '--model',
        metavar='NAME|DIR',
        nargs='+',
        action='extend',
        default=[],
        help='models to offer, the first one chosen: names or folders (default: all that come '
        'with the package)',
    )
    parser.add_argument(
        '--models-dir', metavar='DIR', type=Path, help='folder that contains model folders'
    )
    parser.add_argument(
        '--port',
        metavar='N',
        type=_port,
        default=_PORT,
        help='port of 127.0.0.1; 0 for any that is free (default: %(default)s)',
    )
    parser.add_argument('--no-browser', action='store_true', help='open no browser')
    return parser


def _port(text: str) -> int:
    number = count(text)
    if number > _LAST_PORT:
        raise argparse.ArgumentTypeError(f'expected a port from 0 to {_LAST_PORT}, not {text!r}')
    return number


def _run(arguments: argparse.Namespace) -> int:
    from ..web.folder import web_models, write_site
    from ..web.server import address, open_browser, serving

    specs = web_models(
        arguments.model, arguments.models_dir, report=lambda line: say(PROG, f'warning: {line}')
    )
    try:
        with tempfile.TemporaryDirectory(prefix='brainchop-web-') as scratch:
            site = Path(scratch) / 'site'
            write_site(site, specs)
            with serving(site, arguments.port) as server:
                url = address(server)
                show(f'{url} offers {", ".join(spec.name for spec in specs)}; Ctrl-C ends it')
                sys.stdout.flush()
                if not arguments.no_browser:
                    open_browser(url)
                server.serve_forever()
    except Interrupted:
        # That is how it is meant to end.
        return DONE
    return DONE


if __name__ == '__main__':
    sys.exit(main())
