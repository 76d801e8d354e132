"""Networks by name: the papers' numbers, and the same labels from the product's engines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from brainchop_bids.image.normalise import Normalization, normaliser
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.tiles import exact_tiles
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.keras_model import network_of
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.architectures import ARCHITECTURES, build_network, register
from brainchop_bids.training.losses.registry import LabelLoss
from brainchop_bids.training.options import NetworkOptions, Stage
from brainchop_bids.training.stages import build_stage, inherit_weights, trained_network
from tests.models.networks import randomised
from tests.models.test_keras_files import nobrainer_unet

UNET = NetworkOptions('unet', channels=2, levels=3)
VNET = NetworkOptions('vnet', channels=2, levels=2, activation='leaky_relu')
NOBRAINER = NetworkOptions('nobrainer_unet', channels=2, levels=2)

PLACES = NetworkOptions(channels=3, dilations=(1, 2), activation='elu', space_to_depth=2)
LIGHT = NetworkOptions('light_unet', widths=(3, 4), space_to_depth=2)


def built(network: NetworkOptions, norm: str = 'none', **more: Any) -> Any:
    return build_network(network, norm=norm, classes=3, **more)


def test_the_unet_has_the_papers_weights() -> None:
    """Çiçek et al. (2016), section 2: 19,069,955 parameters, of 3 channels and 3 labels."""
    model = built(NetworkOptions('unet', channels=32, levels=4), in_channels=3)
    assert model.count_params() == 19_069_955


def test_the_vnet_sees_as_far_as_the_papers() -> None:
    """Milletari et al. (2016), table 1: receptive fields behind the stages."""
    graph = network_of(built(NetworkOptions('vnet', channels=1, levels=5)))
    widths, fields, field, jump = [], [], 1, 1
    for op in graph.ops:
        if op.kind not in ('conv', 'conv_transpose') or op.name in ('encoder_0_project', 'output'):
            continue
        stride = op.settings['strides'][0]
        if stride > 1:
            fields.append(field)
        jump = jump // stride if op.kind == 'conv_transpose' else jump
        field += (op.kernel_size[0] - 1) * jump
        jump = jump * stride if op.kind == 'conv' else jump
        if op.name.endswith('_0') and op.kind == 'conv':
            widths.append(op.channels)
    assert [*fields, field] == [5, 22, 72, 172, 372, 476, 528, 546, 551]
    # 16, 32, 64, 128, 256 on the way down, and 256, 128, 64, 32 on the way up.
    assert widths == [1, 2, 4, 8, 16, 16, 8, 4, 2]


@pytest.mark.parametrize(
    ('norm', 'more'),
    # Batch normalisation has four numbers for each channel and takes the bias's place.
    [('none', 0), ('group', -(2 + 4 + 4 + 4 + 2 + 4)), ('batch', 3 * (2 + 4 + 4 + 4 + 2 + 4))],
)
def test_a_small_vnets_weights_by_hand(norm: str, more: int) -> None:
    encoder = 2 + (125 * 2 + 2) + (8 * 2 * 4 + 4) + 2 * (125 * 4 * 4 + 4)
    decoder = (8 * 4 * 2 + 2) + (125 * 4 * 4 + 4) + (4 * 3 + 3)
    assert built(VNET, norm).count_params() == encoder + decoder + more


def test_nobrainers_file_fits_layer_by_layer(tmp_path: Path) -> None:
    """Keras' own reader, by order alone, of what the same layers have written."""
    theirs = randomised(nobrainer_unet(4, 16))
    theirs.save(tmp_path / 'theirs.h5')
    ours = build_network(
        NetworkOptions('nobrainer_unet', channels=16, levels=4),
        norm='batch',
        classes=4,
        shape=(16,) * 3,
    )
    ours.load_weights(tmp_path / 'theirs.h5')
    volume = np.random.default_rng(0).random((1, 16, 16, 16, 1), np.float32)
    logits = np.asarray(ours(volume, training=False), np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(shares, theirs(volume, training=False), atol=1e-4)


def test_memory_of_a_unet_is_what_was_measured(tmp_path: Path) -> None:
    """Peak of OpenVINO's engine on 96^3, GB (2026.4, 2 threads)."""
    network = NetworkOptions('unet', channels=16, levels=4)
    graph = network_of(built(network))
    # The first level's features, those from below, and both joined.
    assert graph.held == 32 + 64 + 96
    save_tfjs(graph, tmp_path)
    measured = 1.08
    assert measured <= estimate_peak_gb(load_spec(tmp_path), (96,) * 3) <= 1.2 * measured


@pytest.mark.parametrize(
    ('network', 'whole', 'tile'),
    [
        (NetworkOptions(channels=32, space_to_depth=2), 0.595, 0.462),
        (NetworkOptions('light_unet', space_to_depth=2), 0.988, 0.701),
    ],
)
def test_memory_of_networks_on_places_is_what_was_measured(
    tmp_path: Path, network: NetworkOptions, whole: float, tile: float
) -> None:
    """Peak of OpenVINO's engine on 256^3 and 160 x 256 x 256, GB (2026.4, 2 threads)."""
    model = build_network(network, norm='none', classes=33)
    save_tfjs(replace(network_of(model), input_shape=(256,) * 3), tmp_path)
    spec = load_spec(tmp_path)
    assert whole <= estimate_peak_gb(spec, (256,) * 3) <= 1.15 * whole
    assert tile <= estimate_peak_gb(spec, (160, 256, 256)) <= 1.15 * tile


CASES = [
    (UNET, 'none', 1),
    (UNET, 'batch', 2),
    (UNET, 'group', 1),
    (NOBRAINER, 'batch', 1),
    (VNET, 'none', 2),
    (VNET, 'batch', 3),
    (VNET, 'group', 1),
    (NetworkOptions(channels=3, dilations=(1, 2), activation='elu'), 'batch', 2),
    (PLACES, 'batch', 1),
    (LIGHT, 'batch', 2),
    (LIGHT, 'group', 1),
]


def exported(model: Any, network: NetworkOptions, channels: int, folder: Path) -> ModelSpec:
    graph = trained_network(network, Stage(), model)
    assert not any(op.kind == 'batch_norm' for op in graph.ops)
    folder.mkdir()
    save_tfjs(graph, folder)
    inputs = ['T1w', 'T2w', 'FLAIR'][:channels]
    facts = {'normalization': 'minmax', 'inputs': inputs}
    (folder / 'brainchop.json').write_text(json.dumps(facts))
    spec = load_spec(folder)
    assert (spec.classes, spec.in_channels, spec.block) == (3, channels, None)
    return spec


@pytest.mark.parametrize(('network', 'norm', 'channels'), CASES)
def test_engines_label_as_keras_does(
    tmp_path: Path, network: NetworkOptions, norm: str, channels: int
) -> None:
    """Built, trained (so to say), folded, written and run; whole and in tiles.

    A side that cannot be halved as often as the network does goes on with zeros.
    """
    model = randomised(
        built(replace(network, dropout=0.2), norm, in_channels=channels, shape=(8,) * 3)
    )
    shape = (55, 16, 24)
    data = np.random.default_rng(1).integers(0, 256, (*shape, channels)).astype(np.uint8)
    rule = Normalization.parse('minmax')
    planes = [data[..., i] for i in range(channels)]
    image = np.stack([normaliser(plane, rule)(plane) for plane in planes], -1)
    if network.architecture != 'meshnet' or network.space_to_depth > 1:
        image = np.pad(image, ((0, 1), (0, 0), (0, 0), (0, 0)))
    whole = built(network, norm, in_channels=channels)
    for layer in whole.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    # Every class somewhere.
    shift = np.median(whole.predict(image[None], verbose=0), (0, 1, 2, 3))
    for head in (model.get_layer('output'), whole.get_layer('output')):
        head.bias.assign_sub(shift)
    expected = whole.predict(image[None], verbose=0)[0, : shape[0]]
    best = np.sort(expected, -1)
    sure = best[..., -1] - best[..., -2] > 1e-3
    assert sure.mean() > 0.95
    assert len(np.unique(expected.argmax(-1))) == 3
    spec = exported(model, network, channels, tmp_path / 'made')
    for kind in (OpenvinoEngine, KerasEngine):
        engine = kind(spec, threads=2)
        given = data if channels > 1 else data[..., 0]
        np.testing.assert_allclose(engine.logits(given), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(engine.segment(given)[sure], expected.argmax(-1)[sure])
        if spec.reach is None:
            assert norm == 'group'
            continue
        tiles = exact_tiles(shape, *spec.reach, numbers=(3, 1, 2))
        assert min(tile.shape[0] for tile in tiles) < shape[0]
        found = engine.segment(given, tiles=tiles)
        np.testing.assert_array_equal(found[sure], expected.argmax(-1)[sure])


@pytest.mark.parametrize(('network', 'norm'), [(UNET, 'none'), (VNET, 'none'), (VNET, 'group')])
def test_they_learn(network: NetworkOptions, norm: str) -> None:
    """Bright blocks on a dark ground, from the start that a builder gives."""
    keras.utils.set_random_seed(0)
    model = build_stage(replace(network, channels=8, levels=2), Stage(cube=8, norm=norm), 2)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (4, 2, 2, 2)).repeat(4, 1).repeat(4, 2).repeat(4, 3)
    image = (labels + rng.normal(0, 0.1, labels.shape)).astype(np.float32)[..., None]
    model.compile(keras.optimizers.Adam(0.01), LabelLoss('cross_entropy'))
    course = model.fit(image, labels, epochs=20, batch_size=2, verbose=0).history['loss']
    assert course[-1] < 0.3 * np.log(2)


@pytest.mark.parametrize('network', [UNET, VNET, NOBRAINER])
def test_batch_normalisation_is_folded_on_the_way(network: NetworkOptions) -> None:
    normed = randomised(build_stage(network, Stage(cube=8, norm='batch'), 3, 2))
    plain = build_stage(network, Stage(cube=16), 3, 2)
    inherit_weights(normed, plain)
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 8, 2)).astype(np.float32)
    again = build_stage(network, Stage(cube=8), 3, 2)
    inherit_weights(plain, again)
    np.testing.assert_allclose(again(image), normed(image, training=False), rtol=1e-4, atol=1e-4)
    with pytest.raises(SettingsError, match='cannot take over'):
        inherit_weights(plain, normed)
    deeper = build_stage(replace(network, levels=4), Stage(cube=8), 3, 2)
    with pytest.raises(SettingsError, match='cannot take over'):
        inherit_weights(plain, deeper)


OWN = """
import keras

def small(network, *, norm, classes, in_channels, shape):
    inputs = keras.Input((*shape, in_channels))
    x = keras.layers.Conv3D(network.channels, 3, padding='same')(inputs)
    if norm == 'batch':
        x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation(network.activation)(x)
    return keras.Model(inputs, keras.layers.Conv3D(classes, 1)(x))

def shrinking(network, *, norm, classes, in_channels, shape):
    inputs = keras.Input((*shape, in_channels))
    return keras.Model(inputs, keras.layers.Conv3D(classes, 3)(inputs))

def closed(network, *, norm, classes, in_channels, shape):
    inputs = keras.Input((*shape, in_channels))
    return keras.Model(inputs, keras.layers.Conv3D(classes, 1, activation='softmax')(inputs))

def odd(network, *, norm, classes, in_channels, shape):
    inputs = keras.Input((*shape, in_channels))
    x = keras.layers.GaussianNoise(0.1)(keras.layers.UnitNormalization()(inputs))
    return keras.Model(inputs, keras.layers.Conv3D(classes, 1)(x))

def nothing(network, **settings):
    pass

def failing(network, **settings):
    raise KeyError('no such thing')

value = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / 'own_network.py'
    path.write_text(OWN)
    return str(path)


def test_a_users_own_network(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = NetworkOptions(f'{own}:small', channels=4)
    first = randomised(build_stage(network, Stage(cube=8, norm='batch'), 3, 2))
    second = build_stage(network, Stage(cube=8), 3, 2)
    # Its layers have names that Keras counts on; they are matched all the same.
    assert first.layers[1].name != second.layers[1].name
    inherit_weights(first, second)
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 8, 2)).astype(np.float32)
    np.testing.assert_allclose(second(image), first(image, training=False), atol=1e-5)
    monkeypatch.syspath_prepend(tmp_path)
    named = build_stage(replace(network, architecture='own_network:small'), Stage(cube=8), 3, 2)
    assert named.count_params() == second.count_params()


@pytest.mark.parametrize(
    ('function', 'said'),
    [
        ('smal', 'has no such function; did you mean small?'),
        ('value', 'has no such function'),
        ('shrinking', 'its output has the shape (None, 6, 6, 6, 3); expected (None, 8, 8, 8, 3)'),
        ('closed', 'ends with softmax; expected logits'),
        ('odd', 'could not be used after training'),
        ('nothing', 'returns a NoneType'),
        ('failing', "its function failed (KeyError: 'no such thing')"),
    ],
)
def test_a_users_network_that_is_none(own: str, function: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_stage(NetworkOptions(f'{own}:{function}'), Stage(cube=8), 3)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f'model.architecture {own}:{function}')


def test_code_that_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / 'broken.py'
    for text, said in {
        'import nowhere_at_all': 'ModuleNotFoundError',
        'def f(:': 'SyntaxError',
        'raise SystemExit(3)': 'SystemExit: 3',
    }.items():
        path.write_text(text)
        with pytest.raises(SettingsError, match=said):
            build_stage(NetworkOptions(f'{path}:f'), Stage(cube=8), 3)
        path.unlink()
    for name, said in {
        f'{path}:f': 'there is no file',
        'nowhere_at_all:f': 'cannot be imported',
        'u_net': 'did you mean unet?',
        'transformer': 'or path/to/file.py:function',
    }.items():
        with pytest.raises(SettingsError, match=said):
            build_stage(NetworkOptions(name), Stage(cube=8), 3)


def test_names_are_given_once() -> None:
    with pytest.raises(SettingsError, match='cannot be registered'):
        register('unet')(lambda *args, **settings: None)
    with pytest.raises(SettingsError, match='cannot be registered'):
        register('a:b')(lambda *args, **settings: None)
    known = ['meshnet', 'light_unet', 'locator', 'unet', 'nobrainer_unet', 'vnet']
    assert list(ARCHITECTURES) == known


@pytest.mark.parametrize(
    ('network', 'stage', 'said'),
    [
        (
            UNET,
            Stage(cube=18),
            'stages.cube is 18;.*levels = 3 needs a multiple of 4, such as 16 or 20',
        ),
        (
            replace(VNET, levels=5),
            Stage(cube=8),
            'levels = 5 needs a multiple of 16, such as 16 or 32',
        ),
        (UNET, Stage(cube=16, stride=2), 'stride 2 are for meshnet alone'),
        (replace(UNET, levels=0), Stage(), 'model.levels is 0'),
        (replace(VNET, channels=0), Stage(), 'model.channels is 0'),
        (replace(VNET, dropout=1.0), Stage(), 'model.dropout is 1.0'),
        (replace(UNET, activation='prelu'), Stage(), "model.activation is 'prelu'"),
        (UNET, Stage(norm='layer'), "stages.norm is 'layer'"),
    ],
)
def test_what_cannot_be_built(network: NetworkOptions, stage: Stage, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        build_stage(network, stage, 3)


def test_a_strided_meshnet_ends_whole() -> None:
    network = NetworkOptions(channels=2, dilations=(1, 2, 1))
    stage = Stage(cube=8, stride=2)
    model = randomised(build_stage(network, stage, 3))
    convolutions = [op for op in trained_network(network, stage, model).ops if op.weights]
    assert [op.settings['dilation'][0] for op in convolutions] == [1, 2, 1, 1]
