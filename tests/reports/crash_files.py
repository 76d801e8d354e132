"""Crash files as Nipype writes them."""

import os
from pathlib import Path

from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.tools import report_crash

from brainchop_bids.bids.names import scan_node_name
from brainchop_bids.interfaces import Conform
from brainchop_bids.system.errors import InputError


def crash(root: Path, stem: str, message: str, when: float = 0.0) -> Path:
    """Let Nipype write the crash file of a scan's conform step."""
    scan = root / f'{stem}.nii.gz'
    scan.write_bytes(b'')
    workflow = pe.Workflow('app_wf', base_dir=str(root / 'work'))
    inner = pe.Workflow(scan_node_name(stem))
    node = pe.Node(Conform(in_file=str(scan)), name='conform')
    inner.add_nodes([node])
    workflow.add_nodes([inner])
    logs = root / 'logs'
    logs.mkdir(exist_ok=True)
    workflow.config['execution'] = {'crashdump_dir': str(logs), 'crashfile_format': 'txt'}
    found = workflow._create_flat_graph().nodes()
    (flat,) = found
    flat.config = {'execution': workflow.config['execution']}
    text = f'Traceback (most recent call last):\n{InputError.__module__}.InputError: {message}\n'
    path = Path(report_crash(flat, traceback=text.splitlines(keepends=True)))
    if when:
        os.utime(path, (when, when))
    return path
