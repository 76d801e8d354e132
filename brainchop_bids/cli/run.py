"""The BIDS App: ``brainchop bids_dir output_dir {participant,group}``."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..app.outcome import outcome
from ..system.errors import BrainchopError
from .parser import LEVELS, build_parser

if TYPE_CHECKING:
    from ..settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the BIDS App.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 all done, 1 some scan failed, 2 the command cannot run as given.
    """

    def work() -> int:
        from ..app.run import run

        return run(parse_settings(argv))

    return outcome(
        'brainchop',
        work,
        usage=(BrainchopError,),
        interrupted='what is done stays done; run again to go on',
        answers=False,
    )


def parse_settings(argv: Sequence[str] | None = None) -> 'Settings':
    """Parse the command line, and read the config file if it names one.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    Settings

    Raises
    ------
    SettingsError
        If an option has an invalid value.
    """
    from ..settings import make_settings, read_config

    parser = build_parser()
    argv = _positionals_first(sys.argv[1:] if argv is None else list(argv))
    options = parser.parse_args(argv)
    if options.config_file is not None:
        parser.set_defaults(**read_config(options.config_file))
        options = parser.parse_args(argv)
    return make_settings(vars(options))


def _positionals_first(argv: list[str]) -> list[str]:
    """Move positional arguments to the front, where no option with several values takes them.

    Examples
    --------
    >>> _positionals_first(['--model', 'tissue', 'bids', 'out', 'participant'])
    ['bids', 'out', 'participant', '--model', 'tissue']
    """
    last = argv[-3:]
    if len(last) < 3 or last[2] not in LEVELS or any(word.startswith('-') for word in last):
        return argv
    return last + argv[:-3]


if __name__ == '__main__':
    sys.exit(main())
