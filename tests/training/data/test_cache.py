"""Scans are conformed as for inference, kept between runs, and refused where labels lie apart."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image.conform import conform
from brainchop_bids.image.io import read_volume
from brainchop_bids.models.labels import LabelTable
from brainchop_bids.models.mapping import LabelMapping, read_mapping
from brainchop_bids.system.errors import InputError, ModelError, SettingsError
from brainchop_bids.training.data import cache as volumes
from brainchop_bids.training.data.cache import load_example, open_cache, side_pairs
from brainchop_bids.training.data.datasets import Example
from brainchop_bids.training.data.splits import find_examples
from brainchop_bids.training.options import DataOptions
from tests.builders import head, write_scan

MAPPING = LabelMapping('test', {0: 0, 7: 1, 1000: 2})
# Not where the grid's middle is, and at an angle.
TURN = nib.eulerangles.euler2mat(0.1, 0.05, -0.2)


def affine_of(zoom: float = 4.0) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = TURN * zoom
    affine[:3, 3] = (-80, -95, -70)
    return affine


def write(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def truth() -> np.ndarray:
    labels = np.zeros(head().shape, np.uint16)
    labels[10:30, 15:40, 12:36] = 7
    labels[16:20, 20:30, 18:30] = 1000
    return labels


@pytest.fixture
def pair(tmp_path: Path) -> Example:
    scan = write(tmp_path / 'T1w.nii.gz', head(), affine_of())
    return Example('01', 'sub-01', (scan,), write(tmp_path / 'dseg.nii', truth(), affine_of()))


def with_labels(pair: Example, labels: np.ndarray, affine: np.ndarray) -> Example:
    path = write(pair.labels.with_name('other.nii'), labels, affine)
    return Example('01', 'sub-01', pair.images, path)


def test_arrays_are_those_of_inference(pair: Example) -> None:
    images, labels = load_example(pair, DataOptions(), MAPPING)
    conformed = conform(read_volume(pair.images[0]))
    np.testing.assert_array_equal(images, conformed.data[..., None])
    assert (images.dtype, labels.dtype) == (np.uint8, np.uint16)
    # By definition: the code of the voxel nearest to each place, which nibabel's affines give.
    rng = np.random.default_rng(0)
    places = rng.integers(20, 236, (20000, 3))
    onto = np.linalg.inv(affine_of()) @ conformed.affine
    where = places @ onto[:3, :3].T + onto[:3, 3]
    clear = (np.abs(where - np.rint(where)) < 0.49).all(1)
    nearest = np.rint(where).astype(int)
    inside = ((nearest >= 0) & (nearest < truth().shape)).all(1)
    expected = np.zeros(len(places), int)
    expected[inside] = truth()[tuple(nearest[inside].T)]
    np.testing.assert_array_equal(labels[tuple(places.T)][clear], expected[clear])
    assert set(np.unique(expected)) == {0, 7, 1000}


def test_channels_lie_on_the_first(pair: Example, tmp_path: Path) -> None:
    # Cut elsewhere: the same head, of which the file holds another part.
    cut = affine_of()
    cut[:3, 3] += cut[:3, :3] @ (4, 2, 0)
    other = write(tmp_path / 'T2w.nii', 3 * head()[4:, 2:], cut)
    both = Example('01', 'sub-01', (*pair.images, other), pair.labels)
    images, labels = load_example(both, DataOptions(channels=('T1w', 'T2w')), MAPPING)
    assert images.shape == (256, 256, 256, 2)
    first, second = (images[..., i][labels > 0].astype(int) for i in range(2))
    assert np.abs(first - second).max() <= 6
    assert first.std() > 20
    with pytest.raises(SettingsError, match='has 1 images; expected one for each of T1w, T2w'):
        load_example(pair, DataOptions(channels=('T1w', 'T2w')), MAPPING)
    far = affine_of()
    far[:3, 3] += 900
    apart = Example('01', 'sub-01', (*pair.images, write(other, head(), far)), pair.labels)
    with pytest.raises(InputError, match=r'T2w\.nii: has nothing where .*T1w\.nii\.gz lies'):
        load_example(apart, DataOptions(channels=('T1w', 'T2w')), MAPPING)


def test_labels_turned_or_rounded_lie_on_the_scan(pair: Example) -> None:
    _, expected = load_example(pair, DataOptions(), MAPPING)
    rounded = affine_of() + np.random.default_rng(0).uniform(-1e-4, 1e-4, (4, 4))
    rounded[3] = (0, 0, 0, 1)
    image = nib.as_closest_canonical(nib.Nifti1Image(truth()[::-1], affine_of() @ FLIP))
    for labels, affine in ((truth(), rounded), (image.get_fdata(), image.affine)):
        codes = np.asarray(labels, np.uint16)
        _, found = load_example(with_labels(pair, codes, affine), DataOptions(), MAPPING)
        assert (found != expected).mean() < 1e-4


FLIP = np.diag([-1.0, 1, 1, 1])
FLIP[0, 3] = head().shape[0] - 1


@pytest.mark.parametrize(
    ('shape', 'affine', 'said'),
    [
        (None, np.eye(4), 'turns and moves nothing: whatever wrote them lost the header'),
        (None, affine_of() + np.eye(4, k=3) * 3, 'corners up to 3 mm from those of the scan'),
        (None, affine_of(4.2), "copy the scan's affine"),
        ((40, 56, 48), affine_of(), '40x56x48 voxels of 4x4x4 mm, corners up to 32 mm'),
    ],
)
def test_labels_that_lie_elsewhere(
    pair: Example, shape: tuple[int, int, int] | None, affine: np.ndarray, said: str
) -> None:
    labels = truth() if shape is None else truth()[: shape[0]]
    with pytest.raises(InputError) as caught:
        load_example(with_labels(pair, labels, affine), DataOptions(), MAPPING)
    message = str(caught.value)
    assert 'other.nii: does not lie on' in message
    assert 'T1w.nii.gz' in message
    assert said in message


def test_labels_without_any_affine(pair: Example) -> None:
    image = nib.Nifti1Image(truth(), None)
    image.header.set_zooms((4, 4, 4))
    image.to_filename(pair.labels)
    with pytest.raises(InputError, match='turns and moves nothing'):
        load_example(pair, DataOptions(), MAPPING)


def test_labels_that_are_none(pair: Example) -> None:
    with pytest.raises(InputError, match=r'dseg\.nii: every voxel is background by the table x'):
        load_example(pair, DataOptions(), LabelMapping('x', {0: 0, 7: 0, 1000: 0, 2: 1}))
    with pytest.raises(ModelError, match=r'dseg\.nii: label 1000 is not in the table x'):
        load_example(pair, DataOptions(), LabelMapping('x', {0: 0, 7: 1}))
    half = with_labels(pair, truth() + np.float32(0.5), affine_of())
    with pytest.raises(InputError, match=r'other\.nii: holds values that are no labels'):
        load_example(half, DataOptions(), MAPPING)
    blank = write(pair.images[0], np.full(head().shape, 5, np.int16), affine_of())
    with pytest.raises(InputError, match='every voxel is 5'):
        load_example(Example('01', 'x', (blank,), pair.labels), DataOptions(), MAPPING)


def test_files_that_cannot_be_read(pair: Example, tmp_path: Path) -> None:
    pair.labels.write_bytes(pair.labels.read_bytes()[:2000])
    for cache in (None, tmp_path / 'cache'):
        with pytest.raises(InputError, match=r'dseg\.nii: is cut short'):
            load_example(pair, DataOptions(), MAPPING, cache)
    pair.labels.unlink()
    for cache in (None, tmp_path / 'cache'):
        with pytest.raises(InputError, match=r'dseg\.nii: .*[Nn]o such file'):
            load_example(pair, DataOptions(), MAPPING, cache)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a name whenever an example is made, not taken from the cache."""
    names: list[str] = []
    make = volumes._conform

    def noted(example: Example, mapping: LabelMapping) -> volumes.Arrays:
        names.append(example.name)
        return make(example, mapping)

    monkeypatch.setattr(volumes, '_conform', noted)
    return names


def test_a_volume_is_made_once(pair: Example, tmp_path: Path, made: list[str]) -> None:
    cache, warning = open_cache(DataOptions(cache=str(tmp_path / 'some' / 'cache')))
    assert not warning
    assert cache is not None
    first = load_example(pair, DataOptions(), MAPPING, cache)
    # What decides is the content: files may move.
    moved = pair.images[0].rename(tmp_path / 'moved.nii.gz')
    here = Example('07', 'sub-07', (moved,), pair.labels)
    again = load_example(here, DataOptions(), MAPPING, cache)
    assert made == ['sub-01']
    for array, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(array, other)
        assert isinstance(other, np.memmap)
        with pytest.raises(ValueError, match='read-only'):
            other[0] = 1
    with pytest.raises(ModelError, match='label 1000 is not in the table x'):
        load_example(here, DataOptions(), LabelMapping('x', {0: 0, 7: 1}), cache)
    # Every file is part of the key.
    changed = truth()
    changed[0] = 7
    write(pair.labels, changed, affine_of())
    _, labels = load_example(here, DataOptions(), MAPPING, cache)
    assert made == ['sub-01', 'sub-07']
    assert (labels == 7).sum() > (first[1] == 7).sum()


def test_a_damaged_entry_is_made_again(pair: Example, tmp_path: Path, made: list[str]) -> None:
    expected = load_example(pair, DataOptions(), MAPPING, tmp_path / 'cache')[1].copy()
    path = next((tmp_path / 'cache').glob('*_labels.npy'))
    for number, damage in enumerate(
        (
            lambda: os.truncate(path, 5000),
            lambda: path.write_bytes(path.read_bytes()[:-4096] + b'\7' * 4096),
            lambda: path.with_name(path.name.replace('_labels.npy', '.sha256')).write_text('x'),
            path.unlink,
        ),
        2,
    ):
        damage()
        found = load_example(pair, DataOptions(), MAPPING, tmp_path / 'cache')[1]
        assert len(made) == number
        np.testing.assert_array_equal(found, expected)


def test_a_cache_that_cannot_be_written_to(pair: Example, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('no folder')
    cache, warning = open_cache(DataOptions(cache=str(tmp_path / 'file' / 'cache')))
    assert cache is None
    assert 'conformed volumes are not cached between runs' in warning
    images, labels = load_example(pair, DataOptions(), MAPPING, tmp_path / 'file' / 'cache')
    assert images.shape == (256, 256, 256, 1)
    assert labels.any()


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert open_cache(DataOptions())[0] == tmp_path / 'xdg' / 'brainchop-bids' / 'training'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert open_cache(DataOptions())[0] == tmp_path / 'home/.cache/brainchop-bids/training'
    assert open_cache(DataOptions(cache='~/mine'))[0] == tmp_path / 'home' / 'mine'


def test_classes_that_change_sides() -> None:
    names = ['Unknown', 'Right-Caudate', 'CSF', 'Left-Caudate', 'ctx-lh-insula', 'ctx-rh-insula']
    assert side_pairs(LabelTable.from_names(names)) == [(3, 1), (4, 5)]
    assert side_pairs(LabelTable.from_names(['BG', 'GM', 'WM'])) == []
    with pytest.raises(SettingsError, match='label Left-Putamen has no counterpart'):
        side_pairs(LabelTable.from_names([*names, 'Left-Putamen']))


def test_labels_of_a_real_run(shared: Path, real_derivatives: Path, tmp_path: Path) -> None:
    # The label tables lie beside the label maps: what the App made, the App learns from.
    mapping = read_mapping('aseg_to_tissue')
    tissue = LabelMapping('tissue', {i: i for i in range(mapping.classes)})
    data = DataOptions(bids=str(shared / 'data' / 'ds000011'), derivatives=str(real_derivatives))
    found = find_examples(data)
    assert [item.subject for item in found] == [f'0{i}' for i in range(1, 7)]
    example = found[1]
    anat = example.labels.parent
    assert example.labels == anat / 'sub-02_seg-tissue_dseg.nii.gz'
    images, labels = load_example(example, data, tissue)
    preproc = nib.load(anat / 'sub-02_space-conform_desc-preproc_T1w.nii.gz')
    np.testing.assert_array_equal(images[..., 0], np.asarray(preproc.dataobj))
    path = anat / 'sub-02_space-conform_seg-tissue_dseg.nii.gz'
    conformed = np.asarray(nib.load(path).dataobj)
    # On the scan's own grid labels lose what that grid cannot show.
    for label in (1, 2, 3):
        both = (labels == label) & (conformed == label)
        assert 2 * both.sum() / ((labels == label).sum() + (conformed == label).sum()) > 0.9
    direct = Example('02', 'sub-02', example.images, path)
    np.testing.assert_array_equal(load_example(direct, data, tissue)[1], conformed)


def test_a_scan_beside_labels_of_another_head(pair: Example, tmp_path: Path) -> None:
    other = write_scan(tmp_path / 'b.nii.gz')
    with pytest.raises(InputError, match=r'dseg\.nii: does not lie on .*b\.nii\.gz'):
        load_example(Example('01', 'x', (other,), pair.labels), DataOptions(), MAPPING)
