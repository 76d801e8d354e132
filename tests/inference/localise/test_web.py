"""Localisers in a browser: their ONNX files run by onnxruntime-web give the same box."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.io import read_volume
from brainchop_bids.image.normalise import Normalization
from brainchop_bids.inference.localise.localiser import Localiser, Located
from brainchop_bids.models.convert import write_network
from brainchop_bids.models.overrides import read_overrides
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import list_models, search_folders
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.browser import NpmPackages
from tests.models.node import run_node

load_tensorflow()

import keras  # noqa: E402

from brainchop_bids.models.keras_model import network_of  # noqa: E402

layers = keras.layers
PACKAGED = [
    folder
    for folder in (search_folders()[0] / name for name in list_models(search_folders()[0]))
    if read_overrides(folder).get('task') == 'localise'
]


def bright_finder() -> Localiser:
    """Return a localiser of what is bright, with each kind of layer that trained ones have."""
    inputs = keras.Input((64, 64, 1))
    x = layers.Conv2D(3, 3, strides=2, padding='same', use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=0)(x))
    x = layers.DepthwiseConv2D(3, padding='same', use_bias=False)(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Add()([x, layers.Conv2D(3, 1, use_bias=False)(inputs)])
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    middle = np.zeros((3, 3, 3, 1))
    middle[1, 1] = 1
    ones, zeros = np.ones(3), np.zeros(3)
    last = np.stack([zeros, ones * 5], 1)[None, None]
    model.set_weights(
        [
            np.full((3, 3, 1, 3), 1 / 9), ones, zeros, zeros, ones, middle,
            np.ones((1, 1, 1, 3)), last, np.array([0, -15]),
        ]
    )  # fmt: skip
    return Localiser(network_of(model), Normalization.parse('minmax'))


def by_web(localiser: Localiser, node_modules: Path, folder: Path) -> Localiser:
    """Return the localiser with its network run by onnxruntime-web."""
    write_network(localiser.network, 'onnx', folder)
    other = Localiser(localiser.network, localiser.normalization)
    ours = localiser.logits

    def logits(frames: np.ndarray) -> np.ndarray:
        found = run_node('run_onnx_web.mjs', node_modules, folder / 'model.onnx', frames[:, None])
        found = found.reshape(len(frames), -1, 64, 64).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, ours(frames), rtol=0, atol=1e-4)
        return found

    other.logits = logits
    return other


def same(found: Located, expected: Located) -> None:
    assert found.sector is not None
    assert expected.sector is not None
    assert found.codes == expected.codes
    for one, other in zip(found.sector.extents, expected.sector.extents, strict=True):
        assert (one.first, one.last) == (other.first, other.last)
        assert one.certainties == pytest.approx(other.certainties, abs=1e-3)


def test_a_bright_box_is_found(tmp_path: Path, npm_packages: NpmPackages) -> None:
    node_modules = npm_packages('onnxruntime-web@1')
    data = np.random.default_rng(0).normal(20, 3, (80, 70, 60)).astype(np.float32)
    data[20:60, 30:50, 10:40] += 200
    geometry = Geometry((80, 70, 60), np.full(3, 2), np.eye(3), np.zeros(3))
    localiser = bright_finder()
    expected = localiser(data, geometry)
    same(by_web(localiser, node_modules, tmp_path)(data, geometry), expected)
    assert expected.sector is not None
    ends = [(one.first, one.last) for one in expected.sector.extents]
    # With 9 mm, which are four voxels, on each side.
    np.testing.assert_allclose(ends, [(16, 63), (26, 53), (6, 43)], atol=1)


@pytest.mark.parametrize('folder', PACKAGED, ids=lambda folder: folder.name)
def test_packaged_ones_find_the_brain(
    tmp_path: Path, npm_packages: NpmPackages, folder: Path
) -> None:
    node_modules = npm_packages('onnxruntime-web@1')
    name = 'mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz'
    volume = read_volume(Path(str(files('nilearn.datasets') / 'data' / name)))
    localiser = Localiser.of(load_spec(folder))
    expected = localiser(volume.data, volume.geometry)
    same(by_web(localiser, node_modules, tmp_path)(volume.data, volume.geometry), expected)
