"""Networks of images, against Keras and the programs that their files are written for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

import keras  # noqa: E402

from brainchop_bids.inference.localise.localiser import frame_runner  # noqa: E402
from brainchop_bids.models.convert import FORMATS, write_network  # noqa: E402
from brainchop_bids.models.formats import read_network  # noqa: E402
from brainchop_bids.models.formats.layer_writer import layers_of  # noqa: E402
from brainchop_bids.models.formats.planar import flattened, lifted  # noqa: E402
from brainchop_bids.models.formats.tfjs import save_tfjs  # noqa: E402
from brainchop_bids.models.keras_model import build_model, network_of  # noqa: E402
from brainchop_bids.models.locator import build_locator  # noqa: E402
from brainchop_bids.models.network import fold_batchnorm  # noqa: E402
from tests.browser import NpmPackages  # noqa: E402

from .networks import randomised  # noqa: E402
from .node import run_node  # noqa: E402

layers = keras.layers
FRAMES = np.random.default_rng(1).random((3, 64, 64), np.float32)


def small() -> keras.Model:
    inputs = keras.Input((64, 64, 1))
    x = layers.Conv2D(4, (3, 5), strides=2, padding='same')(inputs)
    x = skip = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding='same', activation='silu')(x)
    x = layers.MaxPooling2D((2, 1))(x)
    x = layers.SpatialDropout2D(0.1)(layers.UpSampling2D((2, 1))(x))
    x = layers.Concatenate(axis=3)([x, skip])
    x = layers.Conv2DTranspose(3, 2, strides=2)(layers.Conv2D(6, 3, padding='same', groups=2)(x))
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))


def locator() -> keras.Model:
    return build_locator(classes=17)


def agrees(found: np.ndarray, expected: np.ndarray, within: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=within * np.abs(expected).max())


@pytest.mark.parametrize('model', [small, locator])
def test_logits_are_those_of_keras(model: Callable[[], keras.Model]) -> None:
    built = randomised(model())
    expected = built(FRAMES[..., None], training=False).numpy()
    network = network_of(built)
    agrees(frame_runner(network, 1, batch=2)(FRAMES), expected)
    again = build_model(network, network.input_shape)
    assert again.input_shape == (None, 64, 64, 1)
    agrees(again(FRAMES[..., None], training=False).numpy(), expected)


@pytest.mark.parametrize('model', [small, locator])
def test_every_format_gives_the_logits_of_keras(
    tmp_path: Path, model: Callable[[], keras.Model]
) -> None:
    import onnxruntime

    built = randomised(model())
    expected = built(FRAMES[..., None], training=False).numpy()
    network = network_of(built)
    assert len(FORMATS) == 6
    for form in FORMATS:
        folder = tmp_path / form
        folder.mkdir()
        write_network(network, form, folder)
        again, found = read_network(folder)
        assert (found, again.of_images, again.input_shape[1:]) == (form, True, (64, 64))
        assert fold_batchnorm(network).computes_as(again)
        agrees(frame_runner(again, 1)(FRAMES), expected)
    for name in ('keras/model.keras', 'h5/model.h5'):
        read = keras.models.load_model(tmp_path / name, compile=False)
        agrees(read(FRAMES[..., None], training=False).numpy(), expected)
        assert not any('3D' in type(layer).__name__ for layer in read.layers)
    session = onnxruntime.InferenceSession(tmp_path / 'onnx' / 'model.onnx')
    for count in (1, 3):
        (made,) = session.run(['logits'], {'input': FRAMES[:count, None]})
        agrees(made.transpose(0, 2, 3, 1), expected[:count])


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_tensorflow_js(tmp_path: Path, npm_packages: NpmPackages, dtype: str) -> None:
    node_modules = npm_packages('@tensorflow/tfjs@4')
    built = randomised(locator())
    save_tfjs(fold_batchnorm(network_of(built)), tmp_path, dtype)
    expected = frame_runner(read_network(tmp_path)[0], 1)(FRAMES)
    found = run_node('run_tfjs.mjs', node_modules, tmp_path, FRAMES[..., None])
    agrees(found.reshape(expected.shape), expected)
    # Halves have 11 bits, and errors add up over 20 layers.
    close = 1e-5 if dtype == 'float32' else 2e-2
    agrees(expected, built(FRAMES[..., None], training=False).numpy(), close)


def test_locator_is_small(tmp_path: Path) -> None:
    """At most 50,000 weights and 210 kB, as it is run."""
    network = fold_batchnorm(network_of(locator()))
    assert network.parameters == 45_689
    for form in ('tfjs', 'onnx'):
        (tmp_path / form).mkdir()
        write_network(network, form, tmp_path / form)
        assert sum(path.stat().st_size for path in (tmp_path / form).iterdir()) <= 210_000


@pytest.mark.parametrize('model', [small, locator])
def test_layers_of_images_come_back(model: Callable[[], keras.Model]) -> None:
    network = network_of(randomised(model()))
    weights = {
        f'{op.name}/{name}': array for op in network.ops for name, array in op.weights.items()
    }
    flat, arrays = flattened(layers_of(network), weights)
    kinds = {layer['class_name'] for layer in flat}
    assert 'DepthwiseConv2D' in kinds
    assert not any('3D' in kind for kind in kinds)
    assert max(array.ndim for array in arrays.values()) == 4
    back, again = lifted(flat, arrays)
    assert [layer['class_name'] for layer in back] == [
        layer['class_name'] for layer in layers_of(network)
    ]
    assert again.keys() == weights.keys()
    assert all(np.array_equal(again[key], weights[key]) for key in weights)


@pytest.mark.parametrize(
    'layer',
    [
        lambda: layers.SeparableConv2D(2, 3),
        # Its moments would be those of all frames.
        lambda: layers.GroupNormalization(1),
    ],
)
def test_layers_that_are_not_supported_are_named(layer: Callable[[], keras.Layer]) -> None:
    made = layer()
    model = keras.Sequential([keras.Input((8, 8, 1)), made, layers.Conv2D(2, 1)])
    with pytest.raises(ModelError, match=type(made).__name__):
        network_of(model)
