"""Agreement of masks, against what can be worked out by hand and against scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brainchop_bids.evaluation.metrics import agreement, compare


def cuboid(*box: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((30, 30, 30), bool)
    mask[tuple(slice(low, high) for low, high in box)] = True
    return mask


def test_a_cuboid_that_is_shifted_along_its_length() -> None:
    reference = cuboid((5, 15), (5, 15), (5, 25))
    predicted = cuboid((5, 15), (5, 15), (9, 29))
    found = agreement(predicted, reference, (2.0, 2.0, 3.0))
    assert found.dice == pytest.approx(2 * 16 / 40)
    assert found.jaccard == pytest.approx(16 / 24)
    assert found.volume_similarity == 1
    assert found.predicted == found.reference == 2000 * 12
    # The ends lie 4 voxels of 3 mm apart; they are more than 5 % of the surface.
    assert found.hausdorff95 == pytest.approx(12)
    assert 0 < found.surface_distance < 12


def test_equal_and_disjoint_and_empty_masks() -> None:
    mask = cuboid((5, 15), (5, 15), (5, 15))
    same = agreement(mask, mask, (1, 1, 1))
    assert (same.dice, same.jaccard, same.hausdorff95, same.surface_distance) == (1, 1, 0, 0)
    away = agreement(cuboid((20, 25), (5, 15), (5, 15)), mask, (1, 1, 1))
    assert (away.dice, away.jaccard) == (0, 0)
    assert away.volume_similarity == pytest.approx(1 - 500 / 1500)
    nothing = np.zeros_like(mask)
    missed = agreement(nothing, mask, (1, 1, 1))
    assert (missed.dice, missed.volume_similarity) == (0, 0)
    assert np.isnan(missed.hausdorff95)
    assert np.isnan(agreement(nothing, nothing, (1, 1, 1)).dice)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 3))
def test_overlaps_are_those_of_the_definitions(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 12, 12, 12)) < rng.uniform(0.2, 0.8)
    found = agreement(first, second, (size, 1, 1), surfaces=False)
    both, either = (first & second).sum(), (first | second).sum()
    assert found.jaccard == pytest.approx(both / either)
    assert found.dice == pytest.approx(2 * found.jaccard / (1 + found.jaccard))
    assert found.predicted == pytest.approx(first.sum() * size)
    turned = agreement(second, first, (size, 1, 1), surfaces=False)
    assert (turned.dice, turned.volume_similarity) == (found.dice, found.volume_similarity)


def test_distances_of_a_ball_that_grows() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(50)] * 3, indexing='ij')) - 24.5
    radius = np.sqrt((grid**2).sum(0))
    found = agreement(radius < 18, radius < 14, (1, 1, 1))
    # The library's surfaces are a voxel thick where they are curved: it says 3.5.
    assert found.surface_distance == pytest.approx(4, abs=0.6)
    assert found.hausdorff95 == pytest.approx(4, abs=0.6)


def test_the_brain_is_all_labels_filled() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[4:16, 4:16, 4:16] = 1
    labels[8:12, 8:12, 8:12] = 2
    hollow = labels.copy()
    hollow[9:11, 9:11, 9:11] = 0
    scores = dict(compare(hollow, labels, (1, 1, 1), [1, 2], surfaces=False))
    assert scores[1].dice == 1
    assert scores[2].dice < 1
    assert scores[None].dice == 1
    filled = ndimage.binary_fill_holes(hollow > 0)
    assert scores[None].predicted == filled.sum()
    with pytest.raises(ValueError, match='shapes differ'):
        list(compare(labels, labels[1:], (1, 1, 1), [1]))
