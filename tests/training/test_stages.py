"""Stages: half the voxels give the same numbers, and nothing learnt is lost between stages."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.models.keras_model import build_model
from brainchop_bids.models.meshnet import NearIdentity
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.data.loader import subsample
from brainchop_bids.training.options import NetworkOptions, Stage
from brainchop_bids.training.stages import (
    build_stage,
    inherit_weights,
    strided_dilations,
    trained_network,
)


def randomised(model: keras.Model, seed: int) -> keras.Model:
    """Give every variable random values, variances positive ones."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.normal(0, 0.3, variable.shape)
        variable.assign(np.abs(values) + 0.5 if 'variance' in variable.path else values)
    return model


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from([2, 4, 6]), min_size=0, max_size=3),
    st.integers(0, 2),
    st.integers(0, 1000),
)
def test_every_second_voxel_has_the_numbers_of_the_whole(
    middle: list[int], tail: int, seed: int
) -> None:
    network = NetworkOptions(channels=3, dilations=(1, *middle, *[1] * tail))
    half = randomised(build_stage(network, Stage(cube=12, stride=2), 4), seed)
    whole = build_stage(network, Stage(cube=12, stride=1), 4)
    inherit_weights(half, whole)
    image = np.random.default_rng(seed).normal(size=(1, 12, 12, 12, 1)).astype(np.float32)
    expected = np.asarray(whole(image))[0]
    found = np.asarray(half(image))[0]
    np.testing.assert_allclose(found, subsample(expected, 2), rtol=1e-4, atol=1e-4)


def test_batch_normalisation_is_folded_on_the_way() -> None:
    network = NetworkOptions(channels=4, dilations=(1, 2, 1))
    normed = randomised(build_stage(network, Stage(cube=8, norm='batch'), 3), 0)
    plain = build_stage(network, Stage(cube=8), 3)
    inherit_weights(normed, plain)
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(plain(image), normed(image, training=False), atol=1e-4)
    with pytest.raises(SettingsError, match='cannot take over'):
        inherit_weights(plain, normed)


@pytest.mark.parametrize('architecture', ['meshnet', 'light_unet'])
def test_statistics_are_fixed_while_scale_and_shift_are_trained(architecture: str) -> None:
    network = NetworkOptions(architecture, channels=4, dilations=(1, 2, 1), widths=(4, 6))
    normed = randomised(build_stage(network, Stage(cube=8, norm='batch'), 3), 0)
    stage = Stage(cube=8, norm='fixed')
    fixed = build_stage(network, stage, 3)
    inherit_weights(normed, fixed)
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 8, 1)).astype(np.float32)
    as_applied = normed(image, training=False)
    np.testing.assert_allclose(fixed(image, training=True), as_applied, rtol=1e-5, atol=1e-5)
    before = {variable.path: np.array(variable) for variable in fixed.variables}
    fixed.compile('sgd', 'mse')
    fixed.train_on_batch(image, np.ones((1, 8, 8, 8, 3), np.float32))
    changed = {path for v in fixed.variables if np.any(before[path := v.path] != np.array(v))}
    assert changed == {variable.path for variable in fixed.trainable_variables}
    assert any('gamma' in path for path in changed)
    applied = build_model(trained_network(network, stage, fixed), (8, 8, 8))
    np.testing.assert_allclose(applied(image), fixed(image, training=True), rtol=1e-3, atol=1e-3)


def test_what_cannot_be_strided_is_refused() -> None:
    assert strided_dilations((1, 1)) == (1,)
    with pytest.raises(SettingsError, match='even dilations'):
        strided_dilations((1, 2, 1, 2))
    with pytest.raises(SettingsError, match='relu'):
        build_stage(NetworkOptions(activation='elu'), Stage(stride=2), 3)


def test_layers_start_near_the_identity_and_apart_from_each_other() -> None:
    exact = np.asarray(NearIdentity(0.0)((3, 3, 3, 5, 5)))
    layer = keras.layers.Conv3D(5, 3, padding='same', kernel_initializer=NearIdentity(0.0))
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(layer(image), image, atol=1e-6)
    assert exact.sum() == 5
    model = build_stage(NetworkOptions(channels=5, dilations=(1, 2, 2)), Stage(cube=8), 3)
    kernels = [np.asarray(model.get_layer(f'conv3d_{i}').kernel) for i in (1, 2)]
    assert not np.allclose(kernels[0], kernels[1])
