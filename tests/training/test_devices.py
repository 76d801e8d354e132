"""Several devices: as many as are simulated on this processor, and one message elsewhere."""

import os
import subprocess
import sys

import keras
import pytest

from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.devices import distribute

# Trains the same network on one device and on two, which JAX simulates, and compares.
SCRIPT = """
import keras
import numpy as np
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.devices import distribute
from brainchop_bids.training.losses.registry import build_loss
from brainchop_bids.training.metrics import ClassDice
from brainchop_bids.training.stages import build_stage
from brainchop_bids.training.optimizers import averaged_weights, build_optimizer
from brainchop_bids.training.options import LossOptions, NetworkOptions, OptimizerOptions, Stage

rng = np.random.default_rng(0)
images = rng.normal(size=(4, 4, 8, 8, 8, 1)).astype(np.float32)
labels = (images[..., 0] > 0).astype(np.uint8)

def run():
    keras.utils.set_random_seed(3)
    stage = Stage(cube=8, batch=4, norm='batch')
    model = build_stage(NetworkOptions(channels=2, dilations=(1, 2)), stage, 2)
    options = OptimizerOptions('sgd', 'cosine', accumulate=2, ema=0.9)
    optimizer = build_optimizer(options, 0.1, 8)
    model.compile(optimizer, build_loss(LossOptions('focal_tversky'), 2), metrics=[ClassDice(2)])
    pairs = (pair for _ in range(9) for pair in zip(images, labels))
    model.fit(pairs, steps_per_epoch=4, epochs=2, verbose=0)
    with averaged_weights(model):
        alone = model.predict_on_batch(images[0, :1])
    held = {len(v.value.sharding.device_set) for v in model.variables}
    return held, [*model.get_weights(), alone]

for given, said in (((3,), 'finds 2 only'), ((2, (4, 3)), 'stages[1].batch is 3')):
    try:
        distribute(*given)
    except SettingsError as error:
        assert said in str(error), error
    else:
        raise AssertionError(given)
distribute(1)
assert keras.distribution.distribution() is None
held, one = run()
assert held == {1}, held
distribute(0)
assert keras.distribution.distribution().device_mesh.devices.size == 2
distribute(2, (4,))
held, two = run()
assert held == {2}, held
for a, b in zip(one, two):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
print('the same')
"""


def test_two_devices_give_the_weights_of_one() -> None:
    pytest.importorskip('jax', reason='several devices need JAX')
    env = {
        **os.environ,
        'KERAS_BACKEND': 'jax',
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
    }
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT], env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == 'the same'


@pytest.mark.skipif(keras.backend.backend() == 'jax', reason='JAX can')
@pytest.mark.parametrize('devices', [0, 2])
def test_other_backends_name_the_one_to_choose(devices: int) -> None:
    with pytest.raises(SettingsError, match=r'one device only; choose --backend jax, or set') as e:
        distribute(devices)
    assert keras.backend.backend() in str(e.value)


def test_one_device_is_what_every_backend_has() -> None:
    distribute(1)
    assert keras.distribution.distribution() is None
    with pytest.raises(SettingsError, match='devices is -1; expected 1, more, or 0 for all'):
        distribute(-1)
