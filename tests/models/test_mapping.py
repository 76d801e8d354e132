"""Tables from codes to labels."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.models.freesurfer import freesurfer_code
from brainchop_bids.models.labels import lateral_pairs
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.system.errors import ModelError
from brainchop_bids.training.augment.tissues import SIDES


def test_the_packaged_table_follows_freesurfer() -> None:
    table = read_mapping('aseg_to_tissue')
    assert table.labels == {0: 'BG', 1: 'GM', 2: 'WM', 3: 'CSF'}
    assert table.classes == 4
    found = table.apply(np.array([[3, 42, 10], [2, 41, 16], [4, 24, 15], [0, 502, 530]]))
    assert found.tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3], [0, 0, 0]]


def test_both_sides_have_the_same_label() -> None:
    table = read_mapping('aseg_to_tissue')
    assert all(table.indices[left] == table.indices[right] for left, right in SIDES.items())


def test_a_table_with_sides_follows_freesurfers_names() -> None:
    table = read_mapping('aseg_to_aseg')
    assert table.classes == 33
    assert table.empty == []
    for index, name in table.labels.items():
        code = freesurfer_code(name)
        assert code is not None
        assert table.indices[code] == index
    pairs = dict(lateral_pairs(table.labels))
    assert len(pairs) == 14
    there = [code for code in SIDES if table.labels[table.indices[code]] != 'Unknown']
    assert len(there) >= 14
    for left in there:
        assert pairs[table.indices[left]] == table.indices[SIDES[left]]


@pytest.mark.parametrize('name', ['aseg_to_tissue', 'aseg_to_aseg'])
def test_it_knows_every_code_of_the_label_maps(shared: Path, name: str) -> None:
    table = read_mapping(name)
    maps = sorted((shared / 'data' / 'label_maps' / 'synthseg-20').glob('*.nii.gz'))
    assert len(maps) == 20
    for path in maps[::7]:
        table.check(np.asarray(nib.load(path).dataobj).astype(np.int32), path)
    aseg = shared / 'data' / 't1w' / 'voxelmorph-test-scan' / 'seg.nii.gz'
    codes = np.asarray(nib.load(aseg).dataobj).astype(np.int32)
    if name == 'aseg_to_aseg':
        # White matter that FreeSurfer gives no side.
        codes[np.isin(codes, [77, 251, 252, 253, 254, 255])] = 2
    table.check(codes, aseg)


def test_a_derivatives_label_table_is_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / 'seg-m_dseg.tsv'
    path.write_text(
        'index\tname\tmapping\n0\tbackground\t0\n1\tWhite\t2\n2\tGrey\t1\n3\tStem\tn/a\n'
    )
    table = read_mapping(path)
    assert table.apply(np.array([0, 1, 2])).tolist() == [0, 2, 1]
    assert table.empty == []
    # What is no tissue of one kind has no label there.
    with pytest.raises(ModelError, match='label 3 is not in the table'):
        table.apply(np.array([3]))


def test_labels_that_no_code_becomes(tmp_path: Path) -> None:
    path = tmp_path / 'gaps.tsv'
    path.write_text('code\tindex\n0\t0\n7\t2\n8\t2\n9\t5\n')
    assert read_mapping(path).empty == [1, 3, 4]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('code\tname\n1\tx\n', 'is not a label table'),
        ('code\tindex\n1\tx\n', 'is not a label table'),
        ('code\tindex\n1\t1\n1\t2\n', 'twice'),
        ('code\tindex\n-1\t1\n', 'out of range'),
        ('code\tindex\n', 'has no labels'),
        ('index\tmapping\n1\tn/a\n', 'has no labels'),
        ('', 'has no labels'),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / 'table.tsv'
    path.write_text(text)
    with pytest.raises(ModelError, match=said):
        read_mapping(path)


def test_codes_that_are_not_there_are_named(tmp_path: Path) -> None:
    table = read_mapping('aseg_to_tissue')
    with pytest.raises(ModelError, match=r'scan\.nii: label 99, 200 is not in the table'):
        table.apply(np.array([2, 99, 200]), 'scan.nii')
    with pytest.raises(ModelError, match='expected codes of 0 to 65535'):
        table.apply(np.array([-1]))
    with pytest.raises(ModelError, match='aseg_to_tissue'):
        read_mapping(tmp_path / 'none.tsv')
