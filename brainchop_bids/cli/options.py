"""Options that the commands share."""

import argparse
from pathlib import Path

from ..inference.options import DEVICES, ENGINES, MARGIN_MM, PRECISIONS
from ..models import DEFAULT_MODEL
from ..system.errors import SettingsError


def positive(text: str) -> int:
    """Read a number above 0."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """Read a number that is not negative."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def cleanup(text: str) -> str:
    """Read a rule for connected components."""
    from ..image.cleanup import Cleanup

    try:
        return str(Cleanup.parse(text))
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def subvolumes(text: str) -> str:
    """Read a rule for cubes."""
    from ..inference.subvolumes import Subvolumes

    try:
        return str(Subvolumes.parse(text))
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# What argparse calls them in its messages.
positive.__name__ = 'positive number'
count.__name__ = 'frame number'


def add_model_options(group: argparse._ArgumentGroup, *, several: bool = False) -> None:
    """Add which model or models, and how intensities are normalised."""
    what = 'a model folder, or the name of a packaged or fetched model or of one in --models-dir'
    if several:
        group.add_argument(
            '--model',
            metavar='NAME|DIR',
            nargs='+',
            default=[DEFAULT_MODEL],
            help=f'{what}; of several the scan is conformed once, and the brain mask is that of '
            f'the first skull-strip model, else of the first (default: {DEFAULT_MODEL})',
        )
    else:
        group.add_argument(
            '--model', metavar='NAME|DIR', default=DEFAULT_MODEL, help=f'{what} (%(default)s)'
        )
    group.add_argument(
        '--models-dir', metavar='DIR', type=Path, help='folder that holds model folders'
    )
    group.add_argument(
        '--normalization',
        metavar='HOW',
        help="instead of the model's own: minmax, quantile:LOW:HIGH[:clip], zscore "
        '(of voxels above 0), zscore-whole or none',
    )


def add_inference_options(group: argparse._ArgumentGroup) -> None:
    """Add how networks are run; none of these but the last three changes labels."""
    group.add_argument(
        '--engine',
        choices=ENGINES,
        default='auto',
        help='what computes: openvino on a CPU or tensorflow on a GPU (auto), or one of them',
    )
    group.add_argument(
        '--device',
        choices=DEVICES,
        default='auto',
        help='where: on a GPU where there is one (auto), or one of them',
    )
    group.add_argument(
        '--crop',
        metavar='auto|none|MM',
        default='auto',
        help='compute the head and so many millimetres around it instead of everything; labels '
        f'inside stay the same (auto: {MARGIN_MM:g} mm)',
    )
    group.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='f32',
        help='of products; bf16 is quicker on processors that have it and needs half the memory, '
        'and less than one labelled voxel in a hundred changes (default: %(default)s)',
    )
    group.add_argument(
        '--tta',
        action='store_true',
        help='average with the scan flipped left to right: twice the time, smoother labels',
    )
    group.add_argument(
        '--subvolumes',
        metavar='RULE',
        type=subvolumes,
        help='label cubes instead of the whole volume: a size in voxels, e.g. 64, and perhaps '
        '+overlap:N, +random:N (more cubes, anywhere) and how they are combined, +gaussian '
        '(probabilities, weighted towards the middle; the default), +mean or +vote',
    )


def add_label_options(group: argparse._ArgumentGroup) -> None:
    """Add how labels are cleaned up and brought back."""
    group.add_argument(
        '--components',
        metavar='RULE',
        type=cleanup,
        help='which connected components stay: the largest of all foreground (largest), of each '
        'label (per-label), of labels joined (groups:1,2/3), or all (none); largest+open:MM cuts '
        'off what hangs on by a thin bridge, +min:MM3 drops small ones, +within:MM drops what is '
        'farther from the brain mask, +fill fills holes (default: the rule of the model, mostly '
        'largest)',
    )
    group.add_argument(
        '--label-codes',
        choices=['model', 'freesurfer'],
        default='model',
        help="values of labels in images and tables: the model's own or FreeSurfer's codes, for "
        'its viewers (default: %(default)s)',
    )
    group.add_argument(
        '--resample',
        choices=['linear', 'nearest'],
        default='linear',
        help="how labels return to the scan's own grid (default: %(default)s)",
    )


def add_frame_option(group: argparse._ArgumentGroup) -> None:
    """Add the frame of files with several."""
    group.add_argument(
        '--frame',
        metavar='N',
        type=count,
        help='the frame to use of 4-D files with several, counted from 0',
    )
