"""``brainchop-train``: train a network on labelled scans or on synthetic images."""

import argparse
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import __version__
from ..app.outcome import DONE, outcome, say
from ..system.errors import SettingsError
from .options import Parser, positive

PROG = 'brainchop-train'
# EX_TEMPFAIL of sysexits.h: try again.
UNFINISHED = 75


def main(argv: Sequence[str] | None = None) -> int:
    """Train a network, or resume a training.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 done, 1 training failed, 2 the command cannot run as given, 75 stopped before the end
        with a checkpoint: the same command resumes it.
    """
    arguments = build_parser().parse_args(argv)
    return outcome(
        PROG,
        lambda: (_plan if arguments.plan else _run)(arguments),
        memory='memory ran out; train with smaller cubes or batches',
        interrupted='interrupted; the same command goes on at the last checkpoint',
        answers=False,
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-train``."""
    parser = Parser(
        prog=PROG,
        description='Train a network on labelled scans, or on synthetic images made from label '
        'maps. Ends with a model folder for brainchop --model and a page on the run. A run that '
        'was stopped or killed goes on where it was.',
        epilog='Exit code: 0 done, 1 failed, 2 the command cannot run as given, 75 stopped '
        'before its end (time limit or SIGTERM): run it again to go on.',
    )
    parser.add_argument(
        'config',
        metavar='CONFIG.toml',
        type=Path,
        nargs='?',
        help='configuration of the training',
    )
    parser.add_argument(
        '--plan',
        metavar='DATASET',
        type=Path,
        help='write a configuration from the data to CONFIG.toml (default: the name of DATASET), '
        'and do not train: a BIDS dataset with labels in derivatives, a table of files, '
        'iSeg-2017, MRBrainS, or a folder of label maps; --set data.KEY=VALUE as usual',
    )
    parser.add_argument(
        '--set',
        dest='changes',
        metavar='KEY=VALUE',
        action='append',
        default=[],
        help=('set one key of the configuration, e.g. stages.0.steps=100; may be repeated'),
    )
    parser.add_argument(
        '--init',
        metavar='MODEL',
        help='begin with the weights of a model: a folder, or a name as for brainchop --model '
        '(the same as --set init.model=MODEL)',
    )
    parser.add_argument(
        '--freeze',
        metavar='PATTERN',
        action='append',
        default=[],
        help="keep the weights of these layers: names ('conv3d_*') or numbers of "
        "convolutions ('0-3'); may be repeated",
    )
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='begin even if less than half of the weights are taken over from the model',
    )
    parser.add_argument(
        '--new-head', action='store_true', help='initialize the last layer anew even if it fits'
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        type=Path,
        help=(
            'folder of the run, which the model folder is written to (default: the '
            "configuration's name)"
        ),
    )
    parser.add_argument(
        '--cross-validate',
        action='store_true',
        help='train and score a network for each fold (data.folds, or 5), and end with a table; '
        'the folds are in DIR/fold-0, DIR/fold-1, ...',
    )
    parser.add_argument(
        '--ensemble',
        action='store_true',
        help='with --cross-validate, also write a model that averages the networks of all folds',
    )
    parser.add_argument(
        '--backend',
        choices=['tensorflow', 'torch', 'jax'],
        help='backend of Keras (default: $KERAS_BACKEND, or else tensorflow)',
    )
    parser.add_argument(
        '--minutes',
        metavar='N',
        type=positive,
        help='stop with a checkpoint after this many minutes',
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    return parser


def _plan(arguments: argparse.Namespace) -> int:
    from ..training.plan import read_machine, write_plan

    target = arguments.config or Path(f'{arguments.plan.resolve().name.split(".")[0]}.toml')
    for path in write_plan(arguments.plan, target, arguments.changes, read_machine()):
        say(PROG, f'{path}: written')
    say(PROG, f'train with: {PROG} {target}')
    return DONE


def _run(arguments: argparse.Namespace) -> int:
    if arguments.config is None:
        raise SettingsError('no config is given; expected CONFIG.toml, or --plan DATASET')
    # Set before Keras is imported, since it chooses its backend once.
    if arguments.backend:
        if find_spec(arguments.backend) is None:
            raise SettingsError(
                f'--backend {arguments.backend} is not installed here: '
                f"pip install 'brainchop-bids[{arguments.backend}]'"
            )
        os.environ['KERAS_BACKEND'] = arguments.backend
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # Keras warns that generators cannot be shuffled.
    warnings.filterwarnings('ignore', message='.*shuffle=True.*')
    from ..system.tensorflow_runtime import quiet

    if arguments.ensemble and not arguments.cross_validate:
        raise SettingsError('--ensemble averages the networks of --cross-validate; give both')
    out = arguments.out or Path(arguments.config.stem)
    with quiet():
        from ..training.config import read_training_config

        config = read_training_config(
            arguments.config, [*arguments.changes, *_transfer(arguments)]
        )
        from ..training.callbacks import StopCondition

    stop = StopCondition(time.monotonic() + 60 * arguments.minutes if arguments.minutes else None)

    def request_stop(number: int, frame: Any) -> None:
        stop.requested = True

    signal.signal(signal.SIGTERM, request_stop)
    finished = (_cross_validate if arguments.cross_validate else _train)(
        config, out, stop, arguments
    )
    if not finished:
        say(PROG, f'{out}: stopped before the end; run the same command to go on')
    return DONE if finished else UNFINISHED


def _train(config: Any, out: Path, stop: Any, arguments: argparse.Namespace) -> bool:
    """Train one network; return whether it was finished."""
    from ..training.export import export
    from ..training.loop import train
    from ..training.report.page import write_training_page

    trained = train(config, out, stop)
    if trained is None:
        return False
    folder = export(config, *trained, out)
    page = write_training_page(out, config, _facts())
    _say_done(config, folder)
    say(PROG, f'{page}: how it went')
    return True


def _cross_validate(config: Any, out: Path, stop: Any, arguments: argparse.Namespace) -> bool:
    """Train the networks of all folds; return whether they were finished."""
    from ..training.cross_validation import cross_validate, write_ensemble, write_table

    folds = cross_validate(config, out, stop, facts=_facts())
    if folds is None:
        return False
    if arguments.ensemble:
        _say_done(config, write_ensemble(config, out, len(folds)))
    path, text = write_table(out, folds)
    print(text)
    say(PROG, f'{path}: this table')
    return True


def _say_done(config: Any, folder: Path) -> None:
    command = 'brainchop-localise SCAN' if config.localises else 'brainchop-segment T1W OUT'
    say(PROG, f'{folder}: done; try it with {command} --model {folder}')


def _transfer(arguments: argparse.Namespace) -> list[str]:
    """Return the config changes of the transfer options; JSON values are valid TOML here."""
    changes = []
    if arguments.init:
        changes.append(f'init.model={json.dumps(arguments.init)}')
    if arguments.freeze:
        changes.append(f'init.freeze={json.dumps(arguments.freeze)}')
    if arguments.new_head:
        changes.append('init.new_head=true')
    if arguments.allow_partial:
        changes.append('init.allow_partial=true')
    return changes


def _facts() -> list[tuple[str, str]]:
    import keras

    backend = keras.backend.backend()
    return [('Backend', f'Keras {keras.__version__} on {backend} {version(backend)}')]


if __name__ == '__main__':
    sys.exit(main())
