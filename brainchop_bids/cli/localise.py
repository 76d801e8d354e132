"""``brainchop-localise``: find the brain, or another organ, in scans of any kind."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..app.outcome import DONE, FAILED, outcome, say
from ..models import DEFAULT_LOCALISER
from ..system.errors import BrainchopError, ModelError, SettingsError
from ..system.text import show, table_cell
from .options import Parser, add_frame_option, not_negative, positive

if TYPE_CHECKING:
    from ..image.io import Volume
    from ..inference.localise.report import Finding

PROG = 'brainchop-localise'


def main(argv: Sequence[str] | None = None) -> int:
    """Find an organ in scans.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 done, 1 a scan cannot be read or shows no such organ, 2 the command cannot run as given.
    """
    arguments = build_parser().parse_args(argv)
    return outcome(PROG, lambda: _run(arguments), usage=(SettingsError, ModelError))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-localise``."""
    parser = Parser(
        prog=PROG,
        description='Find the brain, or the organ of another model, in scans of any field of '
        'view, contrast and orientation, in about a second.',
        epilog='Exit code: 0 done, 1 a scan cannot be read or shows no such organ, 2 the command '
        'cannot run as given.',
    )
    parser.add_argument(
        'scans',
        metavar='SCAN',
        nargs='*',
        type=Path,
        help='scans: NIfTI, MGH/MGZ or the folder of a DICOM series (none with --benchmark)',
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    parser.add_argument(
        '--model',
        metavar='NAME|DIR',
        default=DEFAULT_LOCALISER,
        help='localiser: its folder, or name (default: %(default)s)',
    )
    parser.add_argument(
        '--models-dir', metavar='DIR', type=Path, help='folder that contains model folders'
    )
    parser.add_argument(
        '--ct',
        action='store_true',
        help='the scans are CT: clip intensities to 0 to 80 Hounsfield units',
    )
    add_frame_option(parser.add_argument_group('reading'))
    parser.add_argument(
        '--omp-nthreads', metavar='N', type=positive, help='maximum number of threads'
    )
    group = parser.add_argument_group('output')
    group.add_argument('--json', metavar='FILE', type=Path, help='write all findings as JSON')
    group.add_argument('--tsv', metavar='FILE', type=Path, help='write a table, a row a scan')
    group.add_argument(
        '--crop', metavar='OUT', type=Path, help='write the part of the scan in the box (NIfTI)'
    )
    group.add_argument(
        '--margin',
        metavar='MM',
        type=not_negative,
        default=0.0,
        help='mm that --crop keeps around the box (default: 0)',
    )
    group.add_argument(
        '--preview', metavar='OUT.png', type=Path, help='draw the box on three projections'
    )
    group.add_argument(
        '--benchmark',
        metavar='DIR',
        type=Path,
        help='only measure, and write to DIR: seconds of the network against the number of '
        'frames that are computed at once, by OpenVINO, ONNX Runtime and TensorFlow as far as '
        'they are installed, and of shrinking 800 frames of 512 x 512 (benchmark.tsv, '
        'seconds.png, seconds_per_frame.png). Frames are those of SCAN, or noise',
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from ..inference.localise.localiser import Localiser
    from ..inference.localise.report import TABLE, locate
    from ..models.spec import load_spec
    from ..models.zoo import find_model
    from ..system.atomic import write_text
    from ..system.resources import available_cpus

    _check(arguments)
    spec = load_spec(find_model(arguments.model, arguments.models_dir))
    granted = int(available_cpus().amount)
    localiser = Localiser.of(spec, min(arguments.omp_nthreads or granted, granted))
    if arguments.benchmark:
        from .benchmark import benchmark

        scan = next(iter(arguments.scans), None)
        benchmark(arguments.benchmark, localiser, scan, frame=arguments.frame, ct=arguments.ct)
        return DONE
    findings: list[Finding] = []
    failed = 0
    for path in arguments.scans:
        try:
            volume, finding = locate(path, localiser, frame=arguments.frame, ct=arguments.ct)
            findings.append(finding)
            for warning in volume.warnings:
                say(PROG, f'warning: {warning}')
            if finding.box is None:
                failed += 1
                say(PROG, f'{path}: no {localiser.organ} found')
            else:
                for line in finding.lines():
                    show(line)
            _write(arguments, volume, finding)
        except BrainchopError as error:
            failed += 1
            say(PROG, f'error: {error}')
    if arguments.json:
        write_text(
            arguments.json, json.dumps([one.to_dict() for one in findings], indent=2) + '\n'
        )
    if arguments.tsv:
        rows = [TABLE, *(map(table_cell, one.row()) for one in findings)]
        write_text(arguments.tsv, ''.join('\t'.join(row) + '\n' for row in rows))
    return FAILED if failed else DONE


def _check(arguments: argparse.Namespace) -> None:
    scans, written = len(arguments.scans), ('json', 'tsv', 'crop', 'preview')
    if arguments.benchmark is None and not scans:
        raise SettingsError('no scan given; name at least one')
    if arguments.benchmark is None and scans > 1 and (arguments.crop or arguments.preview):
        raise SettingsError('--crop and --preview are for one scan; give one')
    others = [f'--{name}' for name in written if getattr(arguments, name)]
    if arguments.benchmark is not None and (scans > 1 or others):
        raise SettingsError(
            f'--benchmark takes one scan at most, and no {others[0] if others else "other"}'
        )


def _write(arguments: argparse.Namespace, volume: 'Volume', finding: 'Finding') -> None:
    from ..image.io import save_nifti
    from ..inference.localise.report import cropped

    if arguments.crop and finding.box is not None:
        part, affine = cropped(volume, finding.box, arguments.margin)
        save_nifti(arguments.crop, part, affine=affine)
    if arguments.preview:
        from ..reports.figures.sector import draw_sector
        from ..system.atomic import publish

        picture = draw_sector(volume.data, volume.geometry, finding.box)
        publish([(arguments.preview, lambda path: picture.save(path, 'PNG'))])


if __name__ == '__main__':
    sys.exit(main())
