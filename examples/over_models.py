"""Segment a scan with several models by ``iterables``, using only the interfaces.

    python over_models.py T1w.nii.gz OUT --models tissue /models/mine

The scan is conformed once. The workflow is that of `init_single_scan_wf`, written out in full, so
that steps can be inserted, replaced or left out.
"""

import argparse
import json
from pathlib import Path

from nipype import DataSink, Function, JoinNode, Node, Workflow

from brainchop_bids.interfaces import (
    Conform,
    FindModel,
    KeepComponents,
    LabelVolumes,
    ResampleLabels,
    Segment,
)


def gather(names: list, tables: list) -> str:
    """Join the tables of all models in one, with the model in the first column."""
    from pathlib import Path

    lines = []
    for name, table in zip(names, tables, strict=True):
        header, *rows = Path(table).read_text('utf-8').splitlines()
        lines += [f'model\t{header}'] if not lines else []
        lines += [f'{name}\t{row}' for row in rows]
    out_file = Path.cwd() / 'volumes_of_all.tsv'
    out_file.write_text('\n'.join(lines) + '\n')
    return str(out_file)


def init_pipeline(arguments: argparse.Namespace) -> Workflow:
    """Connect the steps."""
    t1w, out = arguments.t1w.resolve(), arguments.out.resolve()
    conform = Node(Conform(in_file=str(t1w)), name='conform', mem_gb=0.8)
    model = Node(FindModel(), name='model')
    # Nodes run in their own folders, so paths must be absolute.
    paths = [str(Path(m).resolve()) if Path(m).is_dir() else m for m in arguments.models]
    model.iterables = ('model', paths)
    segment = Node(Segment(num_threads=2), name='segment', mem_gb=3, n_procs=2)
    if arguments.mem_gb:
        segment.inputs.memory_gb = segment.mem_gb = arguments.mem_gb
    keep = Node(KeepComponents(), name='keep', mem_gb=0.8)
    to_scan = Node(
        ResampleLabels(reference=str(t1w), out_file='dseg.nii'), name='to_scan', mem_gb=0.8
    )
    volumes = Node(LabelVolumes(), name='volumes', mem_gb=0.8)
    sink = Node(DataSink(base_directory=str(out), parameterization=False), name='sink')
    together = JoinNode(
        Function(['names', 'tables'], ['out_file'], gather),
        name='together',
        joinsource='model',
        joinfield=['names', 'tables'],
    )
    sink_all = Node(DataSink(base_directory=str(out)), name='sink_all')

    pipeline = Workflow('over_models', base_dir=str(arguments.work_dir.resolve()))
    pipeline.connect(
        [
            (conform, segment, [('out_file', 'in_file')]),
            (model, segment, [('model', 'model'), ('model_sha256', 'model_sha256')]),
            (segment, keep, [('out_file', 'in_file')]),
            (model, keep, [('rule', 'rule'), ('mask_rule', 'mask_rule')]),
            (keep, to_scan, [('out_file', 'in_file')]),
            (to_scan, volumes, [('out_file', 'in_file')]),
            (model, volumes, [('labels', 'labels')]),
            (segment, volumes, [('confidence', 'confidence')]),
            # One folder for each model.
            (model, sink, [('name', 'container')]),
            (to_scan, sink, [('out_file', '@dseg')]),
            (volumes, sink, [('out_file', '@volumes')]),
            (model, together, [('name', 'names')]),
            (volumes, together, [('out_file', 'tables')]),
            (together, sink_all, [('out_file', '@all')]),
        ]
    )
    return pipeline


def main() -> None:
    """Parse the command line and run the workflow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('t1w', type=Path, help='a T1-weighted scan')
    parser.add_argument('out', type=Path, help='folder for the results')
    parser.add_argument('--models', nargs='+', default=['tissue'], help='names or folders')
    parser.add_argument('--mem-gb', type=float, help='what a network may use (default: all)')
    parser.add_argument('--work-dir', type=Path, default=Path('work'))
    parser.add_argument('--plugin', default='Linear', help='Linear, MultiProc, SLURM, ...')
    parser.add_argument('--plugin-args', type=json.loads, default={}, help='JSON')
    arguments = parser.parse_args()
    pipeline = init_pipeline(arguments)
    pipeline.run(plugin=arguments.plugin, plugin_args=arguments.plugin_args)


if __name__ == '__main__':
    main()
