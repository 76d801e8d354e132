"""Transfer learning: what is reused computes as before, and what is frozen stays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from brainchop_bids.models.formats import read_network
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.keras_model import build_model, network_of
from brainchop_bids.models.zoo import find_model
from brainchop_bids.system.errors import ModelError, SettingsError
from brainchop_bids.training.architectures import build_network
from brainchop_bids.training.losses.registry import LabelLoss
from brainchop_bids.training.optimizers import apply_average, build_optimizer
from brainchop_bids.training.options import (
    DataOptions,
    InitOptions,
    NetworkOptions,
    OptimizerOptions,
)
from brainchop_bids.training.transfer import (
    LayerTransfer,
    compatibility_warnings,
    freeze,
    load_pretrained,
    transfer_table,
)
from tests.models.networks import randomised
from tests.models.test_keras_files import nobrainer_unet

CLASSIC = (1, 2, 4, 8, 16, 8, 4, 2, 1)
TISSUE = NetworkOptions(channels=16, dilations=CLASSIC[:-1])
SHAPE = (8, 8, 8)


def built(
    network: NetworkOptions, classes: int = 3, norm: str = 'none', in_channels: int = 1
) -> Any:
    return build_network(network, norm=norm, classes=classes, in_channels=in_channels, shape=SHAPE)


def written(folder: Path, model: Any) -> str:
    folder.mkdir(exist_ok=True)
    model.save(folder / 'model.keras')
    return str(folder)


def image(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(5).random((1, *SHAPE, channels), np.float32)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def states(rows: list[LayerTransfer]) -> list[str]:
    return [row.state for row in rows]


def test_tissue_with_two_classes() -> None:
    theirs = build_model(read_network(find_model('tissue'))[0], SHAPE)
    ours = built(TISSUE, classes=2)
    fresh = ours.layers[-1].get_weights()
    rows = load_pretrained(ours, InitOptions('tissue', ('conv3d_[0-3]',)))
    assert states(rows) == ['reused'] * 8 + ['new']
    assert [row.frozen for row in rows] == [True] * 4 + [False] * 5
    assert sum(row.weights for row in rows) == ours.count_params()
    assert rows[-1].source == 'other classes'
    trunks = [keras.Model(model.inputs[0], model.layers[-2].output) for model in (ours, theirs)]
    assert trunks[0].output.shape[-1] == 16
    close(*(trunk(image()) for trunk in trunks))
    for values, before in zip(ours.layers[-1].get_weights(), fresh, strict=True):
        np.testing.assert_array_equal(values, before)


def test_a_second_channel_changes_nothing_at_first() -> None:
    theirs = build_model(read_network(find_model('tissue'))[0], SHAPE)
    ours = built(TISSUE, classes=4, in_channels=2)
    rows = load_pretrained(ours, InitOptions('tissue'))
    assert states(rows) == ['in part', *['reused'] * 8]
    volume = image(2)
    close(ours(volume), theirs(volume[..., :1]))


def moved_by_a_step(model: Any, volume: np.ndarray) -> dict[str, np.ndarray]:
    """Train for a step with decay and averages; return which values of each variable moved."""
    options = OptimizerOptions(name='adamw', weight_decay=0.1, ema=0.9)
    model.compile(build_optimizer(options, 0.01, 4), LabelLoss('cross_entropy'))
    before = {variable.path: np.array(variable) for variable in model.weights}
    labels = (volume[..., 0] > 0.5).astype(np.uint8)
    model.fit(volume, labels, epochs=2, verbose=0)
    apply_average(model)
    return {path.path: before[path.path] != np.array(path) for path in model.weights}


def test_a_second_channel_is_learnt_by_a_frozen_layer() -> None:
    """The docs' example: old weights of frozen layers stay to the bit, and all new ones move."""
    ours = built(TISSUE, classes=4, in_channels=2)
    rows = load_pretrained(ours, InitOptions('tissue', ('0-5',)))
    assert [row.training for row in rows] == ['new part', *['frozen'] * 5, *['trained'] * 3]
    moved = moved_by_a_step(ours, image(2))
    kernel = moved['conv3d_0/kernel']
    assert kernel[:, :, :, 1].mean() > 0.9
    assert not kernel[:, :, :, 0].any()
    names = {path.split('/')[0] for path, changed in moved.items() if changed.any()}
    assert names == {'conv3d_0', 'conv3d_6', 'conv3d_7', 'output'}
    assert not moved['conv3d_0/bias'].any()


@pytest.mark.parametrize('norm', ['none', 'batch'])
def test_new_parts_of_frozen_layers_are_learnt(tmp_path: Path, norm: str) -> None:
    """A wider and deeper network, all frozen but the head: what is not the model's moves."""
    narrow = randomised(built(NetworkOptions(channels=3, dilations=(1, 2)), norm=norm))
    init = InitOptions(written(tmp_path / 'm', narrow), ('0-3',), allow_partial=True)
    wide = built(NetworkOptions(channels=5, dilations=(1, 2, 3, 1)), norm=norm)
    rows = {row.layer: row for row in load_pretrained(wide, init)}
    # Batch normalisation takes the place of a bias.
    assert rows['conv3d_1'].reused == 27 * 9 + (3 if norm == 'none' else 0)
    assert [rows[f'conv3d_{i}'].training for i in range(4)] == [
        *['new part'] * 2,
        *['trained'] * 2,
    ]
    moved = moved_by_a_step(wide, image())
    kernel = moved['conv3d_1/kernel']
    assert not kernel[..., :3, :3].any()
    assert kernel.sum() > 0.5 * 27 * (25 - 9)
    if norm == 'none':
        assert not moved['conv3d_1/bias'][:3].any()
        assert moved['conv3d_1/bias'][3:].any()
    assert moved['conv3d_2/kernel'].mean() > 0.5
    if norm == 'batch':
        assert not any(changed.any() for path, changed in moved.items() if 'norm_1' in path)


def test_mostly_new_networks_are_refused(tmp_path: Path) -> None:
    """Of 16 channels, 8 give a quarter of the products of a kernel."""
    half = randomised(built(replace(TISSUE, channels=8)))
    folder = written(tmp_path / 'm', half)
    with pytest.raises(SettingsError, match=r'only [\d,]+ of the [\d,]+ weights .*2\d %.*partial'):
        load_pretrained(built(TISSUE), InitOptions(folder))
    rows = load_pretrained(built(TISSUE), InitOptions(folder, allow_partial=True))
    assert 0.2 < sum(row.reused for row in rows) / sum(row.weights for row in rows) < 0.3


def test_networks_much_narrower_than_the_model_are_refused() -> None:
    """Each of their weights is the model's, but sums over 9 of 16 channels are other sums."""
    narrow = replace(TISSUE, channels=9)
    said = r'layers are wider .* only [\d,]+ of their [\d,]+ weights \(3\d %\).*--allow-partial'
    with pytest.raises(SettingsError, match=said):
        load_pretrained(built(narrow), InitOptions('tissue'))
    rows = load_pretrained(built(narrow), InitOptions('tissue', allow_partial=True))
    assert set(states(rows)) == {'in part', 'new'}
    assert rows[1].left_out == 27 * (16**2 - 9**2)
    assert f'left out: {sum(row.left_out for row in rows):,} weights' in transfer_table(rows)
    # Three quarters of the channels have more than half of the weights.
    rows = load_pretrained(built(replace(TISSUE, channels=12)), InitOptions('tissue', ('0-3',)))
    assert {row.training for row in rows if row.frozen} == {'frozen'}


def test_a_new_head_though_the_old_one_fits() -> None:
    ours = built(TISSUE, classes=4)
    fresh = ours.get_layer('output').get_weights()
    rows = load_pretrained(ours, InitOptions('tissue', new_head=True))
    assert (rows[-1].state, rows[-1].source) == ('new', 'new head')
    np.testing.assert_array_equal(ours.get_layer('output').get_weights()[0], fresh[0])


@pytest.mark.parametrize('name', ['brainchop/model5_gw_ae', 'brainchop_pth/mindgrab'])
def test_upstreams_models(shared: Path, name: str) -> None:
    folder = shared / 'models' / name
    network = NetworkOptions(channels=5, dilations=CLASSIC)
    norm = 'none'
    if 'mindgrab' in name:
        network = NetworkOptions(
            channels=15, dilations=(16, 8, 4, 2, 1) * 5, activation='gelu_tanh'
        )
        norm = 'group'
        with pytest.raises(SettingsError, match=r'normalises each channel.* set norm = .group'):
            load_pretrained(built(network, classes=2), InitOptions(str(folder)))
    source = read_network(folder)[0]
    ours = built(network, source.classes, norm)
    rows = load_pretrained(ours, InitOptions(str(folder)))
    assert set(states(rows)) == {'reused'}
    close(ours(image()), build_model(source, SHAPE)(image()))


@pytest.mark.parametrize(
    'network',
    [
        NetworkOptions('unet', channels=2, levels=3),
        NetworkOptions('vnet', channels=2, levels=2),
        NetworkOptions(channels=3, dilations=(1, 2, 1)),
    ],
)
def test_the_common_part_of_a_wider_network(tmp_path: Path, network: NetworkOptions) -> None:
    """Where all that is new is zero, a wider network computes what the narrow one did.

    Channels that enter a level's way up must therefore be those of the same volumes.
    """
    narrow = randomised(built(network))
    wide = built(replace(network, channels=2 * network.channels), in_channels=2)
    for variable in wide.weights:
        variable.assign(keras.ops.zeros_like(variable))
    init = InitOptions(written(tmp_path / 'narrow', narrow), allow_partial=True)
    rows = load_pretrained(wide, init)
    assert set(states(rows)) == {'in part'}
    volume = image(2)
    close(wide(volume), narrow(volume[..., :1]))
    fresh = built(replace(network, channels=2 * network.channels))
    name = rows[1].layer
    before = np.asarray(fresh.get_layer(name).kernel)
    load_pretrained(fresh, init)
    after, n = np.asarray(fresh.get_layer(name).kernel), network.channels
    if network.architecture == 'meshnet':
        np.testing.assert_allclose(after[..., n:, :n], before[..., n:, :n] * 0.1, rtol=1e-5)
        np.testing.assert_array_equal(after[..., n:], before[..., n:])


def test_another_depth(tmp_path: Path) -> None:
    """Levels that both have are found again, on the way down and on the way up."""
    three = randomised(built(NetworkOptions('unet', channels=2, levels=3)))
    four = built(NetworkOptions('unet', channels=2, levels=4))
    rows = {
        row.layer: row
        for row in load_pretrained(
            four, InitOptions(written(tmp_path / 'm', three), allow_partial=True)
        )
    }
    new = [name for name, row in rows.items() if row.state == 'new']
    assert sorted(new) == [
        'decoder_2_conv3d_0', 'decoder_2_conv3d_1', 'decoder_2_conv3d_transpose',
        'encoder_3_conv3d_0', 'encoder_3_conv3d_1',
    ]  # fmt: skip
    assert all(row.source == name for name, row in rows.items() if name not in new)


@pytest.mark.parametrize(('theirs', 'ours'), [('batch', 'none'), ('batch', 'batch')])
def test_batch_normalisation(tmp_path: Path, theirs: str, ours: str) -> None:
    source = randomised(built(TISSUE_LIKE, norm=theirs))
    folder = written(tmp_path / 'm', source)
    model = built(TISSUE_LIKE, norm=ours)
    rows = load_pretrained(model, InitOptions(folder))
    assert set(states(rows)) == {'reused'}
    close(model(image(), training=False), source(image(), training=False))


TISSUE_LIKE = NetworkOptions(channels=3, dilations=(1, 2))


def test_batch_normalisation_that_the_source_has_not(tmp_path: Path) -> None:
    source = randomised(built(TISSUE_LIKE))
    model = built(TISSUE_LIKE, norm='batch')
    rows = load_pretrained(model, InitOptions(written(tmp_path / 'm', source)))
    assert states(rows) == ['reused', 'in part', 'reused', 'in part', 'reused']
    close(model(image(), training=False), source(image()))


def test_other_dilations_are_not_reused(tmp_path: Path) -> None:
    source = randomised(built(NetworkOptions(channels=3, dilations=(1, 2, 4))))
    folder = written(tmp_path / 'm', source)
    model = built(NetworkOptions(channels=3, dilations=(1, 3, 4)))
    rows = load_pretrained(model, InitOptions(folder))
    assert states(rows) == ['reused', 'new', 'reused', 'reused']
    assert rows[1].source == 'dilation 3, trained at 2'
    with pytest.raises(SettingsError, match=r'none of its convolutions .*dilations 1-2-4-1'):
        load_pretrained(built(NetworkOptions(channels=3, dilations=(3, 3))), InitOptions(folder))


def test_nobrainers_unet_is_fine_tuned(tmp_path: Path) -> None:
    """An .h5 of its layers loads, freezes and learns, and nothing frozen moves."""
    theirs = randomised(nobrainer_unet(4, 8))
    folder = tmp_path / 'nobrainer'
    folder.mkdir()
    theirs.save(folder / 'model.h5')
    network = NetworkOptions('nobrainer_unet', channels=16, levels=4)
    same = built(network, 4, 'batch')
    assert set(states(load_pretrained(same, InitOptions(str(folder))))) == {'reused'}
    logits = np.asarray(same(image(), training=False), np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    close(shares / shares.sum(-1, keepdims=True), theirs(image(), training=False))

    model = built(network, 2, 'batch')
    rows = load_pretrained(model, InitOptions(str(folder), ('encoder_*',)))
    assert rows[-1].state == 'new'
    before = {v.path: np.array(v) for v in model.weights}
    model.compile(keras.optimizers.SGD(0.1), LabelLoss('cross_entropy'))
    labels = (image()[..., 0] > 0.5).astype(np.uint8)
    model.fit(image(), labels, verbose=0)
    moved = {v.path for v in model.weights if not np.array_equal(before[v.path], v)}
    frozen = {row.layer for row in rows if row.frozen}
    assert len(frozen) == 16
    assert not {path.split('/')[0] for path in moved} & frozen
    open_ = {row.layer for row in rows if not row.frozen}
    assert {path.split('/')[0] for path in moved} == open_


def test_what_is_frozen() -> None:
    model = built(TISSUE_LIKE, norm='batch')
    assert freeze(model, ()) == []
    # A convolution's normalisation goes with it.
    assert freeze(model, ('0',)) == ['conv3d_0', 'norm_0']
    assert freeze(built(TISSUE_LIKE, norm='batch'), ('1-2', 'norm_0')) == [
        'norm_0', 'conv3d_1', 'norm_1', 'output',
    ]  # fmt: skip
    for pattern in ('conv_*', '7', 'activation_0'):
        with pytest.raises(SettingsError, match='fits no layer; there are conv3d_0, norm_0'):
            freeze(built(TISSUE_LIKE, norm='batch'), (pattern,))
    with pytest.raises(SettingsError, match=r'nothing to train; leave out .* output'):
        freeze(built(TISSUE_LIKE), ('*',))


def test_what_cannot_be_begun(tmp_path: Path) -> None:
    model = built(TISSUE_LIKE)
    with pytest.raises(SettingsError, match=r'init\.model is empty'):
        load_pretrained(model, InitOptions())
    with pytest.raises(ModelError, match='no such model folder'):
        load_pretrained(model, InitOptions('tisue'))
    from brainchop_bids.training.options import Stage
    from brainchop_bids.training.stages import build_stage

    with pytest.raises(SettingsError, match='set stride = 1'):
        load_pretrained(build_stage(TISSUE, Stage(cube=8, stride=2), 4), InitOptions('tissue'))


def test_differences_are_said(tmp_path: Path) -> None:
    assert compatibility_warnings(built(TISSUE), InitOptions('tissue'), DataOptions()) == []
    said = compatibility_warnings(
        built(replace(TISSUE, activation='elu')),
        InitOptions('tissue'),
        DataOptions(channels=('T2w', 'T1w'), normalization='zscore'),
    )
    assert len(said) == 3
    assert 'quantile:0.02:0.98, data.normalization is zscore' in said[0]
    assert 'trained on T1w' in said[1]
    assert 'activation is relu, that of the network elu' in said[2]


def test_the_table_adds_up(tmp_path: Path) -> None:
    source = randomised(built(TISSUE_LIKE))
    folder = tmp_path / 'm'
    folder.mkdir()
    save_tfjs(network_of(source), folder)
    rows = load_pretrained(
        built(TISSUE_LIKE, classes=5, in_channels=2), InitOptions(str(folder), ('0',))
    )
    assert transfer_table(rows).splitlines() == [
        'layer     shape      weights  state    training  from',
        'conv3d_0  3x3x3x2x3      165  in part  new part  conv3d_0',
        'conv3d_1  3x3x3x3x3      246  reused   trained   conv3d_1',
        'output    1x1x1x3x5       20  new      trained   (other classes)',
        '431 weights: 165 in layers in part, 246 in layers reused, 20 in layers new; '
        '330 reused (77 %), 84 frozen',
        "new part: only weights that are the model's are frozen, new ones are trained",
    ]
