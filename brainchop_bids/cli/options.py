"""Options that the commands share."""

import argparse
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..inference.options import DEVICES, ENGINES, MARGIN_MM, PRECISIONS, InferenceOptions
from ..models import DEFAULT_MODEL
from ..system.errors import SettingsError
from ..system.text import near

# Not a negative number.
_OPTION = re.compile(r'--?[A-Za-z]')


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line, as all other errors are."""

    def error(self, message: str) -> NoReturn:
        """Print the error and where help is, and exit with 2."""
        # Of an option with several spellings, the first one says it all.
        message = re.sub(r'^argument (--?[\w-]+)(?:/--?[\w-]+)+:', r'argument \1:', message)
        missing = re.fullmatch(r'argument (--?[\w-]+): expected (at least )?one argument', message)
        action = self._option_string_actions.get(missing[1]) if missing else None
        if action is not None and action.metavar and action.help:
            what = action.help.partition(' (default')[0].replace('%%', '%')
            message = f'{message}, {action.metavar}: {what}'
        self.exit(2, f'{self.prog}: error: {message} (help: {self.prog} --help)\n')

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse a command line; the first option that is not known is an error."""
        given = sys.argv[1:] if args is None else list(args)
        found, others = super().parse_known_args(given, namespace)
        return found, self._without_options(given, others)

    def parse_known_intermixed_args(
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse a command line as `parse_known_args`, which not all Pythons call here."""
        given = sys.argv[1:] if args is None else list(args)
        found, others = super().parse_known_intermixed_args(given, namespace)
        return found, self._without_options(given, others)

    def _without_options(self, given: list[str], others: list[str]) -> list[str]:
        options = given[: given.index('--')] if '--' in given else given
        for word in others:
            if word in options and _OPTION.match(word):
                name = word.partition('=')[0]
                self.error(f'there is no option {name}{near(name, self._option_string_actions)}')
        return others

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Return the options that begin so, each once even if it has several spellings."""
        found: list[Any] = super()._get_option_tuples(option_string)
        return list({id(action): (action, *others) for action, *others in found}.values())


def positive(text: str) -> int:
    """Parse a positive integer."""
    return _whole(text, 1)


def count(text: str) -> int:
    """Parse a non-negative integer."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    value = int(text) if re.fullmatch(r'\s*[+-]?\d{1,18}\s*', text) else least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f'expected a whole number from {least} on, not {text!r}')
    return value


def not_negative(text: str) -> float:
    """Parse a number of 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'expected a number of 0 or more, not {text!r}')
    return value


def cleanup(text: str) -> str:
    """Parse a rule for connected components."""
    from ..image.cleanup import Cleanup

    with _said():
        return str(Cleanup.parse(text))


def subvolumes(text: str) -> str:
    """Parse a rule for subvolumes."""
    from ..inference.subvolumes import Subvolumes

    with _said():
        return str(Subvolumes.parse(text))


def normalization(text: str) -> str:
    """Check a rule for the normalization of intensities."""
    from ..image.normalise import Normalization

    with _said():
        Normalization.parse(text)
    return text


def margin(text: str) -> str:
    """Check a margin around the head."""
    with _said():
        InferenceOptions(crop=text)
    return text


def memory(text: str) -> str:
    """Check an amount of memory."""
    from ..system.resources import parse_memory

    with _said():
        parse_memory(text)
    return text


def border(text: str) -> float:
    """Parse a distance by which a mask grows or shrinks."""
    from ..image.border import check_border

    value = float(text)
    with _said():
        return check_border(value)


@contextmanager
def _said() -> Iterator[None]:
    """Let argparse say what is wrong."""
    try:
        yield
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# Names that argparse uses in its messages.
border.__name__ = 'number of millimetres'


def add_model_options(group: argparse._ArgumentGroup, *, several: bool = False) -> None:
    """Add the options of the model and of the normalization of intensities."""
    what = 'model folder, or name of a packaged or fetched model or of one in --models-dir'
    if several:
        group.add_argument(
            '--model',
            metavar='NAME|DIR',
            nargs='+',
            default=[DEFAULT_MODEL],
            help=f'{what}; with several models the brain mask is that of the first '
            f'skull-stripping model, or else of the first model (default: {DEFAULT_MODEL})',
        )
    else:
        group.add_argument(
            '--model',
            metavar='NAME|DIR',
            default=DEFAULT_MODEL,
            help=f'{what} (default: %(default)s)',
        )
    group.add_argument(
        '--models-dir', metavar='DIR', type=Path, help='folder that contains model folders'
    )
    group.add_argument(
        '--normalization',
        metavar='RULE',
        type=normalization,
        help=(
            'normalization of intensities: minmax, quantile:LOW:HIGH[:clip], zscore '
            '(over voxels above 0), zscore-whole (over all voxels), max, brats or none (default: '
            "the model's own)"
        ),
    )


def add_inference_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of inference; only the last three of them change labels."""
    group.add_argument(
        '--engine',
        choices=ENGINES,
        default='auto',
        help=(
            'library that runs the network; auto is openvino on a CPU and tensorflow '
            'on a GPU (default: %(default)s)'
        ),
    )
    group.add_argument(
        '--device',
        choices=DEVICES,
        default='auto',
        help=(
            'processor that runs the network; auto is the GPU if there is one '
            '(default: %(default)s)'
        ),
    )
    group.add_argument(
        '--crop',
        metavar='auto|none|MM',
        type=margin,
        default='auto',
        help='part of the volume that is computed: the head with a margin in mm around it, or '
        f'everything (none); labels inside are the same either way (default: auto, '
        f'{MARGIN_MM:g} mm)',
    )
    group.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='f32',
        help=(
            'numerical precision of the network; bf16 is faster on CPUs that support '
            'it and takes half the memory, and changes the label of less than 1 %% of '
            'the labelled voxels (default: %(default)s)'
        ),
    )
    group.add_argument(
        '--tta',
        action='store_true',
        help=(
            'test-time augmentation: average the probabilities of the scan and of its '
            'left-right mirror image; takes twice the time'
        ),
    )
    group.add_argument(
        '--subvolumes',
        metavar='RULE',
        type=subvolumes,
        help=(
            'label cubes of this many voxels a side instead of the whole volume, e.g. '
            '64 or 64+overlap:16; +overlap:N lets them overlap by N voxels, +random:N '
            'adds N cubes at random positions, and overlapping cubes are combined by '
            '+gaussian (probabilities weighted towards the centre; the default), '
            '+mean (of probabilities) or +vote (of labels)'
        ),
    )


def add_label_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the labels: clean-up, values and resampling."""
    group.add_argument(
        '--components',
        metavar='RULE',
        type=cleanup,
        help='connected components that are kept: the largest of the foreground (largest), of '
        'each label (per-label), of groups of labels (groups:1,2/3), or all (none); with largest, '
        '+open:MM removes structures connected only through bridges narrower than twice MM; '
        '+min:MM3 removes components smaller than MM3, +within:MM removes labels at more than MM '
        "from the brain mask, +fill fills holes (default: the model's own rule)",
    )
    group.add_argument(
        '--label-codes',
        choices=['model', 'freesurfer'],
        default='model',
        help="values of labels in images and tables: the model's own numbers or "
        "FreeSurfer's codes; a label that is none of its structures has 30000 plus its number "
        '(default: %(default)s)',
    )
    group.add_argument(
        '--resample',
        choices=['linear', 'nearest'],
        default='linear',
        help=(
            "interpolation of labels on their way back to the scan's own grid "
            '(default: %(default)s)'
        ),
    )


def add_localiser_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of the localiser."""
    group.add_argument(
        '--localiser',
        metavar='auto|none|NAME|DIR',
        default='auto',
        help='model that finds the brain in each scan first: the conformed field of view is '
        'centred on it where it would be cut off, and labels far from it are removed; auto is '
        'what the model names (none if it names none), none does without (default: auto)',
    )


def add_border_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of the border of the brain mask."""
    group.add_argument(
        '--border',
        metavar='MM',
        type=border,
        default=0.0,
        help=(
            'let the brain mask grow by this distance in mm, or shrink if it is negative, as '
            '-b of mri_synthstrip; other results stay as they are (default: 0)'
        ),
    )


def add_frame_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of the frame of 4-D files."""
    group.add_argument(
        '--frame',
        metavar='N',
        type=count,
        help='frame of a 4-D file with several frames, counted from 0',
    )


def add_window_option(group: argparse._ArgumentGroup) -> None:
    """Add the option of the window of intensities."""
    group.add_argument(
        '--intensity-window',
        choices=['auto', 'freesurfer'],
        default='auto',
        help=(
            "intensities that are scaled to 0-255: those of FreeSurfer's mri_convert -c in all "
            'cases (freesurfer), or the same after a few voxels far from all others were '
            'clipped, with a warning (auto) (default: %(default)s)'
        ),
    )


def add_ct_option(group: argparse._ArgumentGroup) -> None:
    """Add the option for scans that are CT."""
    group.add_argument(
        '--ct',
        action='store_true',
        help='the scans are CT of heads, for models that take CT: clip intensities to 0 to 80 '
        'Hounsfield units',
    )
