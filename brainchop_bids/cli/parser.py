"""Options of the BIDS App, spelled and meaning as in fMRIPrep where it has them."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from .options import (
    add_frame_option,
    add_inference_options,
    add_label_options,
    add_model_options,
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
    parser = argparse.ArgumentParser(
        prog='brainchop',
        description='Segment the T1-weighted scans of a BIDS dataset with a tiny network.',
        epilog='Exit code: 0 all done, 1 some scan failed, 2 the command cannot run as given.',
    )
    parser.add_argument('bids_dir', type=Path, help='the BIDS dataset, read only')
    parser.add_argument('output_dir', type=Path, help='where the derivatives go')
    parser.add_argument(
        'analysis_level',
        choices=LEVELS,
        help='participant: segment each T1w; group: gather all scans into a table and a page',
    )
    parser.add_argument('--version', action='version', version=f'brainchop {__version__}')
    _add_selection(parser)
    _add_segmentation(parser)
    _add_resources(parser)
    _add_running(parser)
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('which scans')
    group.add_argument(
        '--participant-label',
        '--participant_label',
        metavar='LABEL',
        nargs='+',
        type=_label('sub-'),
        default=[],
        help='only these participants, with or without sub-',
    )
    group.add_argument(
        '--session-label',
        '--session_label',
        metavar='LABEL',
        nargs='+',
        type=_label('ses-'),
        default=[],
        help='only these sessions, with or without ses-',
    )
    group.add_argument(
        '--bids-filter-file',
        metavar='FILE',
        type=Path,
        help='JSON file of pybids filters under the key "t1w", e.g. {"t1w": {"acquisition": "x"}}',
    )
    group.add_argument(
        '--bids-database-dir',
        metavar='PATH',
        type=Path,
        help="folder of a pybids index of this dataset's anatomical files; made if missing",
    )
    group.add_argument(
        '--skip-bids-validation',
        '--skip_bids_validation',
        action='store_true',
        help='do not run bids-validator-deno on the input (it runs where it is installed; '
        'what it finds is reported and never stops a run)',
    )
    add_frame_option(group)


def _add_segmentation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('segmentation')
    add_model_options(group, several=True)
    add_inference_options(group)
    add_label_options(group)
    group.add_argument(
        '--probseg', action='store_true', help='write a probability map of each label'
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
        help='threads over all processes (default: all that affinity, SLURM and cgroup grant)',
    )
    group.add_argument(
        '--omp-nthreads',
        metavar='N',
        type=positive,
        help='threads of one process (default: --nprocs, 8 at most)',
    )
    group.add_argument(
        '--mem',
        '--mem_mb',
        '--mem-mb',
        dest='mem',
        metavar='SIZE',
        help='memory over all processes, in MB or with a suffix, e.g. 16G '
        '(default: what SLURM, cgroup and the machine grant)',
    )
    group.add_argument(
        '--use-plugin',
        '--nipype-plugin-file',
        metavar='FILE',
        type=Path,
        help='YAML file with a Nipype plugin and its plugin_args',
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('running')
    group.add_argument(
        '-w',
        '--work-dir',
        metavar='PATH',
        type=Path,
        default=Path('work'),
        help='folder for intermediate files (default: %(default)s)',
    )
    group.add_argument(
        '--clean-workdir',
        action='store_true',
        help="remove a scan's intermediate files as soon as its results are written",
    )
    group.add_argument(
        '--config-file',
        metavar='FILE',
        type=Path,
        help='TOML file of options, such as a logs/run-*.toml; the command line wins',
    )
    group.add_argument(
        '--stop-on-first-crash',
        action='store_true',
        help='stop at the first scan that fails instead of going on with the others',
    )
    group.add_argument(
        '--dry-run', action='store_true', help='say what would be done and why, then stop'
    )
    group.add_argument(
        '--write-graph', action='store_true', help='draw the workflow into logs/ and go on'
    )
    group.add_argument(
        '--reports-only', action='store_true', help='rebuild the pages from the derivatives'
    )
    group.add_argument(
        '--no-viewer',
        dest='viewer',
        action='store_false',
        help='leave the viewer of three planes out of the pages: 0.4 MB a scan instead of 1.5',
    )
    group.add_argument(
        '--boilerplate-only',
        '--boilerplate',
        dest='boilerplate',
        action='store_true',
        help='write the methods text (logs/CITATION.md), then stop',
    )
    group.add_argument(
        '-v', '--verbose', action='count', default=0, help='say more; -vv adds what Nipype says'
    )
