"""Options of the BIDS App, with the names and meanings of fMRIPrep's where it has them."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from ..bids.names import MODALITIES
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

LEVELS = ('participant', 'group')


def _label(prefix: str) -> Callable[[str], str]:
    def clean(text: str) -> str:
        return text.removeprefix(prefix)

    clean.__name__ = f'{prefix[:-1]} label'
    return clean


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop``.

    Returns
    -------
    argparse.ArgumentParser
        Its defaults can be replaced by those of a ``--config-file``.
    """
    parser = Parser(
        prog='brainchop',
        description='Segment the head scans of a BIDS dataset with a tiny network.',
        epilog='Exit code: 0 all done, 1 some scan failed, 2 the command cannot run as given.',
    )
    parser.add_argument('bids_dir', type=Path, help='BIDS dataset; it is only read')
    parser.add_argument('output_dir', type=Path, help='folder for the derivatives')
    parser.add_argument(
        'analysis_level',
        choices=LEVELS,
        help=(
            'participant: segment each scan; group: collect the results of all '
            'scans in a table and a page'
        ),
    )
    parser.add_argument('--version', action='version', version=f'brainchop {__version__}')
    _add_selection(parser)
    _add_segmentation(parser)
    _add_resources(parser)
    _add_running(parser)
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('selection of scans')
    group.add_argument(
        '--participant-label',
        '--participant_label',
        metavar='LABEL',
        nargs='+',
        type=_label('sub-'),
        default=[],
        help='participants to process, with or without the prefix sub- (default: all)',
    )
    group.add_argument(
        '--session-label',
        '--session_label',
        metavar='LABEL',
        nargs='+',
        type=_label('ses-'),
        default=[],
        help='sessions to process, with or without the prefix ses- (default: all)',
    )
    group.add_argument(
        '--modality',
        choices=tuple(MODALITIES),
        default='T1w',
        help=(
            'suffix of the scans (default: T1w). The packaged models are made for T1w scans; '
            'labels of others are flagged'
        ),
    )
    group.add_argument(
        '--bids-filter-file',
        metavar='FILE',
        type=Path,
        help=(
            "JSON file with filters for the scans in fMRIPrep's spelling, e.g. "
            '{"t1w": {"acquisition": "mprage", "session": "*"}}; "*" is any value, and null '
            'that the scan has none'
        ),
    )
    group.add_argument(
        '--bids-database-dir',
        metavar='PATH',
        type=Path,
        help=(
            "folder with a pybids database of the dataset's anatomical files; created "
            'if it does not exist'
        ),
    )
    group.add_argument(
        '--skip-bids-validation',
        '--skip_bids_validation',
        action='store_true',
        help=(
            'do not validate the dataset with bids-validator-deno (by default it is '
            'validated if the validator is installed; errors are reported and never '
            'stop the run)'
        ),
    )
    add_frame_option(group)
    add_window_option(group)
    add_ct_option(group)


def _add_segmentation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('segmentation')
    add_model_options(group, several=True)
    add_inference_options(group)
    add_label_options(group)
    add_localiser_option(group)
    add_border_option(group)
    group.add_argument(
        '--probseg', action='store_true', help='also write a probability map for each label'
    )
    group.add_argument(
        '--uncertainty',
        action='store_true',
        help=(
            'also write the entropy of the probabilities of each voxel (nats) and show it in the '
            'report, and with --tta the spread over the scan and its mirror image (mutual '
            'information, nats)'
        ),
    )


def _add_resources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('resources')
    group.add_argument(
        '--nprocs',
        '--nthreads',
        '--n_cpus',
        '--n-cpus',
        dest='nprocs',
        metavar='N',
        type=positive,
        help=(
            'maximum number of threads of all networks together (default: as many as '
            'CPU affinity, SLURM and cgroup allow); one more for every four of them may draw and '
            'write results meanwhile, unless --omp-nthreads is 1'
        ),
    )
    group.add_argument(
        '--omp-nthreads',
        metavar='N',
        type=positive,
        help=(
            'maximum number of threads of each process (default: that of --nprocs, but at most 8)'
        ),
    )
    group.add_argument(
        '--mem',
        '--mem_mb',
        '--mem-mb',
        dest='mem',
        metavar='SIZE',
        type=memory,
        help=(
            'maximum memory of all processes together, in MB or with a suffix, e.g. '
            '16G (default: as much as SLURM, cgroup and the machine allow)'
        ),
    )
    group.add_argument(
        '--use-plugin',
        '--nipype-plugin-file',
        metavar='FILE',
        type=Path,
        help='YAML file with the Nipype plugin to use and its plugin_args',
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('running')
    group.add_argument(
        '-w',
        '--work-dir',
        metavar='PATH',
        type=Path,
        default=Path('work'),
        help='folder for intermediate results (default: %(default)s)',
    )
    group.add_argument(
        '--clean-workdir',
        action='store_true',
        help=('remove the intermediate results of each scan once its derivatives are written'),
    )
    group.add_argument(
        '--config-file',
        metavar='FILE',
        type=Path,
        help=(
            'TOML file with options and perhaps the positional arguments, such as '
            'logs/run-*.toml of an earlier run; the command line takes precedence'
        ),
    )
    group.add_argument(
        '--stop-on-first-crash',
        action='store_true',
        help='stop at the first scan that fails (default: continue with the others)',
    )
    group.add_argument(
        '--dry-run',
        action='store_true',
        help='list the scans that would be processed, and why, then stop',
    )
    group.add_argument(
        '--write-graph', action='store_true', help='also write a drawing of the workflow to logs/'
    )
    group.add_argument(
        '--reports-only',
        action='store_true',
        help='only rebuild the reports from existing derivatives',
    )
    group.add_argument(
        '--no-viewer',
        dest='viewer',
        action='store_false',
        help=(
            'leave the interactive viewer out of the reports, which then take 0.4 MB '
            'for each scan instead of 1.5 MB'
        ),
    )
    group.add_argument(
        '--boilerplate-only',
        '--boilerplate',
        dest='boilerplate',
        action='store_true',
        help='only write the methods text (logs/CITATION.md)',
    )
    group.add_argument(
        '-v',
        '--verbose',
        action='count',
        default=0,
        help='print more messages; -vv also prints those of Nipype',
    )
