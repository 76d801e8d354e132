"""`init_single_scan_wf` inside another pipeline."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import Function, Node, Workflow

from brainchop_bids.workflows.scan import init_single_scan_wf
from tests.builders import write_model, write_scan


def halve(in_file: str) -> str:
    """Stand for a step before: halve all intensities."""
    from pathlib import Path

    import nibabel as nib

    image = nib.load(in_file)
    out_file = Path('halved.nii').absolute()
    nib.Nifti1Image(image.dataobj[:] // 2, image.affine).to_filename(out_file)
    return str(out_file)


def count(dseg: str, volumes: str) -> int:
    """Stand for a step behind: use labels and volumes."""
    from pathlib import Path

    import nibabel as nib
    import numpy as np

    rows = [line.split('\t') for line in Path(volumes).read_text().splitlines()[1:]]
    voxels = int((np.asarray(nib.load(dseg).dataobj) > 0).sum())
    assert voxels == sum(int(row[2]) for row in rows if row[0] != '0')
    return voxels


def test_chained_between_other_nodes(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    outer = Workflow('outer', base_dir=str(tmp_path / 'work'))
    before = Node(Function(['in_file'], ['out_file'], halve), name='before')
    before.inputs.in_file = str(scan)
    single = init_single_scan_wf(model=write_model(tmp_path / 'model'), omp_nthreads=2)
    behind = Node(Function(['dseg', 'volumes'], ['voxels'], count), name='behind')
    outer.connect(
        [
            (before, single, [('out_file', 'inputnode.t1w')]),
            (single, behind, [('outputnode.dseg', 'dseg'), ('outputnode.volumes', 'volumes')]),
        ]
    )
    outer.config['execution'] = {'poll_sleep_duration': '0.05', 'crashdump_dir': str(tmp_path)}
    graph = outer.run()
    results = {node.name: node.result.outputs for node in graph.nodes()}
    brain = np.asarray(nib.load(scan).dataobj) > 300
    assert results['behind'].voxels == pytest.approx(brain.sum(), rel=0.02)
    labels = nib.load(results['resample_dseg'].out_file)
    assert labels.shape == brain.shape
    assert (np.asarray(labels.dataobj)[brain] > 0).mean() > 0.98


def test_the_methods_text_names_model_and_rules(tmp_path: Path) -> None:
    model = write_model(tmp_path / 'model')
    text = init_single_scan_wf(
        model=model, components='per-label', resample='nearest'
    ).visit_desc()
    assert 'of each label was kept' in text
    assert 'nearest-neighbour' in text
    assert '### References' in text
