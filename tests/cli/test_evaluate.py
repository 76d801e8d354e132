"""``brainchop-evaluate`` on files and datasets, good and bad."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.evaluate import main

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def labels(shift: int = 0) -> np.ndarray:
    data = np.zeros((24, 24, 24), np.uint8)
    data[4 + shift : 16 + shift, 4:16, 4:16] = 1
    data[8 + shift : 12 + shift, 8:12, 8:12] = 2
    return data


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.MGHImage if path.suffix == '.mgz' else nib.Nifti1Image
    kind(data, affine).to_filename(path)
    return path


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open() as file:
        return {(r['scan'], r['name']): r for r in csv.DictReader(file, delimiter='\t')}


def test_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / 'p.nii.gz', labels())
    second = write(tmp_path / 'r.nii', labels(1).astype(np.float32))
    out = tmp_path / 'scores.tsv'
    assert main([str(first), str(second), '--out', str(out)]) == 0
    table = rows(out)
    assert list(table) == [('p', '1'), ('p', '2'), ('p', 'brain')]
    assert float(table['p', 'brain']['dice']) == pytest.approx(11 / 12)
    assert float(table['p', '2']['dice']) == pytest.approx(3 / 4)
    assert float(table['p', '2']['hausdorff95_mm']) == pytest.approx(2)
    assert float(table['p', '1']['reference_mm3']) == (12**3 - 4**3) * 8
    assert table['p', '1']['note'] == 'n/a'
    said = capsys.readouterr()
    assert said.err == ''
    assert '0.9167' in said.out


def test_codes_become_labels(tmp_path: Path) -> None:
    codes = np.array([0, 42, 2])[labels()].astype(np.int16)
    codes[0, 0, 0] = 502
    first, second = write(tmp_path / 'p.nii', labels()), write(tmp_path / 'r.mgz', codes)
    out = tmp_path / 'scores.tsv'
    arguments = [str(first), str(second), '--mapping', 'aseg_to_tissue', '--no-surfaces']
    assert main([*arguments, '--out', str(out)]) == 0
    table = rows(out)
    assert {name for _, name in table} == {'GM', 'WM', 'brain'}
    assert all(float(row['dice']) == 1 for row in table.values())
    assert table['p', 'GM']['hausdorff95_mm'] == 'n/a'


def test_another_grid_is_resampled_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write(tmp_path / 'r.nii', labels())
    turned = nib.Nifti1Image(labels(), AFFINE)
    # The same anatomy stored in another order, with a margin.
    data = np.pad(labels()[::-1].transpose(2, 0, 1), 3)
    affine = np.array([[0, -2.0, 0, 46 + 6], [0, 0, 2, -6], [2, 0, 0, -6], [0, 0, 0, 1]])
    moved = write(tmp_path / 'p.nii', data, affine)
    assert turned.shape != data.shape
    out = tmp_path / 's.tsv'
    assert main([str(moved), str(reference), '--out', str(out), '--no-surfaces']) == 0
    assert all(float(row['dice']) == 1 for row in rows(out).values())
    assert 'resampled from 30x30x30 voxels of 2x2x2 mm' in capsys.readouterr().err
    assert 'resampled' in rows(out)['p', '1']['note']
    far = write(
        tmp_path / 'far.nii', labels(), AFFINE + np.array([[0, 0, 0, 900.0]] * 3 + [[0] * 4])
    )
    assert main([str(far), str(reference)]) == 1
    assert 'has nothing where' in capsys.readouterr().err


def test_datasets_are_matched_by_the_scans_entities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = tmp_path / 'ours', tmp_path / 'theirs'
    for sub, run in (('01', '1'), ('01', '2'), ('02', '1')):
        stem = f'sub-{sub}/anat/sub-{sub}_run-{run}'
        write(ours / f'{stem}_seg-tissue_dseg.nii.gz', labels(int(run)))
        write(ours / f'{stem}_space-conform_seg-tissue_dseg.nii.gz', labels())
        write(theirs / f'{stem}_desc-expert_dseg.nii.gz', labels(1))
    write(theirs / 'sub-03/anat/sub-03_desc-expert_dseg.nii.gz', labels())
    out = tmp_path / 's.tsv'
    assert main([str(ours), str(theirs), '--out', str(out), '--no-surfaces']) == 0
    table = rows(out)
    assert {scan for scan, _ in table} == {'sub-01_run-1', 'sub-01_run-2', 'sub-02_run-1'}
    assert float(table['sub-01_run-1', 'brain']['dice']) == 1
    assert float(table['sub-01_run-2', 'brain']['dice']) < 1
    said = capsys.readouterr()
    assert 'sub-03: only in' in said.err
    assert '3 scans; means (standard deviations)' in said.out
    write(ours / 'sub-01/anat/sub-01_run-1_seg-other_dseg.nii.gz', labels())
    assert main([str(ours), str(theirs)]) == 1
    assert 'sub-01_run-1 has several label maps' in capsys.readouterr().err
    arguments = [str(ours), str(theirs), '--pred-filter', 'seg=tissue', '--no-surfaces']
    assert main(arguments) == 0


def test_one_bad_pair_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = tmp_path / 'ours', tmp_path / 'theirs'
    for sub in ('01', '02'):
        write(ours / f'sub-{sub}/anat/sub-{sub}_seg-x_dseg.nii.gz', labels())
        write(theirs / f'sub-{sub}/anat/sub-{sub}_dseg.nii.gz', labels())
    broken = theirs / 'sub-01' / 'anat' / 'sub-01_dseg.nii.gz'
    broken.write_bytes(broken.read_bytes()[:200])
    out = tmp_path / 's.tsv'
    assert main([str(ours), str(theirs), '--out', str(out), '--no-surfaces']) == 1
    assert {scan for scan, _ in rows(out)} == {'sub-02'}
    assert capsys.readouterr().err.count('error:') == 1


@pytest.mark.parametrize(
    ('arguments', 'code', 'said'),
    [
        (['nothing.nii', '{r}'], 1, 'does not exist'),
        (['{folder}', '{r}'], 1, 'give two of a kind'),
        (['{empty}', '{empty}'], 1, 'no label maps'),
        (['{r}', '{r}', '--mapping', 'nothing'], 1, 'label table cannot be read'),
        (['{float}', '{r}'], 1, 'values that are no labels'),
        (['{blank}', '{blank}'], 1, 'no labels in either'),
        (['{strange}', '{r}', '--pred-mapping', 'aseg_to_tissue'], 1, 'label 99, 198 is not in'),
        (['{r}', '{r}', '--ref-filter', 'seg'], 2, 'expected KEY=VALUE'),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    (tmp_path / 'empty').mkdir()
    files = {
        'folder': tmp_path,
        'empty': tmp_path / 'empty',
        'r': write(tmp_path / 'r.nii', labels()),
        'float': write(tmp_path / 'f.nii', labels() + np.float32(0.5)),
        'blank': write(tmp_path / 'b.nii', labels() * np.uint8(0)),
        'strange': write(tmp_path / 's.nii', labels() * np.uint8(99)),
    }
    assert main([argument.format(**files) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert said in error
