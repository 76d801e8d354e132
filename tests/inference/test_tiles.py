"""Parts of volumes: cubes side by side, and tiles that give what the whole gives."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.image.normalise import Normalization
from brainchop_bids.inference.engine import KerasEngine
from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.inference.tiles import cubes
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.spec import load_spec
from tests.tfjs_folder import conv, random_weights, two_layers, write_tfjs

lengths = st.integers(1, 9)


@given(st.tuples(lengths, lengths, lengths), st.tuples(lengths, lengths, lengths))
def test_every_voxel_belongs_to_one_cube(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    owners = np.zeros(shape, dtype=int)
    for tile in cubes(shape, size):
        owners[tile.own] += 1
        assert tile.shape == size
        for outer, own, n in zip(tile.outer, tile.own, shape, strict=True):
            assert 0 <= outer.start <= own.start < own.stop <= min(outer.stop, n)
            assert outer.stop <= max(n, outer.stop - outer.start)
    assert (owners == 1).all()


@pytest.mark.parametrize('shape', [(8, 8, 8), (16, 9, 8), (19, 8, 5), (3, 4, 5)])
def test_cubes_are_computed_by_themselves(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Against PyTorch's convolution of each cube, with zeros behind the end of the volume."""
    spec = load_spec(two_layers(tmp_path / 'cubes', size=8))
    assert spec.block == (8, 8, 8)
    data = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data.flat[:2] = 0, 255
    engine = KerasEngine(spec, threads=1, normalization=Normalization.parse('minmax'))
    probabilities = np.zeros((*shape, 3), np.float32)
    labels = engine.segment(data, probabilities=probabilities)
    expected = _by_torch(spec.folder, data / np.float32(255))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, expected.argmax(-1))


def _by_torch(folder: Path, data: np.ndarray) -> np.ndarray:
    first, last = (op for op in read_network(folder)[0].ops if op.weights)
    kernels = [
        torch.from_numpy(op.weights['kernel'].transpose(4, 3, 0, 1, 2)) for op in (first, last)
    ]
    biases = [torch.from_numpy(op.weights['bias']) for op in (first, last)]
    result = np.full((*data.shape, 3), np.nan, np.float32)
    volume = np.pad(data, [(0, max(0, 8 - n)) for n in data.shape])
    for corner in product(*(range(0, n, 8) for n in data.shape)):
        start = [min(a, n - 8) for a, n in zip(corner, volume.shape, strict=True)]
        x, y, z = (slice(a, a + 8) for a in start)
        cube = torch.from_numpy(volume[x, y, z])[None, None]
        hidden = torch.relu(torch.conv3d(cube, kernels[0], biases[0], padding=1))
        shares = torch.softmax(torch.conv3d(hidden, kernels[1], biases[1]), 1)
        own = tuple(slice(a, min(a + 8, n)) for a, n in zip(corner, data.shape, strict=True))
        inner = tuple(
            slice(place.start - a, place.stop - a) for place, a in zip(own, start, strict=True)
        )
        result[own] = shares[0].numpy().transpose(1, 2, 3, 0)[inner]
    return result


def test_without_neighbours_cubes_are_the_whole(tmp_path: Path) -> None:
    """A network that sees one voxel gives the same by cubes as by the whole volume."""
    weights = random_weights(out__kernel=(1, 1, 1, 1, 3), out__bias=(3,))
    data = np.random.default_rng(1).integers(0, 256, (20, 17, 33)).astype(np.uint8)
    labels = []
    for size in (8, 256):
        folder = write_tfjs(tmp_path / f'cubes{size}', [conv('out', 3, 1)], weights, size=size)
        labels.append(KerasEngine(load_spec(folder), threads=1).segment(data))
    np.testing.assert_array_equal(*labels)


def test_cubes_need_little_memory(tmp_path: Path) -> None:
    small, whole = (load_spec(two_layers(tmp_path / str(size), size=size)) for size in (38, 256))
    assert small.block == (38, 38, 38)
    assert whole.block is None
    assert estimate_peak_gb(small, (256,) * 3) < estimate_peak_gb(whole, (256,) * 3)
