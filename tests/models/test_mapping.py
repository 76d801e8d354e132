"""Tables from codes to labels."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.models.freesurfer import freesurfer_code
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.sides import lateral_pairs
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
    assert np.isin(codes, [77, 251, 252, 253, 254, 255]).any()
    labels = table.apply(codes, aseg)
    if name == 'aseg_to_aseg':
        # The scan's first axis is left to right or the reverse: each half has one side.
        callosum = np.argwhere((codes >= 251) & (codes <= 255))
        sides = labels[tuple(callosum.T)]
        assert set(sides) == {1, 19}
        places = [callosum[sides == side] for side in (1, 19)]
        assert max(np.ptp(place, axis=0).min() for place in places) < 10
        assert 0.5 < len(places[0]) / len(places[1]) < 2


TABLES = ['aseg_to_tissue', 'aseg_to_subcortical', 'aseg_to_aseg']


@pytest.mark.parametrize('name', TABLES)
def test_parcels_have_the_label_of_their_structure(name: str) -> None:
    """Names and codes are those of FreeSurferColorLUT.txt."""
    table = read_mapping(name)
    for first, whole in ((1000, 3), (2000, 42)):
        for region in ('unknown', 'bankssts', 'corpuscallosum', 'insula'):
            code = freesurfer_code(f'ctx-{"lr"[first // 2000]}h-{region}')
            assert code is not None
            assert table.indices[code] == table.indices[whole]
        # The white matter under a region has the region's number, 2000 further on.
        white = {3: 2, 42: 41}[whole]
        assert {table.indices[first + 2000 + i] for i in range(36)} == {table.indices[white]}
        # Regions of aparc.a2009s, and the white matter under them.
        a2009s = range(first + 10100, first + 10176)
        assert {table.indices[code] for code in a2009s} == {table.indices[whole]}
        assert {table.indices[code + 2000] for code in a2009s} == {table.indices[white]}
    assert [table.indices[code] for code in (5001, 5002, 78, 79)] == [
        table.indices[code] for code in (2, 41, 2, 41)
    ]


@pytest.mark.parametrize('name', TABLES)
def test_aparc_and_aseg_are_scored_alike(name: str) -> None:
    rng = np.random.default_rng(0)
    aseg = np.array([0, 2, 3, 41, 42, 17, 24])[rng.integers(0, 7, (12, 12, 12))]
    parcels = np.where(np.isin(aseg, [3, 42]), aseg // 40 * 1000 + 1000, aseg)
    parcels += np.where(parcels >= 1000, rng.integers(0, 36, aseg.shape), 0)
    wmparc = np.where(np.isin(aseg, [2, 41]), parcels // 40 * 1000 + 3007, parcels)
    table = read_mapping(name)
    for codes in (parcels, wmparc):
        assert codes.max() > 1000
        np.testing.assert_array_equal(table.apply(codes), table.apply(aseg))


def test_midline_structures_take_the_nearer_side() -> None:
    rng = np.random.default_rng(1)
    codes = np.array([0, 2, 41, 3, 253])[
        rng.choice(5, (40, 8, 8), p=[0.9, 0.02, 0.02, 0.03, 0.03])
    ]
    labels = read_mapping('aseg_to_aseg').apply(codes)
    left, right = (np.argwhere(codes == code) for code in (2, 41))
    for voxel in np.argwhere(codes == 253):
        far = [((side - voxel) ** 2).sum(1).min() for side in (left, right)]
        assert labels[tuple(voxel)] == (1 if far[0] <= far[1] else 19)
    for code, label in ((0, 0), (2, 1), (41, 19), (3, 2)):
        assert set(labels[codes == code]) == {label}
    with pytest.raises(ModelError, match='without a side, and no label 1 or 19'):
        read_mapping('aseg_to_aseg').apply(np.array([[[0, 253]]]))
    # One side alone is as near as can be.
    assert read_mapping('aseg_to_aseg').apply(np.array([0, 253, 0, 41])).tolist() == [0, 19, 0, 19]


def test_ranges_and_sides_of_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / 'own.tsv'
    path.write_text('code\tindex\tlabel\n0\t0\tBG\n10-12\t1\tL\n20\t2\tR\n30-31\t1/2\t\n')
    table = read_mapping(path)
    assert (table.classes, table.labels[2]) == (3, 'R')
    assert table.apply(np.array([12, 31, 0, 0, 30, 20])).tolist() == [1, 1, 0, 0, 2, 2]


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
        ('code\tindex\n9-3\t1\n', 'out of range'),
        ('code\tindex\n1-9\t1\n5\t1\n', 'code 5 twice'),
        ('code\tindex\n1\n', 'is not a label table'),
        ('code\tindex\n0\t0\n1\t1\n2\t1/2\n', 'no code has the label 2'),
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
