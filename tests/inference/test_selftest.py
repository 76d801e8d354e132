"""The self-test of networks for cubes and several channels, against networks that Keras wrote."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

import keras  # noqa: E402

from brainchop_bids.inference import selftest  # noqa: E402
from brainchop_bids.models.spec import load_spec  # noqa: E402
from tests.models.networks import randomised  # noqa: E402

layers = keras.layers


def small(size: int, channels: int, classes: int) -> Any:
    """Return a network with zero padding, whose result depends on where cubes end."""
    inputs = keras.Input((size, size, size, channels))
    x = layers.Conv3D(3, 3, padding='same', activation='relu')(inputs)
    x = layers.Conv3D(4, 3, dilation_rate=4, padding='same', activation='elu')(x)
    x = layers.UpSampling3D(2)(layers.MaxPooling3D(2)(x))
    end = 'sigmoid' if classes == 1 else 'softmax'
    return randomised(keras.Model(inputs, layers.Conv3D(classes, 1, activation=end)(x)))


@pytest.mark.parametrize(
    ('size', 'channels', 'classes'), [(38, 1, 3), (64, 2, 1), (15, 1, 2), (256, 3, 2)]
)
def test_cubes_and_channels(tmp_path: Path, size: int, channels: int, classes: int) -> None:
    small(size, channels, classes).save(tmp_path / 'model.keras')
    facts: dict[str, Any] = {'normalization': 'zscore-whole'}
    if channels > 1:
        facts['inputs'] = ['T1w', 'T2w', 'FLAIR'][:channels]
    (tmp_path / 'brainchop.json').write_text(json.dumps(facts))
    spec = load_spec(tmp_path)
    assert (spec.block is None) == (size == 256)
    assert selftest.self_test(spec) < 1e-5


def test_what_the_weights_do_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(16, 1, 2).save(tmp_path / 'model.keras')
    (tmp_path / 'brainchop.json').write_text('{"normalization": "minmax"}')
    spec, read = load_spec(tmp_path), selftest.read_network

    def other(folder: Path) -> Any:
        network, form = read(folder)
        conv = network.ops[1]
        weights = {**conv.weights, 'bias': conv.weights['bias'] + np.float32(0.1)}
        return replace(network, ops=(network.ops[0], replace(conv, weights=weights),
                                     *network.ops[2:])), form  # fmt: skip

    monkeypatch.setattr(selftest, 'read_network', other)
    with pytest.raises(ModelError, match='off what its weights say'):
        selftest.self_test(spec)
