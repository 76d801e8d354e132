"""Conforming and clean-up by where the brain was found, from scans whose brain is known."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.inference.localise.localisation import Localisation
from brainchop_bids.inference.scan import segment_scan
from brainchop_bids.inference.scan_settings import ScanSettings
from brainchop_bids.models.spec import load_spec
from brainchop_bids.quality.located import localisation_flags
from brainchop_bids.system.errors import ModelError
from brainchop_bids.workflows.segment import init_single_scan_wf
from tests.builders import head, write_localiser, write_model, write_scan

GRID = Geometry((100, 110, 120), np.full(3, 2.0), np.eye(3), np.zeros(3))
BOX = ((20, 79), (20, 89), (40, 99))
FOUND = Localisation('Brain', 'l', 'abc', GRID.affine, BOX, 0.8, 'RAS', 'RAS', 0.9)


def with_neck(*, behind: int = 0) -> np.ndarray:
    """Return a head in the middle, above it nothing, and far below it something as bright."""
    data = np.pad(head(), [(0, 0), (0, 0), (12 + behind, 0)])
    data[16:30, 20:34, 1:5] = 700
    return data


def run(folder: Path, scan: Path, name: str, **options: object) -> tuple[np.ndarray, dict]:
    out = folder / f'{name}.nii'
    settings = ScanSettings(scan, out, components='none', **options)  # type: ignore[arg-type]
    facts = segment_scan(settings, load_spec(folder / 'model'))
    return np.asarray(nib.load(out).dataobj), facts


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model that names the localiser beside it."""
    folder = tmp_path_factory.mktemp('models')
    write_localiser(folder / 'finds-bright')
    facts = {'localiser': 'finds-bright'}
    (write_model(folder / 'model') / 'brainchop.json').write_text(json.dumps(facts))
    return folder


def test_what_is_far_from_the_brain_is_no_brain(models: Path) -> None:
    data = with_neck()
    scan = write_scan(models / 'neck.nii.gz', data)
    before, plain = run(models, scan, 'before', localiser='none')
    after, facts = run(models, scan, 'after')
    assert 'localisation' not in plain
    assert (before[16:30, 20:34, 1:5] > 0).all()
    assert not after[..., :8].any()
    # The brain itself has not changed.
    np.testing.assert_array_equal(after[..., 14:], before[..., 14:])
    found = facts['localisation']
    assert found['LabelsRestricted']
    assert found['FieldMovedMM'] is None
    brain = np.argwhere(data[..., 12:] > 300) + np.array([0, 0, 12])
    truth = np.stack([brain.min(0), brain.max(0)], -1)
    # Boxes are 9 mm, two voxels, larger than what is found.
    assert np.abs(truth + np.array([-2, 2]) - found['BoxVoxels']).max() <= 1
    # Interpolation adds less than half a voxel on each side.
    assert 14 * 14 * 4 * 4**3 <= found['RemovedVoxels'] < 15 * 15 * 5 * 4**3
    assert localisation_flags(Localisation.from_dict(found)) == []


def test_the_same_bytes_where_nothing_is_out_of_reach(models: Path) -> None:
    scan = write_scan(models / 'head.nii.gz')
    run(models, scan, 'with', mask=models / 'with_mask.nii')
    run(models, scan, 'without', mask=models / 'without_mask.nii', localiser='none')
    for name in ('', '_mask'):
        same = [(models / f'{with_}{name}.nii').read_bytes() for with_ in ('with', 'without')]
        assert same[0] == same[1]


def test_a_long_scan_is_labelled_as_its_head_is(models: Path) -> None:
    data = with_neck(behind=72)
    scan = write_scan(models / 'long.nii.gz', data)
    labels, facts = run(models, scan, 'long')
    affine = nib.load(scan).affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [0, 0, 84]
    nib.Nifti1Image(data[..., 84:], affine).to_filename(models / 'alone.nii')
    alone, _ = run(models, models / 'alone.nii', 'of_alone')
    assert np.mean(labels[..., 84:] == alone) > 0.999
    assert not labels[..., :80].any()
    moved = facts['localisation']['FieldMovedMM']
    # From the middle of 132 frames to that of the head, by whole voxels.
    assert moved == [0, 0, pytest.approx(42 * 4, abs=4)]
    assert any('is centred on what was located' in line for line in facts['warnings'])


def test_the_workflow_and_the_command_give_the_same(models: Path, tmp_path: Path) -> None:
    scan = write_scan(models / 'both.nii.gz', with_neck(behind=72))
    expected, facts = run(models, scan, 'command')
    single = init_single_scan_wf(model=models / 'model', components='none')
    single.base_dir = str(tmp_path)
    single.config['execution'] = {'crashdump_dir': str(tmp_path)}
    single.inputs.inputnode.t1w = str(scan)
    results = {node.name: node.result.outputs for node in single.run().nodes()}
    labels = np.asarray(nib.load(results['resample_dseg'].out_file).dataobj)
    np.testing.assert_array_equal(labels, expected)
    assert results['keep_components'].localisation == facts['localisation']
    assert 'by the convolutional network *finds-bright*' in ' '.join(single.__desc__.split())


def labelled(first: tuple[int, ...], last: tuple[int, ...]) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = 2
    return labels


def test_only_what_lies_beyond_the_margin_is_removed() -> None:
    # The middle of the seventh voxel beyond the face lies 13 mm from it.
    kept = labelled((13, 21, 41), (86, 88, 98))
    labels = kept.copy()
    labels[12, 50, 50] = labels[50, 98, 50] = labels[2, 2, 2] = 1
    got, found = FOUND.restrict(labels, GRID)
    np.testing.assert_array_equal(got, kept)
    assert (found.removed_voxels, found.cuts) == (3, False)
    assert localisation_flags(found) == []


@pytest.mark.parametrize(
    ('header', 'cm', 'cuts'), [('RAS', 5, False), ('RAS', 7, True), ('RAI', 5, True)]
)
def test_a_box_that_may_cut_the_brain_removes_nothing(header: str, cm: int, cuts: bool) -> None:
    """Labels go on below the box; so much of a neck is usual, and of a brain is not."""
    labels = labelled((40, 40, 10), (40 + 5 * cm - 1, 40 + 5 * cm - 1, 60))
    seen = replace(FOUND, header=header, seen=header)
    got, found = seen.restrict(labels, GRID)
    assert found.across_cm2 == cm**2
    assert found.cuts == cuts
    if cuts:
        np.testing.assert_array_equal(got, labels)
        (flag,) = localisation_flags(found)
        assert (flag.name, flag.value) == ('not-localised', cm**2)
        assert 'may be wrong' in flag.reason
        assert not found.to_dict()['LabelsRestricted']
    else:
        assert not got[..., :32].any()


@pytest.mark.parametrize('found', [replace(FOUND, box=None), replace(FOUND, certainty=0.1)])
def test_without_certainty_nothing_is_removed_and_a_flag_says_so(found: Localisation) -> None:
    labels = labelled((0, 0, 0), (99, 20, 20))
    got, same = found.restrict(labels, GRID)
    assert got is labels
    (flag,) = localisation_flags(same)
    assert flag.name == 'not-localised'
    assert 'not removed' in flag.reason
    assert '\n' not in flag.reason


def test_a_scan_without_a_brain_is_flagged(models: Path) -> None:
    scan = write_scan(models / 'dark.nii.gz', head() // 4)
    labels, facts = run(models, scan, 'dark')
    plain, _ = run(models, scan, 'dark_plain', localiser='none')
    np.testing.assert_array_equal(labels, plain)
    (flag,) = localisation_flags(Localisation.from_dict(facts['localisation']))
    assert 'No brain was found' in flag.reason


def test_a_header_that_disagrees_is_flagged_and_nothing_changes() -> None:
    found = replace(FOUND, seen='RPS')
    (flag,) = localisation_flags(found)
    assert flag.name == 'header-orientation'
    assert 'may be LPS or RPS' in flag.reason
    assert localisation_flags(replace(found, orientation_certainty=0.4)) == []
    assert localisation_flags(replace(found, seen='')) == []


def test_it_goes_there_and_back() -> None:
    for found in (FOUND, replace(FOUND, box=None, seen='', moved_mm=(0.0, -8.0, 64.0))):
        entry = json.loads(json.dumps(found.to_dict()))
        assert Localisation.from_dict(entry).to_dict() == found.to_dict()
    np.testing.assert_allclose(FOUND.to_dict()['BoxMM'], [[-61, 59], [-71, 69], [-41, 79]])


def test_a_model_that_is_no_localiser_is_refused_before_the_scan_is_read(models: Path) -> None:
    with pytest.raises(ModelError, match='is no localiser'):
        run(models, models / 'absent.nii', 'never', localiser=str(models / 'model'))


@pytest.mark.parametrize('name', ['../other', '/other', '', 3])
def test_a_folder_cannot_point_elsewhere(name: object, tmp_path: Path) -> None:
    folder = write_model(tmp_path / 'model')
    (folder / 'brainchop.json').write_text(json.dumps({'localiser': name}))
    with pytest.raises(ModelError, match='expected the name of a model'):
        load_spec(folder)
