"""OpenVINO's engine against TensorFlow's, and its graphs against the NumPy reference."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.openvino_graph import GraphBuilder, compiled
from brainchop_bids.inference.selftest import compute
from brainchop_bids.models.formats.openvino_files import load_openvino
from brainchop_bids.models.network import Network, Op
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import ModelError
from tests.models.networks import channel_normed, everything, folded_meshnet, unet
from tests.tfjs_folder import conv, random_weights, two_layers, write_tfjs


@pytest.mark.parametrize('make', [folded_meshnet, unet, channel_normed, everything])
def test_graphs_compute_what_networks_are(make: Callable[[], Network]) -> None:
    network = make()
    rng = np.random.default_rng(3)
    volume = rng.random((16, 8, 12, network.in_channels), np.float32)
    builder = GraphBuilder(load_openvino())
    given = builder.parameter((1, network.in_channels, 16, 8, 12))
    model = compiled(builder, [builder.body(network, given)], [given], 'a test', 2)
    found = model(np.moveaxis(volume, -1, 0)[None])[0][0]
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), compute(network, volume), atol=1e-4)


def test_nearly_constant_slabs_are_normalised_exactly() -> None:
    """OpenVINO's own normalisation of a volume that is mostly air is further off."""
    settings = {'groups': 2, 'order': (0, 1, 2), 'epsilon': 1e-5}
    ops = (Op('input', 'input', (), 8), Op('norm', 'slab_norm', ('input',), 8, settings))
    network = Network(Path('a test'), ops)
    rng = np.random.default_rng(0)
    volume = (0.7 + 0.003 * rng.standard_normal((32, 32, 32, 8))).astype(np.float32)
    builder = GraphBuilder(load_openvino())
    given = builder.parameter((1, 8, 32, 32, 32))
    model = compiled(builder, [builder.body(network, given)], [given], 'a test', 1)
    found = np.moveaxis(model(np.moveaxis(volume, -1, 0)[None])[0][0], 0, -1)
    np.testing.assert_allclose(found, compute(network, volume.astype(np.float64)), atol=2e-5)


@pytest.mark.parametrize('classes', [3, 30])
@pytest.mark.parametrize('size', [8, 256])
@pytest.mark.parametrize('channels', [1, 2])
def test_both_engines_agree(tmp_path: Path, classes: int, size: int, channels: int) -> None:
    folder = two_layers(tmp_path / 'net', classes=classes, size=size, channels=channels)
    if channels == 2:
        (folder / 'brainchop.json').write_text('{"inputs": ["T1w", "T2w"]}')
    shape = (13, 9, 17) if channels == 1 else (13, 9, 17, 2)
    data = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    ours, theirs = (kind(load_spec(folder), threads=2) for kind in (OpenvinoEngine, KerasEngine))
    np.testing.assert_allclose(ours.logits(data), theirs.logits(data), atol=1e-4)
    found, expected = (np.zeros((13, 9, 17, classes), np.float32) for _ in range(2))
    labels = ours.segment(np.asfortranarray(data), probabilities=found)
    np.testing.assert_array_equal(labels, theirs.segment(data, probabilities=expected))
    assert (labels.dtype, labels.flags.f_contiguous) == (np.uint8, True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_of_equal_classes_the_first_wins(tmp_path: Path) -> None:
    weights = random_weights(out__kernel=(1, 1, 1, 1, 3))
    weights['out/kernel'][:] = 1.0
    folder = write_tfjs(tmp_path / 'net', [conv('out', 3, 1, use_bias=False)], weights)
    data = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    assert not OpenvinoEngine(load_spec(folder)).segment(data).any()


def test_what_cannot_run_is_one_line(tmp_path: Path) -> None:
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3), a__bias=(3,))
    layers = [conv('a', 3, padding='valid')]
    spec = load_spec(write_tfjs(tmp_path / 'net', layers, weights))
    with pytest.raises(ModelError, match='makes a volume of') as caught:
        OpenvinoEngine(spec).segment(np.zeros((9, 9, 9), np.uint8))
    assert '\n' not in str(caught.value)


def test_nothing_is_reported(tmp_path: Path) -> None:
    """OpenVINO's own import sends an event and writes into the home folder."""
    code = (
        'import sys, threading\n'
        'from brainchop_bids.models.formats.openvino_files import load_openvino\n'
        'load_openvino()\n'
        'found = [name for name in sys.modules if name.startswith("openvino_telemetry.")]\n'
        'assert not found, found\n'
        'assert threading.active_count() == 1\n'
    )
    home = {**os.environ, 'HOME': str(tmp_path)}
    subprocess.run([sys.executable, '-c', code], env=home, check=True)
    assert not list(tmp_path.iterdir())


def test_a_signal_is_heard_when_engines_have_come_and_gone(tmp_path: Path) -> None:
    # As where Python gathers its garbage late: the next is at work before the last one goes.
    folder = two_layers(tmp_path / 'net')
    code = f"""
import gc, os, signal
from pathlib import Path
import numpy as np
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.models.spec import load_spec
signal.signal(signal.SIGTERM, lambda number, frame: print('heard'))
engines = []
for _ in range(2):
    engines.append(OpenvinoEngine(load_spec(Path({str(folder)!r})), threads=2))
    engines[-1].segment(np.ones((8, 9, 7), np.uint8))
while engines:
    del engines[0]
    gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'heard\n'), done.stderr
