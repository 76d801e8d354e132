"""`init_single_scan_wf` inside another pipeline."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import DataSink, Function, Node, Workflow

from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.scan import segment_scan
from brainchop_bids.inference.scan_settings import ScanSettings
from brainchop_bids.models.spec import load_spec
from brainchop_bids.workflows.segment import init_single_scan_wf
from tests.builders import head, write_model, write_scan


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


@pytest.mark.parametrize('codes', ['model', 'freesurfer'])
def test_outputs_have_names_of_their_own(tmp_path: Path, codes: str) -> None:
    # A DataSink puts them into one folder, where the last of a name would win.
    model = write_model(tmp_path / 'model')
    listed = [{'index': index, 'freesurfer': code} for index, code in enumerate((0, 2, 3))]
    facts = {'labels': listed, 'derived': {'tissue': 'aseg_to_tissue'}}
    (model / 'brainchop.json').write_text(json.dumps(facts))
    single = init_single_scan_wf(model=model, label_codes=codes, probseg=True)
    single.inputs.inputnode.t1w = str(write_scan(tmp_path / 'T1w.nii.gz'))
    sink = Node(DataSink(base_directory=str(tmp_path / 'out')), name='sink')
    outer = Workflow('outer', base_dir=str(tmp_path / 'work'))
    images = ['t1w_conform', 'dseg_conform', 'brain_mask_conform', 'dseg', 'brain_mask']
    derived = ['derived_dsegs', 'derived_dsegs_conform', 'derived_volumes']
    for field in (*images, *derived, 'volumes', 'probseg'):
        outer.connect(single, f'outputnode.{field}', sink, f'@{field}')
    outer.config['execution'] = {'crashdump_dir': str(tmp_path)}
    outer.run()
    found = {path.name: path for path in (tmp_path / 'out').iterdir()}
    assert {f'{field}.nii' for field in images[1:]} < set(found)
    assert len(found) == len(images) + 1 + 3 + len(derived)
    values = [0, 1, 2] if codes == 'model' else [0, 2, 3]
    for name in ('dseg.nii', 'dseg_conform.nii'):
        labels = np.asarray(nib.load(found[name]).dataobj)
        assert np.unique(labels).tolist() == values
        # White matter and cortex, as the table has them.
        tissue = nib.load(found[name.replace('.nii', '_tissue.nii')])
        assert tissue.get_data_dtype() == np.uint8
        expected = np.select([labels == value for value in values], [0, 2, 1])
        np.testing.assert_array_equal(tissue.dataobj, expected)
        np.testing.assert_array_equal(tissue.affine, nib.load(found[name]).affine)


def test_the_command_and_the_workflow_give_the_same(tmp_path: Path) -> None:
    # A field of view whose corners lie outside the conformed one.
    data = np.pad(head(), [(10, 10), (6, 6), (10, 10)])
    path, turned = tmp_path / 'T1w.nii.gz', np.radians(35)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
    affine[:3, :3] *= 4
    affine[:3, 3] = -affine[:3, :3] @ np.array(data.shape) / 2
    nib.Nifti1Image(data, affine).to_filename(path)
    model = write_model(tmp_path / 'model')
    options = InferenceOptions(tta=True)
    single = init_single_scan_wf(
        model=model, inference=options, probseg=True, uncertainty=True, border=5.0
    )
    single.base_dir = str(tmp_path / 'work')
    single.config['execution'] = {'crashdump_dir': str(tmp_path)}
    single.inputs.inputnode.t1w = str(path)
    results = {node.name: node.result.outputs for node in single.run().nodes()}
    names = ('dseg.nii', 'mask.nii', 'probseg.nii', 'volumes.tsv', 'u.nii', 'u_spread.nii')
    out = {name: tmp_path / name for name in names}
    settings = ScanSettings(path, out['dseg.nii'], inference=options, mask=out['mask.nii'],
                            probseg=out['probseg.nii'], volumes=out['volumes.tsv'],
                            uncertainty=out['u.nii'], border=5.0)  # fmt: skip
    segment_scan(settings, load_spec(model))
    workflow = results['resample_probseg'].out_files
    maps = np.stack([np.asarray(nib.load(file).dataobj) for file in workflow], -1)
    # The network's products are summed in another order where it has more threads.
    np.testing.assert_allclose(maps, nib.load(out['probseg.nii']).dataobj, atol=1e-5)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    assert (maps[..., 0] == 1).all(axis=(1, 2)).any(), 'nothing lies outside the conformed field'
    uncertain = results['resample_uncertainty'].out_files
    for file, name in zip(uncertain, ('u.nii', 'u_spread.nii'), strict=True):
        expected = nib.load(out[name])
        np.testing.assert_array_equal(nib.load(file).affine, expected.affine)
        np.testing.assert_allclose(nib.load(file).dataobj, expected.dataobj, atol=1e-5)
        assert (np.asarray(expected.dataobj) >= 0).all()
    assert np.asarray(nib.load(out['u.nii']).dataobj).max() > 0.5
    for node, name in (('resample_dseg', 'dseg.nii'), ('border_brain_mask', 'mask.nii')):
        expected = np.asarray(nib.load(out[name]).dataobj)
        assert expected.any()
        np.testing.assert_array_equal(nib.load(results[node].out_file).dataobj, expected)
    assert Path(results['volumes'].out_file).read_text() == out['volumes.tsv'].read_text()


def test_the_methods_text_names_model_and_rules(tmp_path: Path) -> None:
    model = write_model(tmp_path / 'model')
    text = init_single_scan_wf(
        model=model, components='per-label', resample='nearest'
    ).visit_desc()
    assert 'of each label was kept' in text
    assert 'nearest-neighbour' in text
    assert 'A brain mask was made from all labels: its largest' in ' '.join(text.split())
    assert 'Gaussian' not in text
    assert '### References' in text


def test_the_methods_text_tells_of_smoothing_and_mask() -> None:
    text = ' '.join(init_single_scan_wf(model='tissue', mem_gb=4).visit_desc().split())
    assert 'convolved with a Gaussian kernel (standard deviation 0.9 voxels)' in text
    assert (
        'all labels except Cerebrospinal Fluid: structures connected to the largest component '
        'only through bridges narrower than 8 mm were removed, the mask was closed with a ball '
        'of 8 mm radius'
    ) in text
    assert 'removed except Cerebrospinal Fluid within 5 mm of it' in text
