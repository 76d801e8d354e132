"""Layers of networks of this field: what Keras saves, our engines and the other formats agree."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

import keras  # noqa: E402

from brainchop_bids.inference.selftest import compute, self_test  # noqa: E402
from brainchop_bids.models.convert import write_network  # noqa: E402
from brainchop_bids.models.formats import read_network  # noqa: E402
from brainchop_bids.models.keras_model import SlabNormalization, build_model, network_of  # noqa: E402
from brainchop_bids.models.network import fold_batchnorm  # noqa: E402
from brainchop_bids.models.spec import load_spec  # noqa: E402
from tests.models.networks import randomised  # noqa: E402

layers = keras.layers
SIDE = 12


def norms() -> Any:
    """Normalisations with factors and terms, and activations."""
    x = inputs = keras.Input((SIDE, SIDE, SIDE, 2))
    for norm in (
        layers.GroupNormalization(2),
        layers.GroupNormalization(-1, epsilon=1e-5, center=False),
        layers.LayerNormalization(),
        layers.BatchNormalization(),
        SlabNormalization(4, epsilon=1e-5),
    ):
        x = norm(layers.Conv3D(4, 3, padding='same', activation='mish')(x))
    x = layers.PReLU(shared_axes=[1, 2, 3])(x)
    x = layers.Activation('softsign')(layers.Rescaling(0.5, 1)(x))
    return keras.Model(inputs, layers.Dense(3, activation='softmax')(x))


def attention() -> Any:
    """Merges, poolings, operators, and models within models."""
    inputs = keras.Input((SIDE, SIDE, SIDE, 2))
    first = keras.Sequential(
        [keras.Input((SIDE, SIDE, SIDE, 2)), layers.Conv3D(4, 3, padding='same'), layers.ReLU()],
        name='first',
    )
    given = keras.Input((None, None, None, 4))
    deep = keras.Sequential([layers.Conv3D(4, 1), layers.LeakyReLU(negative_slope=0.1)])
    block = keras.Model(given, layers.Add()([deep(given), given]), name='block')
    skip = x = block(first(inputs))
    x = layers.AveragePooling3D(3, 2, 'same')(layers.Dropout(0.1)(x))
    x = layers.UpSampling3D(2)(layers.SpatialDropout3D(0.2)(x))
    gate = keras.ops.sigmoid(layers.Conv3D(1, 1)(x + skip))
    x = gate * skip
    squeezed = layers.GlobalAveragePooling3D()(x)
    squeezed = layers.Dense(4, activation='sigmoid')(layers.Reshape((1, 1, 1, 4))(squeezed))
    x = layers.Multiply()([x, squeezed])
    x = layers.Subtract()([x, layers.Average()([x, skip, 1 - x])])
    x = layers.Maximum()([x, layers.Minimum()([x * 2.0, skip])])
    x = layers.Cropping3D(((1, 2), (0, 1), (1, 1)))(layers.ZeroPadding3D(((1, 2), (0, 1), 1))(x))
    return keras.Model(inputs, layers.Conv3D(3, 1)(keras.ops.concatenate([x, skip], -1)))


MODELS = {'norms': norms, 'attention': attention}


@pytest.fixture(scope='module', params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    model = randomised(MODELS[request.param]())
    for suffix in ('keras', 'h5'):
        (folder / suffix).mkdir()
        model.save(folder / suffix / f'model.{suffix}')
        facts = {'normalization': 'zscore-whole', 'inputs': ['T1w', 'T2w']}
        (folder / suffix / 'brainchop.json').write_text(json.dumps(facts))
    volume = np.random.default_rng(1).normal(0, 1, (SIDE, SIDE, SIDE, 2)).astype(np.float32)
    return folder, volume, np.asarray(model(volume[None], training=False))[0]


@pytest.mark.parametrize('suffix', ['keras', 'h5'])
def test_what_keras_saves(saved: Any, suffix: str) -> None:
    folder, volume, expected = saved
    network, _ = read_network(folder / suffix)
    np.testing.assert_allclose(compute(network, volume), expected, atol=2e-5)
    assert network.computes_as(network_of(keras.models.load_model(next(folder.glob('*/*.keras')))))
    folded = fold_batchnorm(network)
    np.testing.assert_allclose(build_model(folded)(volume[None])[0], expected, atol=2e-5)


def test_what_the_converter_makes_of_a_keras_file(saved: Any, tmp_path: Path) -> None:
    """tensorflowjs 4.22 names weights by their paths, and unpacks the archive beside it."""
    folder, volume, expected = saved
    shutil.copytree(folder / 'keras', tmp_path / 'keras')
    with zipfile.ZipFile(folder / 'keras' / 'model.keras') as archive:
        archive.extractall(tmp_path / 'keras')
    assert read_network(tmp_path / 'keras')[1] == 'keras'
    stored: dict[str, np.ndarray] = {}

    def take(name: str, node: Any) -> None:
        # Dropout stores the states of random numbers, which are integers.
        if isinstance(node, h5py.Dataset) and node.dtype.kind == 'f':
            stored[name] = node[()]

    with h5py.File(tmp_path / 'keras' / 'model.weights.h5') as file:
        file.visititems(take)
    entries = [{'name': n, 'shape': list(v.shape), 'dtype': 'float32'} for n, v in stored.items()]
    content = {
        'format': 'layers-model',
        'modelTopology': {
            'model_config': json.loads((tmp_path / 'keras' / 'config.json').read_text())
        },
        'weightsManifest': [{'paths': ['a.bin'], 'weights': entries}],
    }
    (tmp_path / 'tfjs').mkdir()
    (tmp_path / 'tfjs' / 'model.json').write_text(json.dumps(content))
    (tmp_path / 'tfjs' / 'a.bin').write_bytes(b''.join(v.tobytes() for v in stored.values()))
    network, form = read_network(tmp_path / 'tfjs')
    assert form == 'tfjs'
    np.testing.assert_allclose(compute(network, volume), expected, atol=2e-5)


def test_both_engines(saved: Any) -> None:
    assert self_test(load_spec(saved[0] / 'keras')) < 1e-4


@pytest.mark.parametrize('form', ['tfjs', 'keras', 'safetensors', 'onnx'])
def test_other_formats(saved: Any, form: str, tmp_path: Path) -> None:
    folder, volume, expected = saved
    network = read_network(folder / 'keras')[0]
    write_network(network, form, tmp_path)
    again, _ = read_network(tmp_path)
    assert fold_batchnorm(network).computes_as(again)
    if form == 'onnx':
        runtime = pytest.importorskip('onnxruntime')
        session = runtime.InferenceSession(tmp_path / 'model.onnx')
        given = {'input': volume.transpose(3, 0, 1, 2)[None]}
        (found,) = session.run(None, given)
        np.testing.assert_allclose(found[0].transpose(1, 2, 3, 0), expected, atol=2e-5)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / 'saved').mkdir()
    (tmp_path / 'saved' / 'saved_model.pb').write_bytes(b'\x08\x01')
    graph = {'format': 'graph-model', 'modelTopology': {'node': []}, 'weightsManifest': []}
    (tmp_path / 'graph').mkdir()
    (tmp_path / 'graph' / 'model.json').write_text(json.dumps(graph))
    for kind, said in (('saved', 'is a TensorFlow SavedModel'), ('graph', 'graph model')):
        with pytest.raises(ModelError, match=f'{said}.*convert') as caught:
            read_network(tmp_path / kind)
        assert '\n' not in str(caught.value)


def test_layers_that_are_not_known(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 8, 2))
    unknown = {
        'maximum': keras.ops.maximum(inputs, 0.0),
        'reshape': layers.Reshape((8, 8, 8, 2))(inputs),
    }
    for name, x in unknown.items():
        folder = tmp_path / name
        folder.mkdir()
        keras.Model(inputs, layers.Conv3D(2, 1)(x)).save(folder / 'model.keras')
        with pytest.raises(ModelError, match=r'layer .*(not supported; export|cannot be read)'):
            read_network(folder)
