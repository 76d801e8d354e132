"""Losses against their closed forms on cases small enough to work by hand."""

import math
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.losses import registry as losses
from brainchop_bids.training.losses.registry import LabelLoss, SumLoss, build_loss
from brainchop_bids.training.options import LossOptions, LossTerm


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
    both = losses.soft_dice(LABELS, LOGITS, class_weights=[1, 2, 5], background=False)
    assert number(both) == pytest.approx(1 - (2 * DICE[1] + 5 * DICE[2]) / 7, abs=1e-6)


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


def test_jaccard_by_hand() -> None:
    union = [size - shared for shared, size in zip(SHARED, SIZES, strict=True)]
    index = [shared / both for shared, both in zip(SHARED, union, strict=True)]
    found = number(losses.jaccard(LABELS, LOGITS))
    assert found == pytest.approx(1 - sum(index) / 3, abs=1e-6)
    # Of one class: J = D / (2 - D).
    assert index == pytest.approx([dice / (2 - dice) for dice in DICE])


def test_tversky_by_hand() -> None:
    # Class 2: a half is shared, a half is predicted elsewhere, a half is missed.
    expected = 0.5 / (0.5 + 0.2 * 0.5 + 0.9 * 0.5)
    only = {'class_weights': [0, 0, 1], 'alpha': 0.2, 'beta': 0.9}
    found = number(losses.tversky(LABELS, LOGITS, **only))
    assert found == pytest.approx(1 - expected, abs=1e-6)
    # Class 1: 1.4 shared, 0.55 too much, 0.6 missed; too much must weigh by alpha.
    expected = 1.4 / (1.4 + 0.2 * 0.55 + 0.9 * 0.6)
    only['class_weights'] = [0, 1, 0]
    assert number(losses.tversky(LABELS, LOGITS, **only)) == pytest.approx(1 - expected, abs=1e-6)
    found = number(losses.focal_tversky(LABELS, LOGITS, gamma=2.0, **only))
    assert found == pytest.approx(math.sqrt(1 - expected), abs=1e-6)


def test_focal_by_hand() -> None:
    right = (0.5, 0.6, 0.8, 0.5)
    each = [-((1 - p) ** 2) * math.log(p) for p in right]
    assert number(losses.focal(LABELS, LOGITS)) == pytest.approx(sum(each) / 4, abs=1e-6)
    weighted = number(losses.focal(LABELS, LOGITS, class_weights=[1, 2, 5]))
    expected = (each[0] + 2 * each[1] + 2 * each[2] + 5 * each[3]) / 10
    assert weighted == pytest.approx(expected, abs=1e-6)


def test_boundary_cross_entropy_by_hand() -> None:
    # A row of six, the boundary behind the second: distances 2 1 1 2 3 4.
    labels = volume([0, 0, 1, 1, 1, 1])
    right = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.4])
    table = np.where(
        np.array([[1, 0]] * 2 + [[0, 1]] * 4) == 1, right[:, None], 1 - right[:, None]
    )
    weights = np.array([1 + 6 / 2, 1 + 6, 1 + 6, 1 + 6 / 2, 1, 1])
    expected = -(weights * np.log(right)).sum() / weights.sum()
    found = losses.boundary_cross_entropy(labels, logits_of(table.tolist()), strength=6, reach=2)
    assert number(found) == pytest.approx(expected, abs=1e-6)
    weights[:2] *= 3
    expected = -(weights * np.log(right)).sum() / weights.sum()
    found = losses.boundary_cross_entropy(
        labels, logits_of(table.tolist()), class_weights=[3, 1], strength=6, reach=2
    )
    assert number(found) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (2, 3, 4, 5))
    logits = rng.normal(0, 3, (2, 3, 4, 5, 3)).astype(np.float32)
    dice = losses.soft_dice(labels, logits)
    pairs: list[tuple[Any, Any]] = [
        (losses.tversky(labels, logits, alpha=0.5, beta=0.5), dice),
        (
            losses.tversky(labels, logits, alpha=1.0, beta=1.0),
            losses.jaccard(labels, logits),
        ),
        (losses.focal_tversky(labels, logits, gamma=1.0), losses.tversky(labels, logits)),
        (losses.focal(labels, logits, gamma=0.0), losses.cross_entropy(labels, logits)),
        (
            losses.boundary_cross_entropy(labels, logits, strength=0.0),
            losses.cross_entropy(labels, logits),
        ),
        (losses.dice_cross_entropy(labels, logits, share=1.0), dice),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected), rtol=2e-5
        )


def gradient(function: Any, logits: Any) -> np.ndarray:
    """Return the slope of the sum of a loss, on the backend in use."""
    if keras.backend.backend() == 'tensorflow':
        import tensorflow as tf

        given = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(given)
            total = keras.ops.sum(function(given))
        found = tape.gradient(total, given)
    elif keras.backend.backend() == 'jax':
        import jax

        found = jax.grad(lambda given: function(given).sum())(jax.numpy.asarray(logits))
    else:
        given = keras.ops.convert_to_tensor(logits).requires_grad_()
        function(given).sum().backward()
        found = given.grad
    return np.asarray(keras.ops.convert_to_numpy(found), np.float64)


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('kind', sorted(losses.LOSSES))
def test_slopes_are_finite_at_the_extremes(kind: str, dtype: str) -> None:
    nothing = np.zeros((1, 2, 3, 4), np.int32)
    mixed = np.arange(24, dtype=np.int32).reshape(1, 2, 3, 4) % 3
    for truth in (nothing, mixed):
        for size in (0.0, 1.0, 60.0, 60000.0):
            for turn in (0, 1):
                logits = (size * (2 * np.eye(3)[(truth + turn) % 3] - 1)).astype(dtype)
                slope = gradient(lambda given, y=truth: losses.LOSSES[kind](y, given), logits)
                assert np.isfinite(slope).all(), (size, turn)
    # And there is a slope where there is something to learn.
    assert np.abs(gradient(lambda g: losses.LOSSES[kind](mixed, g), 0 * logits)).max() > 1e-3


@pytest.mark.parametrize(('kind', 'gamma'), [('focal', 0.5), ('focal_tversky', 3.0)])
def test_powers_without_a_slope_at_perfection(kind: str, gamma: float) -> None:
    truth = np.arange(24, dtype=np.int32).reshape(1, 2, 3, 4) % 3
    perfect = (1000 * np.eye(3)[truth]).astype(np.float32)
    slope = gradient(lambda given: losses.LOSSES[kind](truth, given, gamma=gamma), perfect)
    assert np.isfinite(slope).all()


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
    if kind in ('soft_dice', 'jaccard', 'tversky', 'focal_tversky'):
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


def test_a_sum_of_losses() -> None:
    asked = LossOptions(
        terms=(
            LossTerm('tversky', 0.25, {'alpha': 1, 'class_weights': [0, 1, 0]}),
            LossTerm('focal', 2.0, {'gamma': 3.0}),
            LossTerm('generalised_dice', 0.5),
        ),
        class_weights=(1.0, 2.0, 5.0),
    )
    found = build_loss(asked, 3)
    expected = (
        0.25 * number(losses.tversky(LABELS, LOGITS, alpha=1.0, class_weights=[0, 1, 0]))
        + 2 * number(losses.focal(LABELS, LOGITS, gamma=3.0, class_weights=[1, 2, 5]))
        + 0.5 * number(losses.generalised_dice(LABELS, LOGITS))
    )
    assert float(found(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
    assert isinstance(again, SumLoss)
    assert float(again(LABELS, LOGITS)) == float(found(LABELS, LOGITS))
    with pytest.raises(ValueError, match='2 weights given for 1 losses'):
        SumLoss([LabelLoss('focal')], [1, 2])


def test_a_loss_of_one_kind() -> None:
    found = build_loss(
        LossOptions('boundary_cross_entropy', (1.0, 2.0, 5.0), {'strength': 2, 'reach': 1}), 3
    )
    expected = losses.boundary_cross_entropy(
        LABELS, LOGITS, class_weights=[1, 2, 5], strength=2.0, reach=1
    )
    assert float(found(LABELS, LOGITS)) == pytest.approx(number(expected), rel=1e-6)
    assert float(build_loss(LossOptions(), 3)(LABELS, LOGITS)) == pytest.approx(
        number(losses.dice_cross_entropy(LABELS, LOGITS)), rel=1e-6
    )


@pytest.mark.parametrize(
    ('asked', 'said'),
    [
        (LossOptions('jacard'), r"loss\.kind is 'jacard'; did you mean jaccard\?"),
        (
            LossOptions('xyzzy'),
            r"loss\.kind is 'xyzzy'; known: soft_dice, .*, dice_cross_entropy$",
        ),
        (
            LossOptions('focal', options={'gama': 2.0}),
            r'loss\.options\.gama is no option of focal; did you mean loss\.options\.gamma\?',
        ),
        (
            LossOptions('generalised_dice', options={'gamma': 2.0}),
            r'loss\.options\.gamma is no option of generalised_dice; known: none',
        ),
        (
            LossOptions('focal', options={'gamma': -1.0}),
            r'loss\.options\.gamma is -1\.0; .* 0 or more',
        ),
        (LossOptions('focal', options={'gamma': math.nan}), 'a number of 0 or more'),
        (LossOptions('focal', options={'gamma': math.inf}), 'a number of 0 or more'),
        (LossOptions('focal_tversky', options={'gamma': 0.5}), 'a number of 1 or more'),
        (
            LossOptions('dice_cross_entropy', options={'share': 2}),
            r'share is 2\.0; .* from 0 to 1',
        ),
        (
            LossOptions('tversky', options={'background': 1}),
            'background is 1; expected true or false',
        ),
        (
            LossOptions('boundary_cross_entropy', options={'reach': 1.5}),
            r'reach is 1\.5; expected a whole number of 1 or more',
        ),
        (LossOptions('focal', (1.0, 2.0)), r'loss\.class_weights is \(1\.0, 2\.0\); .* list of 3'),
        (LossOptions('focal', (1.0, -2.0, 1.0)), r'loss\.class_weights .* 0 or more'),
        (LossOptions('focal', (0.0, 0.0, 0.0)), r'loss\.class_weights .* not all 0'),
        (
            LossOptions('generalised_dice', (1.0, 1.0, 1.0)),
            r'loss\.class_weights: generalised_dice cannot weigh classes',
        ),
        (
            LossOptions(terms=(LossTerm('focal'), LossTerm('tverski'))),
            r"loss\.terms\[1\]\.kind is 'tverski'; did you mean tversky\?",
        ),
        (
            LossOptions(terms=(LossTerm('focal', 1.0, {'class_weights': [1.0]}),)),
            r'loss\.terms\[0\]\.options\.class_weights is \[1\.0\]; expected a list of 3',
        ),
        (LossOptions(terms=(LossTerm('focal', -1.0),)), r'loss\.terms\[0\]\.weight is -1\.0'),
        (
            LossOptions(terms=(LossTerm('focal'),), options={'gamma': 1.0}),
            r'loss\.options is not looked at',
        ),
    ],
)
def test_what_a_config_asks_wrongly_names_the_key(asked: LossOptions, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        build_loss(asked, 3)
    assert '\n' not in str(caught.value)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match='2 class weights given, expected 3'):
        losses.cross_entropy(LABELS, LOGITS, class_weights=[1, 2])
    with pytest.raises(ValueError, match='not known'):
        LabelLoss('dice')
