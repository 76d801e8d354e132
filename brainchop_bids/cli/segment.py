"""``brainchop-segment``: segment one or several scans outside a BIDS dataset."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..app.outcome import DONE, FAILED, outcome, say
from ..system.errors import ModelError, SettingsError
from .files import AFTER_SCAN, plan_folder, plan_scan, write_volumes_of_all
from .options import (
    Parser,
    add_border_option,
    add_ct_option,
    add_frame_option,
    add_inference_options,
    add_label_options,
    add_localiser_option,
    add_model_options,
    add_window_option,
    memory,
    positive,
)

if TYPE_CHECKING:
    from ..api.segmenter import Written

PROG = 'brainchop-segment'


def main(argv: Sequence[str] | None = None) -> int:
    """Segment one scan, or several ones into a folder.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 done, 1 some scan could not be segmented, 2 the command cannot run as given (which
        includes a model that is missing or damaged).
    """
    # Scans may stand before and after options.
    arguments = build_parser().parse_intermixed_args(argv)
    several = arguments.out is not None
    return outcome(
        PROG,
        lambda: _run(arguments),
        usage=(SettingsError, ModelError),
        memory=f'{arguments.files[0]}: memory ran out; grant more',
        interrupted='what is done stays done' if several else 'nothing was written',
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-segment``."""
    parser = Parser(
        prog=PROG,
        usage='%(prog)s [options] T1W OUT\n       %(prog)s [options] T1W ... --out DIR',
        description='Segment one T1-weighted scan (T1W OUT) or several ones into a folder '
        '(T1W ... --out DIR) with a tiny network.',
        epilog='Exit code: 0 done, 1 some scan cannot be segmented, 2 the command cannot run as '
        'given.',
    )
    parser.add_argument(
        'files',
        metavar='T1W OUT',
        nargs='+',
        type=Path,
        help=(
            'T1-weighted scan (NIfTI, MGH/MGZ, the .hdr of an image in two files, or a DICOM '
            'file or folder) and label image to write (.nii, .nii.gz, .mgh or .mgz); with --out '
            'DIR, scans and folders of scans'
        ),
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        type=Path,
        help=(
            'segment several scans with the network loaded once, and write the results of '
            'T1.nii.gz to DIR/T1_dseg.nii.gz; options for further files then take no name: '
            '--mask writes DIR/T1_mask.nii.gz, --volumes DIR/T1_volumes.tsv and all scans in '
            'DIR/volumes.tsv. A scan that fails does not stop the others'
        ),
    )
    parser.add_argument(
        '--channel',
        metavar='FILE',
        action='append',
        type=Path,
        default=[],
        help=(
            'another scan of the same head (T2w, FLAIR, ...), for models that take '
            'several; repeat the option for each (not with --out)'
        ),
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    said = parser.add_mutually_exclusive_group()
    said.add_argument(
        '-v', '--verbose', action='store_true', help='print each step and the time it takes'
    )
    said.add_argument(
        '-q', '--quiet', action='store_true', help='print errors only, and no warnings or flags'
    )
    _add_model(parser)
    _add_outputs(parser)
    _add_conform(parser)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('model')
    add_model_options(group)
    add_inference_options(group)
    group.add_argument(
        '--mem',
        metavar='SIZE',
        type=memory,
        help=(
            'maximum memory, in MB or with a suffix, e.g. 4G (default: as much as '
            'SLURM, cgroup, ulimit and the machine allow)'
        ),
    )
    group.add_argument(
        '--omp-nthreads',
        metavar='N',
        type=positive,
        help='maximum number of threads (default: as many as allowed)',
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('output')
    group.add_argument(
        '--space',
        choices=['native', 'conform'],
        default='native',
        help=(
            "grid of all outputs: the scan's own (native) or the conformed one "
            '(default: %(default)s)'
        ),
    )
    add_label_options(group)
    group.add_argument(
        '--roi-subset',
        metavar='LABEL',
        nargs='+',
        default=[],
        help=(
            'keep these labels only, by name, abbreviation or number (brainchop-models info lists '
            'them), in the label image and the table of volumes; the brain mask is that of all'
        ),
    )
    add_localiser_option(group)
    group.add_argument(
        '--derived',
        metavar='NAME=FILE',
        action='append',
        type=_named_file,
        default=[],
        help=(
            "also write a segmentation that is derived from the model's labels by a "
            'look-up table, e.g. tissue=tissue.nii.gz; repeat the option for each'
        ),
    )
    _add_file(group, '--mask', 'also write the brain mask')
    _add_file(
        group,
        '--brain',
        'also write the skull-stripped scan, which is 0 outside the brain mask',
    )
    _add_file(
        group,
        '--probseg',
        'also write the probabilities of all classes, 4-D float32: .nii, .mgh or .mgz',
    )
    _add_file(
        group,
        '--uncertainty',
        'also write the entropy of the probabilities of each voxel (nats), and with --tta the '
        'spread over the scan and its mirror image (mutual information, nats), to FILE with '
        '_spread before its suffix',
    )
    add_border_option(group)
    _add_file(
        group,
        '--volumes',
        'also write a table with the number of voxels and the volume (mm^3) of each label, TSV',
    )
    _add_file(
        group,
        '--preview',
        'also draw cuts through the scan with its labels and the outline of the brain mask, PNG',
    )
    _add_file(group, '--stats', 'also write run times, peak memory and versions, JSON')


def _add_file(group: argparse._ArgumentGroup, option: str, text: str) -> None:
    # Without a name for --out, which names files after the scans.
    group.add_argument(option, metavar='FILE', nargs='?', type=Path, const=AFTER_SCAN, help=text)


def _named_file(text: str) -> tuple[str, Path]:
    name, _, file = text.partition('=')
    if not name:
        raise argparse.ArgumentTypeError(f'{text!r}: expected NAME=FILE')
    return name, Path(file) if file else AFTER_SCAN


def _add_conform(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('reading and conforming')
    add_frame_option(group)
    add_window_option(group)
    add_ct_option(group)
    size = group.add_mutually_exclusive_group()
    size.add_argument(
        '--voxel-size',
        metavar='MM',
        type=float,
        default=1.0,
        help='voxel size of the conformed grid (default: 1 mm)',
    )
    size.add_argument(
        '--conform-min',
        action='store_true',
        help="use the scan's smallest voxel size for the conformed grid",
    )
    group.add_argument(
        '--cw256',
        action='store_true',
        help='conform to 256 voxels a side whatever the field of view',
    )
    group.add_argument(
        '--interpolation',
        choices=['trilinear', 'nearest', 'cubic'],
        default='trilinear',
        help='interpolation of intensities on the conformed grid (default: %(default)s)',
    )
    group.add_argument(
        '--no-scale',
        action='store_true',
        help='round intensities to 0-255 instead of scaling them',
    )


def _run(arguments: argparse.Namespace) -> int:
    from ..system.resources import check_address_space

    check_address_space()
    # Imported late, so that usage errors are reported at once.
    from ..api.options import Options, scan_options
    from ..api.segmenter import Segmenter

    given = {name: getattr(arguments, name) for name in Options.__annotations__}
    plan = plan_folder if arguments.out is not None else plan_scan
    scans, notes = plan(arguments, scan_options(given))
    for note in notes:
        say(PROG, note)
    results: list[Written] = []
    with Segmenter(arguments.model, **given) as segmenter:
        for number, settings in enumerate(scans, 1):
            place = f' ({number} of {len(scans)})' if arguments.out is not None else ''
            begun = f'{settings.t1w}: segmenting with {segmenter.spec.name}{place}'
            results += segmenter.write([settings], partial(_progress, arguments, begun))
            _tell(results[-1], place, quiet=arguments.quiet)
        done = any(result.facts is not None for result in results)
        if done and segmenter.spec.caution and not arguments.quiet:
            say(PROG, segmenter.spec.caution)
    if arguments.out is not None and arguments.volumes is not None:
        write_volumes_of_all(results, arguments.out)
    return FAILED if any(result.facts is None for result in results) else DONE


def _progress(arguments: argparse.Namespace, begun: str, line: str) -> None:
    """Print that a step of a scan begins or ends; without --verbose only the longest one."""
    if arguments.verbose:
        say(PROG, line)
    elif line == 'segment ...' and not arguments.quiet:
        say(PROG, begun)


def _tell(result: 'Written', place: str, *, quiet: bool) -> None:
    """Print what is to be said of a scan; ``place`` is its place among several."""
    if result.facts is None:
        say(PROG, f'error: {result.error}{place}')
        return
    if quiet:
        return
    scan = f'{result.settings.t1w}: ' if place else ''
    for warning in result.facts['warnings']:
        say(PROG, f'{scan}warning: {warning}')
    for flag in result.facts['flags']:
        say(PROG, f'{scan}flag: {flag["Name"]}: {flag["Reason"]}')
    seconds, peak = result.facts['seconds']['total'], result.facts['peak_mb']
    written = ', '.join(map(str, result.settings.outputs))
    say(PROG, f'wrote {written} in {seconds:.1f} s, {peak:.0f} MB at most{place}')


if __name__ == '__main__':
    sys.exit(main())
