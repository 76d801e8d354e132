"""Which scans are found in tables and datasets; no subject is on both sides of a split."""

import shutil
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.bids.derivatives import ScanOutputs
from brainchop_bids.bids.names import ScanName
from brainchop_bids.image.conform import conformed_grid
from brainchop_bids.image.io import read_geometry, save_nifti
from brainchop_bids.system.errors import DatasetError, SettingsError
from brainchop_bids.training.data.datasets import Example
from brainchop_bids.training.data.splits import find_examples, fold_of, split
from brainchop_bids.training.options import DataOptions
from tests.builders import write_dataset, write_scan

SCANS = [
    'sub-01/anat/sub-01_T1w.nii.gz',
    'sub-02/ses-A/anat/sub-02_ses-A_run-1_T1w.nii.gz',
    'sub-02/ses-A/anat/sub-02_ses-A_run-2_T1w.nii.gz',
    'sub-03/anat/sub-03_acq-x_T1w.nii.gz',
]


def example(subject: str, visit: int = 0, part: str = '') -> Example:
    name = f'sub-{subject}_ses-{visit}'
    return Example(subject, name, (Path(f'{name}_T1w.nii'),), Path(f'{name}_dseg.nii'), part)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('a', 'b', 'c', 'd'):
        for kind in ('T1w', 'T2w', 'dseg'):
            (tmp_path / f'{name}_{kind}.nii.gz').write_bytes(b'.')
    return tmp_path


def table(folder: Path, *rows: str, name: str = 'scans.tsv') -> DataOptions:
    path = folder / name
    path.write_text('\n'.join(rows) + '\n', encoding='utf-8-sig')
    return DataOptions(table=str(path), channels=('T1w', 'T2w'))


HEAD = 'subject\tsession\tlabels\tT2w\tT1w'


def cells(subject: str, session: str, name: str, *more: str) -> str:
    files = [f'{name}_{kind}.nii.gz' for kind in ('dseg', 'T2w', 'T1w')]
    return '\t'.join([subject, session, *files, *more])


def test_a_table_of_paths(folder: Path) -> None:
    data = table(
        folder, HEAD, cells('sub-01', '1', 'a'), cells('01', 'ses-2', 'b'), cells('02', 'n/a', 'c')
    )
    found = find_examples(data)
    assert [item.name for item in found] == ['sub-01_ses-1', 'sub-01_ses-2', 'sub-02']
    assert [item.subject for item in found] == ['01', '01', '02']
    assert found[0].images == (folder / 'a_T1w.nii.gz', folder / 'a_T2w.nii.gz')
    assert found[2].labels == folder / 'c_dseg.nii.gz'
    rows = Path(data.table).read_text('utf-8-sig').replace('\t', ',').splitlines()
    assert find_examples(table(folder, *rows, name='scans.csv')) == found


def test_names_are_unique(folder: Path) -> None:
    rows = [cells('01', '1', name) for name in ('a', 'b', 'c')]
    names = [item.name for item in find_examples(table(folder, HEAD, *rows))]
    assert names == ['sub-01_ses-1', 'sub-01_ses-1_2', 'sub-01_ses-1_3']


@pytest.mark.parametrize(
    ('rows', 'said'),
    [
        ([], r'has no column subject, labels, T1w, T2w'),
        ([HEAD], 'has no rows'),
        (['subject\tlabels\tT1w', '01\ta\tb'], r'has no column T2w; found subject, labels, T1w'),
        ([HEAD, cells('01', '1', 'a'), cells('02', '1', 'z')], r'line 3: T1w of sub-02: .*z_T1w'),
        ([HEAD, '01\t1\ta_dseg.nii.gz\tn/a\ta_T1w.nii.gz'], 'line 2: sub-01 has no T2w'),
        ([HEAD, '01\t1'], 'line 2: sub-01 has no T1w'),
        ([HEAD, cells('', '1', 'a')], 'line 2: names no subject'),
        ([HEAD, cells('01', '1', 'a'), cells('01', '1', 'a')], r'twice .*\(sub-01\)'),
        ([HEAD, cells('01', '1', 'a'), cells('02', '1', 'a')], 'belongs to sub-01 and to sub-02'),
        ([f'{HEAD}\tsplit', cells('01', '1', 'a', 'trian')], "split is 'trian'; expected train"),
    ],
)
def test_bad_tables(folder: Path, rows: list[str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        find_examples(table(folder, *rows))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='table cannot be read'):
        find_examples(DataOptions(table=str(tmp_path / 'none.tsv')))


def test_a_tables_own_split(folder: Path) -> None:
    parts = ['train', 'Validation', 'test', 'training']
    rows = [cells(name, '1', name, part) for name, part in zip('abcd', parts, strict=True)]
    data = table(folder, f'{HEAD}\tsplit', *rows)
    training, held_out = split(find_examples(data), data)
    assert [item.subject for item in training] == ['a', 'd']
    assert [item.subject for item in held_out] == ['b']
    with pytest.raises(SettingsError, match=r'data\.hold_out and a column split both'):
        split(find_examples(data), DataOptions(hold_out=('a',)))


def test_a_subject_in_two_splits(folder: Path) -> None:
    rows = [cells('01', '1', 'a', 'train'), cells('sub-01', '2', 'b', 'validation')]
    data = table(folder, f'{HEAD}\tsplit', *rows)
    with pytest.raises(DatasetError, match='subject in two splits: sub-01'):
        split(find_examples(data), data)
    data = table(folder, f'{HEAD}\tsplit', rows[0], cells('02', '1', 'c', ''))
    with pytest.raises(DatasetError, match=r'sub-02_ses-1: has no split'):
        split(find_examples(data), data)


@given(
    visits=st.dictionaries(
        st.text('abc019', min_size=1, max_size=3), st.integers(1, 3), min_size=2, max_size=12
    ),
    folds=st.integers(2, 5),
    order=st.randoms(use_true_random=False),
)
def test_folds_hold_out_each_subject_once(
    visits: dict[str, int], folds: int, order: Random
) -> None:
    examples = [example(subject, i) for subject, count in visits.items() for i in range(count)]
    shuffled = examples.copy()
    order.shuffle(shuffled)
    if len(visits) < folds:
        with pytest.raises(SettingsError, match='no more folds than subjects'):
            split(examples, DataOptions(folds=folds))
        return
    seen: list[str] = []
    for fold in range(folds):
        training, held_out = split(examples, DataOptions(folds=folds, fold=fold))
        assert sorted(map(str, training + held_out)) == sorted(map(str, examples))
        here = {item.subject for item in held_out}
        assert not here & {item.subject for item in training}
        again = split(shuffled, DataOptions(folds=folds, fold=fold))[1]
        assert {item.subject for item in again} == here
        seen += here
    assert sorted(seen) == sorted(visits)
    sizes = np.bincount(list(fold_of(list(visits), folds).values()))
    assert sizes.max() - sizes.min() <= 1


@given(st.data())
def test_what_is_held_out_is_a_partition(data: st.DataObject) -> None:
    subjects = data.draw(st.lists(st.sampled_from('abcdefg'), min_size=2, unique=True))
    held = data.draw(st.lists(st.sampled_from(subjects), max_size=len(subjects) - 1, unique=True))
    examples = [example(subject, i) for subject in subjects for i in range(2)]
    training, held_out = split(
        examples, DataOptions(hold_out=tuple(f'sub-{label}' for label in held))
    )
    assert {item.subject for item in held_out} == set(held)
    assert {item.subject for item in training} == set(subjects) - set(held)
    assert len(training) + len(held_out) == len(examples)


@pytest.mark.parametrize(
    ('data', 'said'),
    [
        (DataOptions(hold_out=('sub-10',)), 'no subject 10; did you mean 1'),
        (DataOptions(hold_out=('xyz',)), 'no subject xyz; there are 1, 2, 3'),
        (DataOptions(hold_out=('1',), folds=2), r'data\.hold_out and data\.folds both'),
        (DataOptions(folds=1), r'folds is 1; expected 2 or more'),
        (DataOptions(folds=3, fold=3), r'fold is 3; expected 0 to 2'),
        (DataOptions(folds=3, fold=-1), r'fold is -1; expected 0 to 2'),
        (DataOptions(folds=4), 'there are 3 subjects'),
    ],
)
def test_splits_that_cannot_be(data: DataOptions, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        split([example(label) for label in '123'], data)


@given(st.integers(2, 40), st.floats(0.05, 0.95), st.integers(0, 99))
def test_a_share_is_drawn_by_the_seed(count: int, share: float, seed: int) -> None:
    """Whole subjects, as many as the share says; the order of the scans has no effect."""
    scans = [example(f'{i:02}', visit) for i in range(count) for visit in range(1 + i % 3)]
    data = DataOptions(split=share)
    training, held_out = split(scans, data, seed)
    sides = [{scan.subject for scan in side} for side in (training, held_out)]
    assert not sides[0] & sides[1]
    assert sum(map(len, sides)) == count
    assert all(sides)
    assert abs(len(sides[0]) - share * count) <= 1
    assert {scan.name for scan in split(scans[::-1], data, seed)[1]} == {
        scan.name for scan in held_out
    }


def test_other_seeds_draw_others() -> None:
    scans = [example(f'{i:02}') for i in range(30)]
    drawn = {
        tuple(scan.subject for scan in split(scans, DataOptions(split=0.8), seed)[1])
        for seed in range(10)
    }
    assert len(drawn) == 10
    assert {len(held) for held in drawn} == {6}
    with pytest.raises(SettingsError, match='one subject or label map only'):
        split(scans[:1], DataOptions(split=0.8))


def test_nothing_is_left() -> None:
    with pytest.raises(DatasetError, match='nothing is left to train on'):
        split([example('1')], DataOptions(hold_out=('1',)))
    assert split([example('1')], DataOptions()) == ([example('1')], [])


@pytest.mark.parametrize(
    ('data', 'said'),
    [
        (DataOptions(), 'data has no source of scans'),
        (DataOptions(table='x.tsv', bids='y'), 'data has table and bids; expected one'),
        (DataOptions(table='x.tsv', channels=()), r'data\.channels is empty'),
        (DataOptions(bids='x'), r'needs data\.derivatives'),
        (DataOptions(folder='x', layout='iseg'), 'expected one of iseg2017, mrbrains'),
    ],
)
def test_sources_that_are_unclear(data: DataOptions, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        find_examples(data)


def test_the_folder_of_a_layout_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='no such folder'):
        find_examples(DataOptions(folder=str(tmp_path / 'none'), layout='iseg2017'))


def write_labels(path: Path, like: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_nifti(path, np.ones(read_geometry(like)[0].shape, np.uint8), like=like)


def write_conformed(path: Path, like: Path) -> Path:
    """Write labels on the scan's conformed grid, coarser so that the test is fast."""
    grid, _ = conformed_grid(read_geometry(like)[0])
    affine = grid.affine @ np.diag([32, 32, 32, 1.0])
    affine[:3, 3] += grid.affine[:3, :3] @ np.full(3, 15.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_nifti(path, np.ones((8, 8, 8), np.uint8), affine=affine)


@pytest.fixture
def datasets(tmp_path: Path) -> tuple[Path, Path]:
    """Return a raw dataset and the label maps that a run of the App writes for it."""
    raw = write_dataset(tmp_path / 'raw', SCANS)
    out = tmp_path / 'out'
    for scan in SCANS:
        outputs = ScanOutputs(out, ScanName.parse(scan), 'tissue')
        write_labels(outputs.dseg, raw / scan)
        write_conformed(outputs.dseg_conform, raw / scan)
    return raw, out


def paths(raw: Path, out: Path, **more: str) -> DataOptions:
    return DataOptions(bids=str(raw), derivatives=str(out), **more)


def test_scans_and_label_maps_of_two_datasets(datasets: tuple[Path, Path]) -> None:
    raw, out = datasets
    warnings: list[str] = []
    found = find_examples(paths(raw, out), warnings)
    assert not warnings
    assert [item.images for item in found] == [(raw / scan,) for scan in SCANS]
    # Of both grids the scan's own.
    names = ['sub-01', 'sub-02_ses-A_run-1', 'sub-02_ses-A_run-2', 'sub-03_acq-x']
    assert [item.name for item in found] == names
    assert [item.labels.name for item in found] == [f'{n}_seg-tissue_dseg.nii.gz' for n in names]
    assert [item.subject for item in found] == ['01', '02', '02', '03']
    for item in found:
        item.labels.unlink()
    conformed = find_examples(paths(raw, out), warnings)
    assert [item.labels.name for item in conformed] == [
        f'{n}_space-conform_seg-tissue_dseg.nii.gz' for n in names
    ]


def test_several_segmentations(datasets: tuple[Path, Path]) -> None:
    raw, out = datasets
    other = write_labels(out / 'sub-01/anat/sub-01_seg-other_dseg.nii.gz', raw / SCANS[0])
    with pytest.raises(DatasetError, match=r'sub-01_T1w: several label maps .*segmentation'):
        find_examples(paths(raw, out))
    warnings: list[str] = []
    found = find_examples(paths(raw, out, segmentation='other'), warnings)
    assert [item.labels for item in found] == [other]
    assert len(warnings) == 3
    assert 'sub-03_acq-x_T1w: left out: no label map (dseg) with seg-other' in warnings[2]
    with pytest.raises(DatasetError, match=r'no label maps; expected .* with seg-none'):
        find_examples(paths(raw, out, segmentation='none'))


def test_scans_without_labels_are_left_out(datasets: tuple[Path, Path]) -> None:
    raw, out = datasets
    shutil.rmtree(out / 'sub-01')
    # In the space of a template: of no use, however it is named.
    far = nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.diag([20, 20, 20, 1]))
    (out / 'sub-01' / 'anat').mkdir(parents=True)
    far.to_filename(out / 'sub-01/anat/sub-01_space-MNI152_dseg.nii.gz')
    warnings: list[str] = []
    found = find_examples(paths(raw, out), warnings)
    assert {item.subject for item in found} == {'02', '03'}
    assert len(warnings) == 1
    assert warnings[0].startswith('sub-01_T1w: left out: no label map (dseg) of sub-01 on its')
    for subject in ('sub-02', 'sub-03'):
        shutil.rmtree(out / subject)
    with pytest.raises(DatasetError, match='no scan has T1w and labels; sub-01_T1w: left out'):
        find_examples(paths(raw, out))


def test_channels_of_a_dataset(datasets: tuple[Path, Path]) -> None:
    raw, out = datasets
    second = write_scan(raw / 'sub-01/anat/sub-01_T2w.nii.gz')
    warnings: list[str] = []
    found = find_examples(paths(raw, out, channels=('T1w', 'T2w')), warnings)
    assert [item.images for item in found] == [(raw / SCANS[0], second)]
    assert len(warnings) == 3
    assert 'needs one T2w' in warnings[0]
    turned = find_examples(paths(raw, out, channels=('T2w', 'T1w')), [])
    assert [item.images for item in turned] == [(second, raw / SCANS[0])]


def test_label_maps_that_name_no_run(datasets: tuple[Path, Path]) -> None:
    raw, out = datasets
    shutil.rmtree(out)
    merged = write_labels(out / 'sub-03/anat/sub-03_dseg.nii.gz', raw / SCANS[3])
    # Two runs cannot both be meant.
    write_labels(out / 'sub-02/ses-A/anat/sub-02_ses-A_dseg.nii.gz', raw / SCANS[1])
    found = find_examples(paths(raw, out), [])
    assert [item.labels for item in found] == [merged]


def test_datasets_that_are_not_there(datasets: tuple[Path, Path], tmp_path: Path) -> None:
    raw, _ = datasets
    with pytest.raises(DatasetError, match=r'no such folder; see data\.derivatives'):
        find_examples(paths(raw, tmp_path / 'none'))
    with pytest.raises(DatasetError, match='no label maps; expected'):
        find_examples(paths(raw, raw))
    with pytest.raises(DatasetError, match='no such folder'):
        find_examples(paths(tmp_path / 'none', raw))
