import os
import subprocess
import sys

import numpy as np
import pytest

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

from brainchop_bids.models.meshnet import build_meshnet  # noqa: E402

CLASSIC = (1, 2, 4, 8, 16, 8, 4, 2, 1)


@pytest.mark.parametrize(
    ('channels', 'dilations', 'classes', 'parameters'),
    [
        (5, CLASSIC, 3, 5_598),
        (11, (1, 2, 4, 8, 4, 2, 2, 1), 3, 23_290),
        (21, CLASSIC, 18, 96_408),
        (30, CLASSIC, 50, 197_030),
        (21, (1, 2, 2, 4, 4, 8, 8, 16), 104, 86_372),
    ],
)
def test_sizes_of_the_published_networks(channels, dilations, classes, parameters):
    model = build_meshnet(channels=channels, dilations=dilations, classes=classes)
    assert model.count_params() == parameters


def test_mindgrab_is_a_meshnet_with_channel_norms():
    model = build_meshnet(
        channels=15,
        dilations=(16, 8, 4, 2, 1) * 5,
        classes=2,
        activation='gelu_tanh',
        norm='group',
    )
    assert model.count_params() == 146_237


@pytest.mark.parametrize('norm', [None, 'batch', 'group'])
def test_it_keeps_the_grid(norm):
    model = build_meshnet(channels=3, dilations=(1, 4), classes=4, norm=norm, dropout=0.1)
    volume = np.random.default_rng(0).random((2, 5, 6, 7, 1), np.float32)
    assert model.predict(volume, verbose=0).shape == (2, 5, 6, 7, 4)


def test_unknown_parts_are_refused():
    with pytest.raises(ModelError, match='sigmoidal'):
        build_meshnet(channels=3, dilations=(1,), classes=2, activation='sigmoidal')
    with pytest.raises(ModelError, match='layer'):
        build_meshnet(channels=3, dilations=(1,), classes=2, norm='layer')


def test_a_saved_network_comes_back(tmp_path):
    import keras

    model = build_meshnet(
        channels=2, dilations=(1,), classes=2, activation='gelu_tanh', norm='group'
    )
    model.save(tmp_path / 'model.keras')
    volume = np.random.default_rng(0).random((1, 5, 6, 7, 1), np.float32)
    again = keras.models.load_model(tmp_path / 'model.keras')
    np.testing.assert_array_equal(
        again.predict(volume, verbose=0), model.predict(volume, verbose=0)
    )


def test_it_trains_on_the_torch_backend():
    pytest.importorskip('torch', reason="Keras' torch backend: pip install torch")
    code = """
import numpy as np
from brainchop_bids.models.meshnet import build_meshnet
from brainchop_bids.models.keras_model import build_model, network_of
from brainchop_bids.models.network import fold_batchnorm
model = build_meshnet(channels=2, dilations=(1, 2), classes=2, norm='batch', activation='gelu')
model.compile('adam', 'mse')
x = np.random.default_rng(0).random((2, 6, 6, 6, 1), np.float32)
y = np.repeat(x, 2, -1)
model.fit(x, y, epochs=2, verbose=0)
folded = build_model(fold_batchnorm(network_of(model)))
difference = np.abs(folded.predict(x, verbose=0) - model.predict(x, verbose=0)).max()
import keras
print(keras.backend.backend(), difference < 1e-4)
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'KERAS_BACKEND': 'torch'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ['torch', 'True'], done.stderr[-2000:]
