"""Files that Keras itself has written, and what no file may do."""

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

import h5py  # noqa: E402
import keras  # noqa: E402

from brainchop_bids.inference.keras_engine import KerasEngine  # noqa: E402
from brainchop_bids.models.formats import read_network  # noqa: E402
from brainchop_bids.models.keras_model import build_model, network_of  # noqa: E402
from brainchop_bids.models.meshnet import build_meshnet  # noqa: E402
from brainchop_bids.models.spec import load_spec  # noqa: E402

layers = keras.layers


def randomised(model: Any) -> Any:
    rng = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.5 if variable.name == 'moving_variance' else -1
        variable.assign(rng.uniform(low, 1, variable.shape))
    return model


def unet() -> Any:
    inputs = keras.Input((16, 16, 16, 2))
    x = layers.Conv3D(4, 3, padding='same', activation='relu')(inputs)
    skip = x = layers.BatchNormalization()(x)
    x = layers.MaxPooling3D()(x)
    x = layers.SpatialDropout3D(0.2)(layers.Conv3D(6, 3, padding='same')(x))
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.concatenate([skip, layers.Conv3DTranspose(4, 2, strides=2)(x)])
    x = layers.Conv3D(4, 3, padding='same', dilation_rate=2)(x)
    x = layers.concatenate([layers.UpSampling3D(2)(layers.MaxPooling3D()(x)), x])
    x = layers.ELU(alpha=0.5)(layers.ZeroPadding3D(1)(x))
    return keras.Model(inputs, layers.Conv3D(3, 3, activation='softmax')(x))


MODELS = {
    'meshnet': lambda: build_meshnet(
        channels=3, dilations=(1, 2), classes=4, norm='group', activation='gelu_tanh'
    ),
    'batch-norm': lambda: build_meshnet(
        channels=3, dilations=(1, 2), classes=4, norm='batch', dropout=0.1, activation='elu'
    ),
    'sequential': lambda: keras.Sequential(
        [keras.Input((8, 8, 8, 1)), layers.Conv3D(2, 3), layers.Conv3D(2, 1, use_bias=False)]
    ),
    'unet': unet,
}


@pytest.mark.parametrize('suffix', ['keras', 'h5'])
@pytest.mark.parametrize('kind', MODELS)
def test_what_keras_writes_computes_the_same(tmp_path: Path, kind: str, suffix: str) -> None:
    model = randomised(MODELS[kind]())
    model.save(tmp_path / f'model.{suffix}')
    network, form = read_network(tmp_path)
    assert form == suffix
    volume = np.random.default_rng(1).random((1, 16, 16, 16, network.in_channels), np.float32)
    expected = model(volume, training=False)
    np.testing.assert_allclose(build_model(network)(volume), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('named', [True, False])
def test_leaky_sums_of_a_residual_network(tmp_path: Path, named: bool) -> None:
    """TensorFlow's graphs take the slope of such a sum to be 0.2, eager layers take their own."""
    inputs = keras.Input((None, None, None, 2))
    leaky = layers.Activation('leaky_relu') if named else layers.LeakyReLU(negative_slope=0.01)
    x = leaky(layers.Add()([layers.Conv3D(2, 3, padding='same')(inputs), inputs]))
    model = randomised(keras.Model(inputs, layers.Conv3D(3, 1)(x)))
    model.save(tmp_path / 'model.keras')
    facts = {'normalization': 'minmax', 'inputs': ['T1w', 'T2w']}
    (tmp_path / 'brainchop.json').write_text(json.dumps(facts))
    data = np.random.default_rng(2).integers(0, 256, (8, 9, 7, 2)).astype(np.uint8)
    data[0, 0, 0], data[0, 0, 1] = 0, 255
    expected = model((data / np.float32(255))[None])[0]
    found = KerasEngine(load_spec(tmp_path), threads=2).logits(data)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_products_count_the_smaller_grids(tmp_path: Path) -> None:
    """Against what each of Keras' layers computes."""
    model = unet()
    expected = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv3DTranspose):
            expected += np.prod(layer.input.shape[1:4]) * np.prod(layer.kernel.shape)
        elif isinstance(layer, layers.Conv3D):
            expected += np.prod(layer.output.shape[1:4]) * np.prod(layer.kernel.shape)
    assert network_of(model).products * 16**3 == expected


def nobrainer_unet(classes: int, size: int) -> Any:
    """Return the U-Net of nobrainer 1.2.1, layer by layer (its package needs Keras 2)."""

    def double(x: Any, first: int, second: int) -> Any:
        for filters in (first, second):
            x = layers.Conv3D(filters, 3, padding='same')(x)
            x = layers.Activation('relu')(layers.BatchNormalization()(x))
        return x

    inputs = keras.Input((size, size, size, 1))
    skips, x = [], inputs
    for filters in (16, 32, 64):
        x = double(x, filters, 2 * filters)
        skips.append(x)
        x = layers.MaxPooling3D(2)(x)
    x = double(x, 128, 256)
    for filters, skip in zip((256, 128, 64), reversed(skips), strict=True):
        x = layers.Conv3DTranspose(filters, 2, strides=2, padding='same')(x)
        x = double(layers.Concatenate()([skip, x]), filters // 2, filters // 2)
    end = 'sigmoid' if classes == 1 else 'softmax'
    return keras.Model(inputs, layers.Activation(end)(layers.Conv3D(classes, 1)(x)))


@pytest.mark.parametrize('classes', [1, 4])
def test_nobrainers_unet_by_blocks_of_z_scores(tmp_path: Path, classes: int) -> None:
    size = 16
    model = nobrainer_unet(classes, size)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name == 'kernel':
            spread = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, spread, variable.shape))
        elif variable.name == 'moving_variance':
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    folder = tmp_path / 'nobrainer'
    folder.mkdir()
    model.save(folder / 'model.h5')
    (folder / 'brainchop.json').write_text('{"normalization": "zscore-whole"}')
    spec = load_spec(folder)
    assert (spec.block, spec.classes) == ((size,) * 3, max(classes, 2))
    data = rng.integers(0, 256, (size, 2 * size, 2 * size)).astype(np.uint8)
    found = np.zeros((*data.shape, spec.classes), np.float32)
    labels = KerasEngine(spec, threads=2).segment(data, probabilities=found)
    scores = ((data - data.mean()) / data.std()).astype(np.float32)
    for y, z in ((0, 0), (0, size), (size, 0), (size, size)):
        block = (slice(None), slice(y, y + size), slice(z, z + size))
        expected = np.asarray(model(scores[block][None, ..., None], training=False))[0]
        if classes == 1:
            np.testing.assert_array_equal(labels[block], expected[..., 0] > 0.5)
            expected = np.concatenate([1 - expected, expected], -1)
        np.testing.assert_allclose(found[block], expected, atol=1e-4)
        assert np.ptp(expected) > 0.1


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_network(folder)
    message = str(caught.value)
    assert '\n' not in message
    for part in (str(folder), *parts):
        assert part in message


def test_a_lambda_layer_is_refused_unread(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 8, 1))
    x = layers.Lambda(lambda x: x * 2, name='evil')(layers.Conv3D(2, 3)(inputs))
    for suffix in ('keras', 'h5'):
        folder = tmp_path / suffix
        folder.mkdir()
        keras.Model(inputs, x).save(folder / f'model.{suffix}')
        refused(folder, "'evil' is of class Lambda, which is not supported")


def rezipped(path: Path, **changed: bytes) -> None:
    """Write a .keras file anew, with other members, compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {name.replace('__', '.'): data for name, data in changed.items()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_damaged_and_misleading_files(tmp_path: Path) -> None:
    path = tmp_path / 'model.keras'
    randomised(MODELS['meshnet']()).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, 'not a valid .keras file')
    path.write_bytes(whole)
    rezipped(path, config__json=b'{')
    refused(tmp_path, 'is not JSON')
    path.write_bytes(whole)
    rezipped(path, config__json=json.dumps({'class_name': 'os.system', 'config': 'ls'}).encode())
    refused(tmp_path, 'topology cannot be read')
    path.write_bytes(whole)
    rezipped(path, model__weights__h5=b'\x89HDF\r\n\x1a\n')
    refused(tmp_path, 'not a valid HDF5 file')
    rezipped(path, model__weights__h5=bytes(64 << 20))
    assert path.stat().st_size < 1 << 20
    refused(tmp_path, 'would take over', 'MB of memory, but the file has')


def test_weights_that_lie_elsewhere(tmp_path: Path) -> None:
    with h5py.File(tmp_path / 'other.hdf5', 'w') as file:
        file['values'] = np.zeros(2, np.float32)
    path = tmp_path / 'model.keras'
    MODELS['sequential']().save(path)
    with zipfile.ZipFile(path) as archive:
        stored = BytesIO(archive.read('model.weights.h5'))
    with h5py.File(stored, 'r+') as file:
        place = file['layers/conv3d/vars']
        del place['1']
        place['1'] = h5py.ExternalLink(str(tmp_path / 'other.hdf5'), 'values')
    rezipped(path, model__weights__h5=stored.getvalue())
    refused(tmp_path, 'layers/conv3d/vars/1 is a link')


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    MODELS['meshnet']().save_weights(tmp_path / 'x.weights.h5')
    refused(tmp_path, 'has no whole model')


def test_folders_with_none_or_several(tmp_path: Path) -> None:
    refused(tmp_path, 'no weights')
    (tmp_path / 'a.keras').touch()
    (tmp_path / 'b.h5').touch()
    refused(tmp_path, 'a.keras, b.h5')
