"""Parts of volumes: cubes side by side, and tiles that give what the whole gives."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.normalise import Normalization
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.tiles import Tile, cubes, exact_tiles, fitting_tiles
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.spec import load_spec
from tests.tfjs_folder import activation, conv, random_weights, two_layers, write_tfjs

torch = pytest.importorskip(
    'torch', reason='PyTorch is the independent reference: pip install torch'
)

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


def test_cubes_of_one_value_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head takes a few cubes of its volume, and the others hold air."""
    spec = load_spec(two_layers(tmp_path / 'cubes', size=8))
    data = np.zeros((40, 24, 21), np.uint8)
    data[9:14, 10:15, 11:15] = np.random.default_rng(0).integers(1, 256, (5, 5, 4))
    # Another value than that of air, and cubes at the end of the volume that keep a part.
    data[24:32, :8, :8] = 7
    engine = KerasEngine(spec, threads=1, normalization=Normalization.parse('minmax'))
    computed: list[Tile] = []
    compute = KerasEngine._compute
    monkeypatch.setattr(
        KerasEngine,
        '_compute',
        lambda self, tile, *rest: (computed.append(tile), compute(self, tile, *rest)),
    )
    probabilities = np.zeros((*data.shape, 3), np.float32)
    entropies = np.full(data.shape, np.nan, np.float32)
    labels = engine.segment(data, probabilities=probabilities, entropies=entropies)
    # The head, the block of sevens, a cube of air, and one that is moved back.
    head = [tile for tile in computed if data[tile.outer].max() > 7]
    assert len(computed) == len(head) + 3
    assert len(cubes(data.shape, (8, 8, 8))) == 45
    expected = _by_torch(spec.folder, data / np.float32(data.max()))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, expected.argmax(-1))
    with np.errstate(divide='ignore', invalid='ignore'):
        parts = -expected * np.log(expected)
    np.testing.assert_allclose(entropies, np.nan_to_num(parts).sum(-1), atol=1e-4)


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


@given(
    st.tuples(*[st.integers(1, 30)] * 3),
    st.integers(0, 9),
    st.integers(1, 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.tuples(st.integers(0, 29), st.integers(1, 30))] * 3),
)
def test_exact_tiles_cover_the_box_once(
    shape: tuple[int, int, int],
    reach: int,
    stride: int,
    numbers: tuple[int, int, int],
    sides: tuple[tuple[int, int], ...],
) -> None:
    starts = [min(first, n - 1) for (first, _), n in zip(sides, shape, strict=True)]
    x, y, z = (
        slice(start, min(n, start + length))
        for start, (_, length), n in zip(starts, sides, shape, strict=True)
    )
    owners = np.zeros(shape, int)
    for tile in exact_tiles(shape, reach, stride, box=(x, y, z), numbers=numbers):
        owners[tile.own] += 1
        for outer, own, n in zip(tile.outer, tile.own, shape, strict=True):
            assert outer.start % stride == 0
            assert outer.stop == n or outer.stop % stride == 0
            assert outer.start <= max(0, own.start - reach)
            assert min(n, own.stop + reach) <= outer.stop <= n
    expected = np.zeros(shape, int)
    expected[x, y, z] = 1
    np.testing.assert_array_equal(owners, expected)


@pytest.mark.parametrize('kind', [KerasEngine, OpenvinoEngine])
@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(1, 5),
    dilations=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=5),
    shape=st.tuples(*[st.integers(8, 26)] * 3),
    numbers=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_tiles_give_what_the_whole_gives(
    tmp_path_factory: pytest.TempPathFactory,
    kind: type[KerasEngine | OpenvinoEngine],
    seed: int,
    channels: int,
    dilations: list[int],
    shape: tuple[int, int, int],
    numbers: tuple[int, int, int],
) -> None:
    """In float32, to 1e-4, whatever the network, the volume and the number of tiles."""
    layers, weights, before = [], {}, 1
    rng = np.random.default_rng(seed)
    for place, dilation in enumerate(dilations):
        layers += [conv(f'c{place}', channels, 3, dilation_rate=[dilation] * 3)]
        layers += [activation(f'a{place}', 'elu')]
        weights[f'c{place}/kernel'] = rng.normal(0, 0.3, (3, 3, 3, before, channels)).astype('<f4')
        weights[f'c{place}/bias'] = rng.normal(0, 0.3, channels).astype('<f4')
        before = channels
    weights['out/kernel'] = rng.normal(0, 1, (1, 1, 1, channels, 3)).astype('<f4')
    weights['out/bias'] = rng.normal(0, 1, 3).astype('<f4')
    folder = tmp_path_factory.mktemp('net')
    spec = load_spec(write_tfjs(folder / 'net', [*layers, conv('out', 3, 1)], weights, size=256))
    assert spec.reach == (sum(dilations), 1)
    engine = kind(spec, threads=2)
    data = rng.integers(0, 256, shape).astype(np.uint8)
    whole, found = (np.zeros((*shape, 3), np.float32) for _ in range(2))
    engine.probabilities(data, whole)
    tiles = exact_tiles(shape, *spec.reach, numbers=numbers)
    labels = engine.segment(data, probabilities=found, tiles=tiles)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-4)
    clear = np.sort(whole, -1)[..., -1] - np.sort(whole, -1)[..., -2] > 1e-3
    np.testing.assert_array_equal(labels[clear], whole.argmax(-1)[clear])


def test_networks_that_stride_have_tiles_on_their_grid(shared: Path) -> None:
    """robust_tissue halves its grid and looks 167 voxels around itself, at most."""
    spec = load_spec(shared / 'models' / 'brainchop_pth' / 'robust_tissue')
    assert spec.reach is not None
    reach, stride = spec.reach
    assert stride == 2
    engine = OpenvinoEngine(spec, threads=2)
    data = np.random.default_rng(0).integers(0, 256, (24, 20, 420)).astype(np.uint8)
    whole, found = (np.zeros((*data.shape, 3), np.float32) for _ in range(2))
    engine.probabilities(data, whole)
    tiles = exact_tiles(data.shape, reach, stride, numbers=(1, 1, 4))
    assert max(tile.shape[2] for tile in tiles) < 420
    engine.probabilities(data, found, tiles=tiles)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-4)


def test_the_cheapest_tiles_that_fit() -> None:
    def fits(shape: tuple[int, ...]) -> bool:
        return bool(np.prod(shape) <= 150 * 256 * 256)

    tiles = fitting_tiles((256, 256, 256), 20, 1, fits)
    assert tiles is not None
    assert len(tiles) == 2
    assert fitting_tiles((256, 256, 256), 20, 1, lambda shape: False) is None


def test_what_no_tile_keeps_is_background(tmp_path: Path) -> None:
    spec = load_spec(two_layers(tmp_path / 'net'))
    data = np.random.default_rng(0).integers(1, 256, (12, 9, 10)).astype(np.uint8)
    box = (slice(2, 7), slice(0, 9), slice(3, 8))
    found = np.full((12, 9, 10, 3), np.nan, np.float32)
    labels = OpenvinoEngine(spec).segment(data, probabilities=found, tiles=[Tile(box, box)])
    outside = np.ones(data.shape, bool)
    outside[box] = False
    assert not labels[outside].any()
    assert (found[outside] == [1, 0, 0]).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
