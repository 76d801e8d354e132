"""Segment the scans that a DataGrabber finds in a BIDS dataset.

    python from_datagrabber.py DATASET OUT
    python from_datagrabber.py DATASET OUT --pattern 'sub-%s/ses-1/anat/*_run-1_T1w.nii*'

The workflow iterates over participants; MultiProc and SLURM run them in parallel. For BIDS
derivatives with sidecars, reports and reruns of missing results use ``brainchop`` itself.
"""

import argparse
import json
from pathlib import Path

from nipype import DataGrabber, DataSink, IdentityInterface, Node, Workflow

from brainchop_bids.workflows.segment import init_single_scan_wf


def find_participants(dataset: Path, pattern: str) -> list[str]:
    """Return the labels of the participants with exactly one scan that matches the pattern."""
    labels = sorted(path.name[4:] for path in dataset.glob('sub-*') if path.is_dir())
    found = {label: list(dataset.glob(pattern % label)) for label in labels}
    for label, scans in found.items():
        if len(scans) > 1:
            raise SystemExit(f'sub-{label}: {len(scans)} scans fit {pattern}; narrow --pattern')
    return [label for label, scans in found.items() if scans]


def container(subject: str) -> str:
    """Return the folder of a participant's results."""
    return f'sub-{subject}'


def init_pipeline(arguments: argparse.Namespace) -> Workflow:
    """Connect the steps."""
    participants = find_participants(arguments.dataset, arguments.pattern)
    if not participants:
        raise SystemExit(f'{arguments.dataset}: no scan fits {arguments.pattern}')
    source = Node(IdentityInterface(fields=['subject']), name='source')
    source.iterables = ('subject', participants)
    grabber = Node(DataGrabber(infields=['subject'], outfields=['t1w']), name='grabber')
    grabber.inputs.base_directory = str(arguments.dataset.resolve())
    grabber.inputs.template = arguments.pattern
    grabber.inputs.template_args = {'t1w': [['subject']]}
    grabber.inputs.sort_filelist = True
    segment = init_single_scan_wf(model=arguments.model, mem_gb=arguments.mem_gb, omp_nthreads=1)
    sink = Node(DataSink(base_directory=str(arguments.out.resolve())), name='sink')
    sink.inputs.parameterization = False

    pipeline = Workflow('from_datagrabber', base_dir=str(arguments.work_dir.resolve()))
    pipeline.connect(
        [
            (source, grabber, [('subject', 'subject')]),
            (grabber, segment, [('t1w', 'inputnode.t1w')]),
            (source, sink, [(('subject', container), 'container')]),
            (
                segment,
                sink,
                [
                    ('outputnode.dseg', '@dseg'),
                    ('outputnode.brain_mask', '@mask'),
                    ('outputnode.volumes', '@volumes'),
                ],
            ),
        ]
    )
    return pipeline


def main() -> None:
    """Parse the command line and run the workflow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('dataset', type=Path, help='the BIDS dataset')
    parser.add_argument('out', type=Path, help='folder for the results')
    parser.add_argument(
        '--pattern',
        default='sub-%s/anat/*_T1w.nii*',
        help='of scans; a participant stands for the %%s (default: %(default)r)',
    )
    parser.add_argument('--model', default='tissue', help='name or folder')
    parser.add_argument('--mem-gb', type=float, help='what a network may use (default: all)')
    parser.add_argument('--work-dir', type=Path, default=Path('work'))
    parser.add_argument('--plugin', default='Linear', help='Linear, MultiProc, SLURM, ...')
    parser.add_argument('--plugin-args', type=json.loads, default={}, help='JSON')
    arguments = parser.parse_args()
    pipeline = init_pipeline(arguments)
    pipeline.run(plugin=arguments.plugin, plugin_args=arguments.plugin_args)


if __name__ == '__main__':
    main()
