"""The BIDS App: ``brainchop bids_dir output_dir {participant,group}``."""

import os
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ..app.outcome import outcome
from ..system.errors import BrainchopError, SettingsError
from .config_file import apply_config
from .parser import LEVELS, build_parser

if TYPE_CHECKING:
    from pathlib import Path

    from ..settings import Settings


# As in `brainchop_bids.image.headers`, which would be imported for every help text.
_SCANS = ('.nii', '.nii.gz', '.mgh', '.mgz', '.mgh.gz')


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
    from ..settings import make_settings

    parser = build_parser()
    argv = sys.argv[1:] if argv is None else list(argv)
    _refuse_scans(argv)
    argv = _positionals_first(argv)
    config = _config_file(argv)
    if config is None:
        return make_settings(vars(parser.parse_args(argv)))
    apply_config(parser, config)
    # Positional arguments that the file has may be missing, and others be anywhere.
    return make_settings(vars(parser.parse_intermixed_args(argv)))


def _refuse_scans(argv: list[str]) -> None:
    """Name the command for single scans, also in answer to upstream's ``brainchop SCAN -o OUT``.

    Raises
    ------
    SettingsError
        If a scan is given where a dataset is expected.
    """
    images = [word for word in argv if word.lower().endswith(_SCANS) and not os.path.isdir(word)]
    if images and images[0] in (argv[0], *_after(argv, '-i', '--input')):
        scan, out = images[0], (*images[1:2], *_after(argv, '-o', '--output'), 'OUT.nii.gz')[0]
        raise SettingsError(
            f'{scan}: is one scan, and brainchop takes a BIDS dataset; run '
            f'brainchop-segment {shlex.quote(scan)} {shlex.quote(out)}'
        )


def _after(argv: list[str], *options: str) -> list[str]:
    """Return the words that follow some options."""
    return [word for option, word in pairwise(argv) if option in options]


def _config_file(argv: list[str]) -> 'Path | None':
    """Return the config file that a command line names."""
    parser = build_parser()
    # The help shows the real usage.
    parser.usage = parser.format_usage().removeprefix('usage: ')
    for action in parser._actions:
        if not action.option_strings:
            action.nargs = '?'
    options, _ = parser.parse_known_args(argv)
    file: Path | None = options.config_file
    return file


def _positionals_first(argv: list[str]) -> list[str]:
    """Move positional arguments to the front, where no option with several values takes them.

    Examples
    --------
    >>> _positionals_first(['--model', 'tissue', 'bids', 'out', 'participant'])
    ['bids', 'out', 'participant', '--model', 'tissue']
    """
    last = argv[-3:]
    # Behind an option the first of them may be its value.
    if len(last) < 3 or last[2] not in LEVELS or any(w.startswith('-') for w in argv[-4:]):
        return argv
    return last + argv[:-3]


if __name__ == '__main__':
    sys.exit(main())
