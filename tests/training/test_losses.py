"""Losses and the metric against their closed forms on cases small enough to work by hand."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.training import losses
from brainchop_bids.training.losses import ClassDice, LabelLoss


def volume(values: list[int]) -> np.ndarray:
    """Return labels as one volume of a batch."""
    return np.array(values, np.int32).reshape(1, -1, 1, 1)


def logits_of(probabilities: list[list[float]]) -> np.ndarray:
    """Return logits whose softmax is given, voxel by voxel."""
    table = np.log(np.array(probabilities, np.float32))
    return table.reshape(1, len(probabilities), 1, 1, -1)


LABELS = volume([0, 1, 1, 2])
PROBABILITIES = [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]
LOGITS = logits_of(PROBABILITIES)
# Class by class: mass shared with the truth, and mass of prediction and truth together.
SHARED = (0.5, 0.6 + 0.8, 0.5)
SIZES = (1.05 + 1, 1.95 + 2, 1.0 + 1)
DICE = tuple(2 * shared / size for shared, size in zip(SHARED, SIZES, strict=True))


def number(value: object) -> float:
    return float(keras.ops.convert_to_numpy(value)[0])


def test_soft_dice_by_hand() -> None:
    assert number(losses.soft_dice(LABELS, LOGITS)) == pytest.approx(1 - sum(DICE) / 3, abs=1e-6)
    foreground = losses.soft_dice(LABELS, LOGITS, background=False)
    assert number(foreground) == pytest.approx(1 - (DICE[1] + DICE[2]) / 2, abs=1e-6)
    weighted = losses.soft_dice(LABELS, LOGITS, class_weights=[1, 2, 5])
    expected = 1 - (DICE[0] + 2 * DICE[1] + 5 * DICE[2]) / 8
    assert number(weighted) == pytest.approx(expected, abs=1e-6)


def test_generalised_dice_by_hand() -> None:
    weights = (1.0, 0.25, 1.0)
    top = 2 * sum(w * s for w, s in zip(weights, SHARED, strict=True))
    bottom = sum(w * s for w, s in zip(weights, SIZES, strict=True))
    found = number(losses.generalised_dice(LABELS, LOGITS))
    assert found == pytest.approx(1 - top / bottom, abs=1e-6)


def test_generalised_dice_of_an_absent_class_stays_finite() -> None:
    labels = volume([0, 0, 1, 1])
    weights = (0.25, 0.25, 0.25)
    shared = (0.5 + 0.2, 0.8 + 0.25, 0.0)
    sizes = (1.05 + 2, 1.95 + 2, 1.0)
    top = 2 * sum(w * s for w, s in zip(weights, shared, strict=True))
    bottom = sum(w * s for w, s in zip(weights, sizes, strict=True))
    found = number(losses.generalised_dice(labels, LOGITS))
    assert found == pytest.approx(1 - top / bottom, abs=1e-6)


def test_cross_entropy_by_hand() -> None:
    each = [-math.log(p) for p in (0.5, 0.6, 0.8, 0.5)]
    assert number(losses.cross_entropy(LABELS, LOGITS)) == pytest.approx(sum(each) / 4, abs=1e-6)
    weighted = losses.cross_entropy(LABELS, LOGITS, class_weights=[1, 2, 5])
    expected = (each[0] + 2 * each[1] + 2 * each[2] + 5 * each[3]) / 10
    assert number(weighted) == pytest.approx(expected, abs=1e-6)
    # Keras has its own.
    kept = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert number(losses.cross_entropy(LABELS, LOGITS)) == pytest.approx(float(kept), abs=1e-6)


def test_the_sum_of_both() -> None:
    found = number(losses.dice_cross_entropy(LABELS, LOGITS, share=0.3))
    dice = number(losses.soft_dice(LABELS, LOGITS))
    entropy = number(losses.cross_entropy(LABELS, LOGITS))
    assert found == pytest.approx(0.3 * dice + 0.7 * entropy, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=8), st.sampled_from(sorted(losses.LOSSES)))
def test_a_perfect_prediction_costs_nothing_and_any_other_more(
    values: list[int], kind: str
) -> None:
    labels = volume(values)
    right = 60.0 * np.eye(4, dtype=np.float32)[labels]
    wrong = 60.0 * np.eye(4, dtype=np.float32)[(labels + 1) % 4]
    loss = LabelLoss(kind)
    assert float(loss(labels, right)) == pytest.approx(0, abs=1e-4)
    # Two classes at least are then wholly wrong; those that are nowhere count as perfect.
    affected = len(set(values) | {(value + 1) % 4 for value in values})
    assert affected >= 2
    if kind == 'soft_dice':
        assert float(loss(labels, wrong)) == pytest.approx(affected / 4, abs=1e-4)
    else:
        assert float(loss(labels, wrong)) > 0.9


def test_each_volume_of_a_batch_counts_the_same() -> None:
    labels = np.concatenate([LABELS, volume([2, 2, 2, 2])])
    logits = np.concatenate([LOGITS, LOGITS])
    for kind, function in losses.LOSSES.items():
        alone = [number(function(labels[i : i + 1], logits[i : i + 1])) for i in (0, 1)]
        assert float(LabelLoss(kind)(labels, logits)) == pytest.approx(sum(alone) / 2, abs=1e-6)


def test_a_loss_survives_being_saved() -> None:
    loss = LabelLoss('dice_cross_entropy', share=0.7, class_weights=[1, 2, 3])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(LABELS, LOGITS)) == float(loss(LABELS, LOGITS))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match='2 class weights given, expected 3'):
        losses.cross_entropy(LABELS, LOGITS, class_weights=[1, 2])
    with pytest.raises(ValueError, match='not known'):
        LabelLoss('dice')


def test_dice_of_each_class_over_batches() -> None:
    metric = ClassDice(3)
    # Most likely classes: 0 1 1 2, then 1 1 0 0.
    metric.update_state(LABELS, LOGITS)
    other = logits_of([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1]])
    metric.update_state(volume([1, 0, 0, 2]), other)
    expected = [2 * 2 / (3 + 3), 2 * 3 / (3 + 4), 2 * 1 / (2 + 1)]
    found = keras.ops.convert_to_numpy(metric.per_class())
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(metric.result()) == pytest.approx((expected[1] + expected[2]) / 2)
    metric.reset_state()
    assert float(metric.result()) == 0
