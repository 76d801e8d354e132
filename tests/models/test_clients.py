"""What is written for other programs, run by these programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainchop_bids.models.convert import FORMATS, write_network
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.formats.tfjs import read_tfjs, save_tfjs
from brainchop_bids.models.network import Network, fold_batchnorm
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.browser import NpmPackages

from . import networks
from .node import run_node

load_tensorflow()

from brainchop_bids.models.keras_model import build_model  # noqa: E402

BOTH = [networks.folded_meshnet, networks.unet]
PLACES = [networks.places_meshnet, networks.light_unet]
ALL = [*BOTH, *PLACES, networks.channel_normed, networks.everything]


def volume_for(network: Network, size: int = 32) -> np.ndarray:
    shape = (1, size, size, size, network.in_channels)
    return np.random.default_rng(3).random(shape, np.float32)


def ours(network: Network, volume: np.ndarray) -> np.ndarray:
    return np.asarray(build_model(network)(volume))


def channels_first(volume: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(volume.transpose(0, 4, 1, 2, 3))


def agrees(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.transpose(0, 2, 3, 4, 1), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('make', ALL)
def test_onnxruntime(tmp_path: Path, make: Callable[[], Network]) -> None:
    import onnxruntime

    network = networks.renamed(make())
    write_network(network, 'onnx', tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / 'model.onnx')
    for size in (32, 8):
        volume = volume_for(network, size)
        (found,) = session.run(['logits'], {'input': channels_first(volume)})
        agrees(found, ours(network, volume))


@pytest.mark.parametrize('make', ALL[:-1])
def test_openvino(tmp_path: Path, make: Callable[[], Network]) -> None:
    import openvino

    network = make()
    write_network(network, 'openvino', tmp_path)
    # Where the processor has bfloat16, OpenVINO would use it.
    exact = {'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = openvino.compile_model(tmp_path / 'model.xml', 'CPU', exact)
    for size in (32, 8):
        volume = volume_for(network, size)
        agrees(compiled(channels_first(volume))[0], ours(network, volume))


def torch_layers(torch: Any) -> Any:
    nn = torch.nn
    layers = []
    for channels, dilation in ((1, 1), (4, 2), (4, 4), (4, 1)):
        layers += [nn.Conv3d(channels, 4, 3, padding=dilation, dilation=dilation), nn.ELU()]
    return nn.Sequential(*layers, nn.Conv3d(4, 3, 1))


class TorchUNet:
    """The U-Net of `networks.unet` in torch, its weights by our names."""

    def __init__(self, torch: Any, state: dict[str, Any]) -> None:
        self.functional, self.torch = torch.nn.functional, torch
        names = dict.fromkeys(name.rpartition('.')[0] for name in state)
        self.weights = [(state[f'{name}.weight'], state[f'{name}.bias']) for name in names]

    def __call__(self, x: Any) -> Any:
        f = self.functional
        down, low, up, wide, last = self.weights
        x = skip = f.relu(f.conv3d(x, *down, padding=1))
        x = f.leaky_relu(f.conv3d(f.max_pool3d(x, 2), *low, padding=1), 0.2)
        x = self.torch.cat([skip, f.conv_transpose3d(x, *up, stride=2)], 1)
        x = f.silu(f.conv3d(x, *wide, padding=2, dilation=2))
        return self.torch.softmax(f.conv3d(x, *last), 1)


@pytest.mark.parametrize('make', BOTH)
def test_torch_from_safetensors(tmp_path: Path, make: Callable[[], Network]) -> None:
    torch = pytest.importorskip('torch', reason='torch reads safetensors: pip install torch')
    from safetensors.torch import load_file

    network = make()
    write_network(network, 'safetensors', tmp_path)
    state = load_file(tmp_path / 'model.safetensors')
    if make is networks.folded_meshnet:
        model = torch_layers(torch)
        model.load_state_dict({name.removeprefix('model.'): v for name, v in state.items()})
    else:
        # The header of the file keeps its tensors sorted; the network's order is needed here.
        order = [op.name for op in network.ops if op.weights]
        pairs = [(f'{name}.{part}') for name in order for part in ('weight', 'bias')]
        model = TorchUNet(torch, {name: state[name] for name in pairs})
    volume = volume_for(network)
    with torch.no_grad():
        found = model(torch.from_numpy(channels_first(volume))).numpy()
    agrees(found, ours(network, volume))


@pytest.mark.parametrize(
    ('make', 'dtype'),
    [*((make, 'float32') for make in [*BOTH, *PLACES]), (networks.light_unet, 'float16')],
)
def test_tensorflow_js(
    tmp_path: Path, npm_packages: NpmPackages, make: Callable[[], Network], dtype: str
) -> None:
    node_modules = npm_packages('@tensorflow/tfjs@4')
    save_tfjs(make(), tmp_path, dtype)
    network = read_tfjs(tmp_path)
    volume = volume_for(network)
    expected = ours(network, volume)
    found = run_node('run_tfjs.mjs', node_modules, tmp_path, volume).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    best = np.sort(expected, -1)
    clear = best[..., -1] - best[..., -2] > 2e-4
    np.testing.assert_array_equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('make', ALL[:-1])
def test_round_trips(tmp_path: Path, make: Callable[[], Network], form: str) -> None:
    network = make()
    write_network(network, form, tmp_path)
    again, found = read_network(tmp_path)
    assert found == form
    mine = [values for op in fold_batchnorm(network).ops for values in op.weights.values()]
    theirs = [values for op in again.ops for values in op.weights.values()]
    for values, other in zip(theirs, mine, strict=True):
        np.testing.assert_array_equal(values, other)
    volume = volume_for(network, 8)
    np.testing.assert_allclose(ours(again, volume), ours(network, volume), atol=1e-6)
