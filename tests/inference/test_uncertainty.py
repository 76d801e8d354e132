"""Entropy and spread, against SciPy; confidence, against the probabilities."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from brainchop_bids.inference.confidence import confidence_by_label, mean_confidence
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_plan
from brainchop_bids.inference.run import run_network
from brainchop_bids.inference.subvolumes import Subvolumes
from brainchop_bids.inference.tiles import exact_tiles
from brainchop_bids.inference.uncertainty import entropy, spread
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.resources import Granted
from tests.tfjs_folder import two_layers

SHAPE = (20, 18, 22)
DATA = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


@given(st.integers(2, 104), st.floats(1e-3, 50), st.integers(0, 999))
def test_probabilities_of_any_sharpness(classes: int, sharpness: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, sharpness, (2, 3, 5, classes))
    first, second = np.exp(logits - logits.max(-1, keepdims=True)).astype(np.float32)
    first /= first.sum(-1, keepdims=True)
    second /= second.sum(-1, keepdims=True)
    found = entropy(first)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stats.entropy(first, axis=-1), atol=2e-5)
    apart = spread(entropy((first + second) / 2), found, entropy(second))
    expected = distance.jensenshannon(first.astype('f8'), second.astype('f8'), axis=-1) ** 2
    np.testing.assert_allclose(apart, expected, atol=3e-5)
    assert (apart >= 0).all()


def test_what_is_certain_and_what_is_not() -> None:
    for classes in (2, 3, 18, 104):
        certain = np.eye(classes, dtype=np.float32)
        assert not entropy(certain).any()
        even = np.full((4, classes), 1 / classes, np.float32)
        np.testing.assert_allclose(entropy(even), np.log(classes), rtol=1e-6)
        # Sure of two different labels.
        one, other = certain[0], certain[1]
        found = spread(entropy((one + other) / 2), entropy(one), entropy(other))
        assert found == pytest.approx(np.log(2))
        assert spread(entropy(even), entropy(even), entropy(even)).max() < 1e-6


def test_tiles_cubes_and_the_whole(tmp_path: Path) -> None:
    spec = load_spec(two_layers(tmp_path / 'net'))
    engine = OpenvinoEngine(spec, threads=1)
    assert spec.reach is not None
    box = (slice(3, 18), slice(0, 18), slice(2, 20))
    ways: list[dict[str, object]] = [
        {},
        {'tiles': exact_tiles(SHAPE, *spec.reach, numbers=(2, 1, 3))},
        {'tiles': exact_tiles(SHAPE, *spec.reach, box=box)},
        {'subvolumes': Subvolumes.parse('8')},
        {'subvolumes': Subvolumes.parse('8+overlap:4')},
        {'subvolumes': Subvolumes.parse('8+overlap:4+vote')},
    ]
    found = []
    for way in ways:
        probabilities = np.zeros((*SHAPE, 3), np.float32)
        both, alone = (np.full(SHAPE, np.nan, np.float32) for _ in range(2))
        steps = np.zeros(SHAPE, np.uint8)
        plain = engine.segment(DATA, **way)
        labels = engine.segment(DATA, probabilities=probabilities, entropies=both, **way)
        np.testing.assert_array_equal(engine.segment(DATA, entropies=alone, **way), plain)
        np.testing.assert_array_equal(engine.segment(DATA, confidences=steps, **way), plain)
        # Half a step of 255, and rounding.
        np.testing.assert_allclose(steps / 255, probabilities.max(-1), atol=0.0021)
        np.testing.assert_array_equal(labels, plain)
        np.testing.assert_array_equal(alone, both)
        np.testing.assert_allclose(both, stats.entropy(probabilities, axis=-1), atol=1e-5)
        found.append(alone)
    whole, tiled, cropped = found[:3]
    assert whole.std() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-4)
    np.testing.assert_allclose(cropped[box], whole[box], atol=1e-4)
    outside = np.ones(SHAPE, bool)
    outside[box] = False
    assert not cropped[outside].any()


def test_confidence_of_engines_is_the_same_and_its_means_are_those_of_voxels(
    tmp_path: Path,
) -> None:
    folder = two_layers(tmp_path / 'net', classes=5)
    spec = load_spec(folder)
    names = ['background', 'a', 'b', 'c', 'd']
    found = []
    for engine in (OpenvinoEngine(spec, threads=1), KerasEngine(spec, threads=1)):
        steps, probabilities = np.zeros(SHAPE, np.uint8), np.zeros((*SHAPE, 5), np.float32)
        labels = engine.segment(DATA, confidences=steps)
        engine.probabilities(DATA, probabilities)
        means = confidence_by_label(labels, steps, names)
        for index, name in enumerate(names[1:], 1):
            inside = labels == index
            if inside.any():
                mean = probabilities[inside].max(-1).mean(dtype='f8')
                assert means[name] == pytest.approx(mean, abs=0.001)
        assert set(means) == {names[index] for index in np.unique(labels) if index}
        found.append(means)
    assert min(found[0].values()) < 0.9
    assert found[0] == pytest.approx(found[1], abs=0.001)
    assert mean_confidence(found[0]) == pytest.approx(np.mean(list(found[0].values())), abs=1e-4)
    assert mean_confidence({}) is None


def test_the_scan_and_its_mirror_image(tmp_path: Path) -> None:
    folder = two_layers(tmp_path / 'net')
    (folder / 'labels.json').write_text('{"0": "x", "1": "Left-Thalamus", "2": "Right-Thalamus"}')
    spec = load_spec(folder)
    engine = OpenvinoEngine(spec, threads=1)
    plan = make_plan(spec, SHAPE, Granted(4.0, 'a test'), InferenceOptions(device='cpu', tta=True))
    there, back = (np.zeros((*SHAPE, 3), np.float32) for _ in range(2))
    engine.probabilities(DATA, there)
    engine.probabilities(np.ascontiguousarray(DATA[::-1]), back)
    back = back[::-1][..., [0, 2, 1]]
    names = iter('ab')
    entropies, spreads = (np.zeros(SHAPE, np.float32) for _ in range(2))
    steps = np.zeros(SHAPE, np.uint8)
    maps = {'entropies': entropies, 'spreads': spreads, 'confidences': steps}
    run_network(engine, plan, DATA, lambda: tmp_path / next(names), **maps)
    np.testing.assert_allclose(entropies, stats.entropy((there + back) / 2, axis=-1), atol=1e-5)
    np.testing.assert_allclose(steps / 255, ((there + back) / 2).max(-1), atol=0.0021)
    expected = distance.jensenshannon(there.astype('f8'), back.astype('f8'), axis=-1) ** 2
    np.testing.assert_allclose(spreads, expected, atol=1e-5)
    assert spreads.max() > 1e-3
