"""Networks of images, against Keras."""

import numpy as np
import pytest

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

import keras  # noqa: E402

from brainchop_bids.inference.localise.localiser import frame_runner  # noqa: E402
from brainchop_bids.models.formats.layer_writer import layers_of  # noqa: E402
from brainchop_bids.models.formats.planar import flattened, lifted  # noqa: E402
from brainchop_bids.models.keras_model import network_of  # noqa: E402
from brainchop_bids.models.locator import build_locator  # noqa: E402
from brainchop_bids.models.network import fold_batchnorm  # noqa: E402

layers = keras.layers


def randomised(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.5 if variable.name == 'moving_variance' else -1
        variable.assign(rng.uniform(low, 1, variable.shape))
    return model


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


@pytest.mark.parametrize('model', [small, lambda: build_locator(classes=17)])
def test_logits_are_those_of_keras(model) -> None:
    built = randomised(model())
    frames = np.random.default_rng(1).random((5, 64, 64), np.float32)
    expected = built(frames[..., None], training=False).numpy()
    found = frame_runner(network_of(built), 1)(frames)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_locator_is_small() -> None:
    """At most 50,000 weights and 210 kB, as it is run."""
    network = fold_batchnorm(network_of(build_locator(classes=17)))
    assert network.parameters == 45_689


@pytest.mark.parametrize('model', [small, lambda: build_locator(classes=17)])
def test_layers_of_images_come_back(model) -> None:
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


def test_settings_that_are_none_are_refused() -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.SeparableConv2D(2, 3)])
    with pytest.raises(ModelError, match='SeparableConv2D'):
        network_of(model)
