"""Cubes are the same however they are made, and bad label maps are named before hours pass."""

import os
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.system.errors import BrainchopError, DatasetError, ModelError
from brainchop_bids.training.config import TrainConfig
from brainchop_bids.training.data.loader import PatchLoader, subsample
from brainchop_bids.training.data.sources import find_sources, label_map_files, load_label_map
from brainchop_bids.training.options import DataOptions, Stage
from tests.processes import children_of
from tests.training.maps import write_maps


def config(folder: Path, **stage: int) -> TrainConfig:
    return TrainConfig(
        data=DataOptions(label_maps=str(folder)),
        validation_cubes=1,
        stages=(Stage(**{'cube': 16, 'cubes_per_volume': 2, **stage}),),
    )


def cubes_of(settings: TrainConfig, workers: int) -> PatchLoader:
    return PatchLoader(settings, workers, find_sources(settings))


def test_the_number_of_workers_and_resuming_change_nothing(tmp_path: Path) -> None:
    settings = config(write_maps(tmp_path / 'maps', 2), batch=2)
    with cubes_of(settings, 1) as source:
        first = list(islice(source.batches(0), 3))
        validation = source.validation(0)
    with cubes_of(settings, 2) as source:
        later = next(source.batches(0, 2))
        again = source.validation(0)
    for mine, other in zip((*first[2], *validation[0]), (*later, *again[0]), strict=True):
        np.testing.assert_array_equal(mine, other)
    images, labels = first[0]
    assert images.shape == (2, 16, 16, 16, 1)
    assert images.dtype == np.float32
    assert labels.shape == (2, 16, 16, 16)
    assert labels.max() <= 3
    assert not np.array_equal(first[0][0], first[1][0])


def test_a_map_in_another_orientation_and_grid_is_conformed(tmp_path: Path) -> None:
    path = write_maps(tmp_path, 1) / 'map_0.nii.gz'
    mapping = read_mapping('aseg_to_tissue')
    expected = load_label_map(path, mapping)
    assert expected.shape == (256, 256, 256)
    image = nib.load(path)
    turned = nib.as_closest_canonical(image)
    assert nib.aff2axcodes(turned.affine) == ('R', 'A', 'S')
    turned.to_filename(tmp_path / 'turned.nii')
    found = load_label_map(tmp_path / 'turned.nii', mapping)
    # The same head, though FreeSurfer's centre of a grid moves by a voxel where axes are flipped.
    np.testing.assert_array_equal(np.bincount(found.ravel()), np.bincount(expected.ravel()))


def test_computed_voxels_of_a_stride() -> None:
    labels = np.arange(64).reshape(4, 4, 4)
    assert subsample(labels, 1).shape == (4, 4, 4)
    assert subsample(labels, 2)[0, 0, 0] == labels[1, 1, 1]


def test_folders_without_maps(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='cannot be read'):
        label_map_files(config(tmp_path / 'nowhere').data)
    with pytest.raises(DatasetError, match='no label maps to train on'):
        label_map_files(config(tmp_path).data)
    folder = write_maps(tmp_path / 'maps', 1)
    held_out = TrainConfig(data=DataOptions(label_maps=str(folder), hold_out=('map_0',)))
    with pytest.raises(DatasetError, match='no label maps to train on'):
        label_map_files(held_out.data)
    wrong = TrainConfig(data=DataOptions(label_maps=str(folder), hold_out=('map_7',)))
    with pytest.raises(DatasetError, match='has no map_7'):
        label_map_files(wrong.data)


def test_a_code_outside_the_table_and_a_broken_file_are_named(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / 'maps', 1)
    image = nib.load(folder / 'map_0.nii.gz')
    data = np.asarray(image.dataobj).copy()
    data[20, 20, 20] = 99
    nib.Nifti1Image(data, image.affine).to_filename(folder / 'odd.nii.gz')
    with pytest.raises(ModelError, match=r'odd\.nii\.gz: label 99 is not in the table'):
        cubes_of(config(folder), 1)
    (folder / 'odd.nii.gz').write_bytes(b'no gzip')
    with pytest.raises(BrainchopError, match=r'odd\.nii\.gz'):
        cubes_of(config(folder), 1)


def test_each_cube_of_label_maps_is_of_the_next_map(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / 'maps', 3)
    with cubes_of(config(folder), 1) as source:
        cubes = [name for step in range(6) for name in source.names(0, step)]
    # Two rounds of three maps, each in an order of its own.
    every = sorted(str(path) for path in folder.iterdir())
    assert sorted(cubes[:3]) == every
    assert sorted(cubes[3:]) == every


def test_workers_load_no_deep_learning_library(tmp_path: Path) -> None:
    before = children_of(os.getpid())
    with cubes_of(config(write_maps(tmp_path / 'maps', 1)), 1) as source:
        next(source.batches(0))
        workers = children_of(os.getpid()) - before
        mapped = ''.join(Path(f'/proc/{pid}/maps').read_text() for pid in workers)
    assert '/numpy/' in mapped
    for library in ('tensorflow', 'torch', 'jaxlib'):
        assert f'/{library}/' not in mapped


def test_cubes_that_do_not_fit(tmp_path: Path) -> None:
    settings = config(write_maps(tmp_path / 'maps', 1), cube=300)
    with cubes_of(settings, 1) as source, pytest.raises(BrainchopError, match='do not fit'):
        next(source.batches(0))
