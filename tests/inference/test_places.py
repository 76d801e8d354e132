"""Networks that compute on places of 2x2x2 voxels: the same labels, whatever runs them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.selftest import self_test
from brainchop_bids.inference.tiles import Box, Tile, exact_tiles, full
from brainchop_bids.models.formats.tfjs import read_tfjs, save_tfjs
from brainchop_bids.models.levels import finest_level
from brainchop_bids.models.network import fold_batchnorm
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.models.networks import randomised

load_tensorflow(2)

from brainchop_bids.models.keras_model import network_of  # noqa: E402
from brainchop_bids.models.meshnet import build_meshnet  # noqa: E402
from brainchop_bids.models.unet import build_light_unet  # noqa: E402

CLASSES = 33
SHAPE = (37, 30, 41)


def meshnet(**more: Any) -> Any:
    return build_meshnet(channels=6, dilations=(1, 2, 1), classes=CLASSES, factor=2, **more)


def unet(**more: Any) -> Any:
    return build_light_unet(classes=CLASSES, widths=(4, 6, 8), features=8, **more)


def unet_of_voxels(**more: Any) -> Any:
    return build_light_unet(classes=CLASSES, widths=(4, 6), features=5, factor=1, **more)


MODELS: dict[str, Callable[..., Any]] = {
    'meshnet': meshnet,
    'unet': unet,
    'unet of voxels': unet_of_voxels,
}
ENGINES: dict[str, Callable[[ModelSpec], Any]] = {
    'openvino': lambda spec: OpenvinoEngine(spec, threads=2),
    'tensorflow': lambda spec: KerasEngine(spec, threads=2),
    'one graph': lambda spec: KerasEngine(spec, threads=2, stream=False),
}


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, ModelSpec]]:
    """Return what gives a Keras model, and its folder's facts, by name."""

    @cache
    def make(name: str) -> tuple[Any, ModelSpec]:
        model = randomised(MODELS[name](norm='batch'))
        # Every class somewhere.
        logits = by_keras(model, scan((32, 32, 32)), 1)
        model.get_layer('output').bias.assign_sub(np.median(logits, (0, 1, 2)))
        folder = tmp_path_factory.mktemp('places') / 'net'
        folder.mkdir()
        network = fold_batchnorm(network_of(model))
        save_tfjs(replace(network, input_shape=(256, 256, 256)), folder)
        return model, load_spec(folder)

    return make


def scan(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def by_keras(model: Any, data: np.ndarray, unit: int) -> np.ndarray:
    """Return the logits of the model as it was built, of a volume with zeros behind its end."""
    volume = normalise(data, Normalization())
    given = np.pad(volume, [(0, -n % unit) for n in volume.shape])
    x, y, z = full(volume.shape)
    logits: np.ndarray = model(given[None, ..., None], training=False)[0].numpy()[x, y, z]
    return logits


def sure(logits: np.ndarray) -> np.ndarray:
    best = np.sort(logits, -1)
    clear: np.ndarray = best[..., -1] - best[..., -2] > 1e-4
    assert clear.mean() > 0.9
    return clear


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('name', MODELS)
def test_engines_label_as_keras_does(made: Any, name: str, engine: str) -> None:
    model, spec = made(name)
    data = scan(SHAPE)
    expected = by_keras(model, data, spec.reach[1])
    machine = ENGINES[engine](spec)
    np.testing.assert_allclose(machine.logits(data), expected, rtol=1e-4, atol=1e-4)
    found = np.zeros((*SHAPE, CLASSES), np.float32)
    labels = machine.segment(data, probabilities=found)
    shares = np.exp(expected - expected.max(-1, keepdims=True))
    np.testing.assert_allclose(found, shares / shares.sum(-1, keepdims=True), atol=1e-4)
    clear = sure(expected)
    np.testing.assert_array_equal(labels[clear], expected.argmax(-1)[clear])
    assert len(np.unique(labels)) > 9


sides = st.tuples(*[st.tuples(st.integers(0, 40), st.integers(1, 41))] * 3)


def box_of(parts: tuple[tuple[int, int], ...], shape: Sequence[int]) -> Box:
    starts = [min(first, n - 1) for (first, _), n in zip(parts, shape, strict=True)]
    x, y, z = (
        slice(start, min(n, start + length))
        for start, (_, length), n in zip(starts, parts, shape, strict=True)
    )
    return x, y, z


@pytest.mark.parametrize(
    ('name', 'engine'),
    [
        ('meshnet', 'openvino'),
        ('meshnet', 'tensorflow'),
        ('unet', 'openvino'),
        # Minutes, since TensorFlow traces the graph of each shape.
        pytest.param('unet', 'tensorflow', marks=pytest.mark.slow),
    ],
)
@settings(max_examples=6)
@given(
    shape=st.tuples(*[st.integers(1, 41)] * 3),
    numbers=st.tuples(*[st.integers(1, 3)] * 3),
    parts=sides,
    once=st.booleans(),
)
def test_parts_are_cut_from_the_whole(
    made: Any,
    name: str,
    engine: str,
    shape: tuple[int, int, int],
    numbers: tuple[int, int, int],
    parts: tuple[tuple[int, int], ...],
    once: bool,
) -> None:
    """Boxes that begin and end anywhere: kept of the whole at once, or of tiles."""
    _, spec = made(name)
    machine = ENGINES[engine](spec)
    data, box = scan(shape), box_of(parts, shape)
    whole, found = (np.zeros((*shape, CLASSES), np.float32) for _ in range(2))
    expected = machine.segment(data, probabilities=whole)
    tiles = [Tile(full(shape), box)]
    if not once:
        tiles = exact_tiles(shape, *spec.reach, box=box, numbers=numbers)
    labels = machine.segment(data, probabilities=found, tiles=tiles)
    np.testing.assert_allclose(found[box], whole[box], rtol=0, atol=1e-5)
    best = np.sort(whole[box], -1)
    clear = best[..., -1] - best[..., -2] > 1e-5
    np.testing.assert_array_equal(labels[box][clear], expected[box][clear])
    outside = np.ones(shape, bool)
    outside[box] = False
    assert not labels[outside].any()


@pytest.mark.parametrize('name', MODELS)
def test_the_reach_is_right_and_tight(name: str) -> None:
    """A voxel among zeros, and no cancellation: what it changes is what depends on it."""
    model = MODELS[name](activation='linear')
    for variable in model.weights:
        fill = np.zeros if variable.name == 'bias' else np.ones
        gather = variable.path.startswith('space_to_depth')
        variable.assign(variable if gather else fill(variable.shape) / variable.shape[-1])
    network = network_of(model)
    assert network.reach is not None
    reach, stride = network.reach
    length = -(-(2 * reach + 2) // stride + 1) * stride
    places = range(reach, reach + stride)
    volumes = np.zeros((stride, length, stride, stride, 1), np.float32)
    for i, place in enumerate(places):
        volumes[i, place] = 1
    changed = model.predict(volumes, verbose=0).any((2, 3, 4))
    farthest = [
        np.abs(np.flatnonzero(row) - place).max()
        for row, place in zip(changed, places, strict=True)
    ]
    assert max(farthest) == reach


@pytest.mark.parametrize('engine', ENGINES)
def test_a_first_layer_that_mixes_its_voxels(tmp_path: Path, engine: str) -> None:
    """Of the same form, but no mere regrouping."""
    model = randomised(meshnet())
    layer = model.get_layer('space_to_depth')
    layer.set_weights([np.random.default_rng(1).normal(0, 0.5, layer.kernel.shape)])
    save_tfjs(replace(network_of(model), input_shape=(256, 256, 256)), tmp_path)
    spec = load_spec(tmp_path)
    assert spec.chain
    data = scan((21, 18, 23))
    found = ENGINES[engine](spec).logits(data)
    np.testing.assert_allclose(found, by_keras(model, data, 2), rtol=1e-4, atol=1e-4)


def test_they_verify(made: Any, tmp_path: Path) -> None:
    """Against plain NumPy, in double precision; the deepest one as it is trained."""
    assert self_test(made('meshnet')[1]) < 1e-4
    model = randomised(build_light_unet(classes=CLASSES))
    save_tfjs(replace(network_of(model), input_shape=(256, 256, 256)), tmp_path, 'float16')
    spec = load_spec(tmp_path)
    assert spec.reach == (89, 16)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5_000_000
    assert self_test(spec) < 1e-4


def test_what_goes_by_slabs(made: Any) -> None:
    chain, level = made('meshnet')[1], made('unet')[1]
    assert chain.chain
    # The regrouped input is wider than the layers.
    assert chain.slabs == 1
    assert not level.chain
    # The skip connection, what is added to it, and the sum.
    assert level.slabs == 3 * 4 / 8
    assert finest_level(read_tfjs(chain.folder)) is None


def test_weights_in_float16(tmp_path: Path) -> None:
    network = fold_batchnorm(network_of(randomised(unet(norm='batch'))))
    both = [tmp_path / 'half', tmp_path / 'whole']
    for folder, dtype in zip(both, ('float16', 'float32'), strict=True):
        folder.mkdir()
        save_tfjs(network, folder, dtype)
    half, whole = map(read_tfjs, both)
    sizes = [half.files[1].stat().st_size, whole.files[1].stat().st_size]
    assert 2 * sizes[0] == sizes[1]
    for op, other in zip(half.ops, whole.ops, strict=True):
        assert (op.kind, op.settings) == (other.kind, other.settings)
        for key, values in op.weights.items():
            expected = other.weights[key].astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(values, expected)
    assert half.weights_sha256() != whole.weights_sha256() == network.weights_sha256()
    # What is read is what is stored: the model is the one with rounded weights.
    save_tfjs(half, both[1])
    assert read_tfjs(both[1]).weights_sha256() == half.weights_sha256()
    large = replace(network.ops[-1], weights={**network.ops[-1].weights, 'bias': np.full(33, 7e4)})
    with pytest.raises(ModelError, match=r'output/bias is too large for float16'):
        save_tfjs(replace(network, ops=(*network.ops[:-1], large)), both[0], 'float16')
