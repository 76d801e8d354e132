"""Optimisers: what is gathered equals what is done at once, and averages disturb nothing."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.checkpoints import load_state, save_state
from brainchop_bids.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    OneCycle,
    apply_average,
    average_statistics,
    averaged_weights,
    build_optimizer,
)
from brainchop_bids.training.options import OptimizerOptions
from brainchop_bids.training.stages import BatchNormalization, recompute_statistics

PLAIN = OptimizerOptions('sgd', 'constant', momentum=0.0, clip=0.0)


@pytest.fixture(scope='module')
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(24, 3)).astype(np.float32)
    return x, np.sin(x @ rng.normal(size=(3, 2))).astype(np.float32)


def network(options: OptimizerOptions, steps: int, rate: float = 0.05, **more: Any) -> keras.Model:
    """Return a tiny network without batch normalisation, always with the same weights."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((3,)), keras.layers.Dense(4, 'tanh'), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.compile(build_optimizer(options, rate, steps), 'mse', **more)
    return model


def batches(points: tuple[np.ndarray, np.ndarray], size: int) -> Iterator[tuple[Any, Any]]:
    """Go through the points, again and again."""
    x, y = points
    while True:
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]


def weights(model: keras.Model) -> np.ndarray:
    return np.concatenate([values.ravel() for values in model.get_weights()])


def state(model: keras.Model) -> list[np.ndarray]:
    """Return all that a checkpoint holds."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    """Tell whether two states are the same, bit by bit."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    'options',
    [
        OptimizerOptions('sgd', 'cosine', weight_decay=0.1, clip=0.05, ema=0.8),
        OptimizerOptions('adam', 'one_cycle', clip=1.0, ema=0.5),
    ],
)
def test_batches_gathered_equal_one_that_is_as_large(
    points: tuple[np.ndarray, np.ndarray], options: OptimizerOptions
) -> None:
    whole = network(options, steps=6)
    parts = network(replace(options, accumulate=4), steps=6 * 4)
    before = weights(whole)
    # fit, as training does; it ends with the averages in place of the weights.
    whole.fit(batches(points, 12), steps_per_epoch=6, verbose=0)
    last = {}

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            last['weights'] = weights(self.model)

    parts.fit(batches(points, 3), steps_per_epoch=6 * 4, verbose=0, callbacks=[Watch()])
    assert np.abs(weights(whole) - before).max() > 0.01
    # The average of gathered batches has made one of four small moves towards the last weights;
    # the other three would come with the batches that follow.
    move = options.ema ** (1 / 4)
    settled = move**3 * weights(parts) + (1 - move**3) * last['weights']
    np.testing.assert_allclose(settled, weights(whole), rtol=1e-4, atol=1e-6)


def changes(options: OptimizerOptions, rate: float, steps: int) -> list[float]:
    """Return by how much each batch with a gradient of -1 changes a weight."""
    optimizer = build_optimizer(options, rate, steps)
    weight = keras.Variable(np.zeros(1, np.float32))
    values = [0.0]
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(np.full(1, -1, np.float32))], [weight])
        values.append(float(keras.ops.convert_to_numpy(weight.value)[0]))
    return np.diff(values).tolist()


def test_a_schedule_counts_updates_and_not_batches() -> None:
    found = changes(replace(PLAIN, schedule='linear', accumulate=3), 0.4, 12)
    assert found == pytest.approx([0, 0, 0.4, 0, 0, 0.3, 0, 0, 0.2, 0, 0, 0.1], abs=1e-6)
    assert changes(replace(PLAIN, schedule='linear'), 0.4, 4) == pytest.approx(
        [0.4, 0.3, 0.2, 0.1], abs=1e-6
    )


def test_one_cycle_rises_and_falls() -> None:
    schedule = OneCycle(2.0, 100, rise=0.25, start=0.1, end=0.01)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[25] == pytest.approx(2.0)
    assert rates[100] == pytest.approx(0.02)
    # Half way along a cosine is the mean of its ends.
    assert float(schedule(12.5)) == pytest.approx((0.2 + 2.0) / 2)
    assert np.all(np.diff(rates[:26]) > 0)
    assert np.all(np.diff(rates[25:]) < 0)
    assert OneCycle.from_config(schedule.get_config())(7) == schedule(7)


@pytest.mark.parametrize(
    ('name', 'closed_form'),
    [
        ('constant', lambda done: 1.0),
        ('cosine', lambda done: (1 + math.cos(math.pi * done)) / 2),
        ('linear', lambda done: 1 - done),
        ('polynomial', lambda done: (1 - done) ** 0.9),
        ('halving', lambda done: 0.5 ** math.floor(5 * done + 1e-9)),
    ],
)
def test_the_other_schedules(name: str, closed_form: Any) -> None:
    schedule = SCHEDULES[name](3.0, 50)
    rates = [schedule if name == 'constant' else float(schedule(step)) for step in range(50)]
    expected = [3 * closed_form(step / 50) for step in range(50)]
    assert rates == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('name', sorted(OPTIMIZERS))
@pytest.mark.parametrize('schedule', sorted(SCHEDULES))
def test_all_that_may_be_named_can_be_built_and_saved(name: str, schedule: str) -> None:
    options = OptimizerOptions(name, schedule, 0.7, 0.01, 0.5, 2, 0.25)
    optimizer = build_optimizer(options, 0.1, 10)
    config = optimizer.get_config()
    assert config['clipnorm'] == 0.5
    assert config['weight_decay'] == 0.01
    assert config['gradient_accumulation_steps'] == 2
    assert config['ema_momentum'] == pytest.approx(0.5)
    assert config.get('momentum', 0.7) == 0.7
    assert not config.get('nesterov')
    # keras.optimizers.deserialize of Keras 3.15 does not know Lamb.
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    rates = [float(keras.ops.convert_to_numpy(o.learning_rate)) for o in (optimizer, again)]
    assert rates[0] == rates[1]
    assert 0 < rates[0] <= 0.1 + 1e-6
    bare = build_optimizer(OptimizerOptions(name, schedule, clip=0.0), 0.1, 10).get_config()
    assert bare['clipnorm'] is None
    assert not bare['use_ema']
    assert not bare['weight_decay']


def test_the_average_by_hand() -> None:
    optimizer = build_optimizer(replace(PLAIN, ema=0.75), 1.0, 4)
    weight = keras.Variable(np.zeros(1, np.float32))
    for gradient in (-8.0, -4.0, 16.0):
        optimizer.apply([keras.ops.convert_to_tensor(np.full(1, gradient, np.float32))], [weight])
    # Weights 8, 12, -4; the average begins with the first.
    average = next(v for v in optimizer.variables if v.path.endswith('average'))
    expected = 0.75 * (0.75 * 8 + 0.25 * 12) + 0.25 * -4
    assert float(keras.ops.convert_to_numpy(average.value)[0]) == pytest.approx(expected)


def test_averages_come_and_go_and_a_resumed_run_is_the_same(
    points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    options = OptimizerOptions('adam', 'cosine', accumulate=2, ema=0.9)
    # Not compiled, for speed: nothing here depends on it.
    model = network(options, steps=10, run_eagerly=True)
    resumed = network(options, steps=10, run_eagerly=True)
    untrained = weights(model)
    with averaged_weights(model):
        assert (weights(model) == untrained).all()
    given = list(zip(range(10), batches(points, 6), strict=False))
    # Odd, so that a gradient is half gathered.
    for _, (x, y) in given[:5]:
        model.train_on_batch(x, y)
    raw, before = weights(model), state(model)
    with averaged_weights(model) as same_model:
        assert same_model is model
        inside = weights(model)
        score = model.evaluate(*points, verbose=0)
    assert same(state(model), before)
    assert np.abs(inside - raw).max() > 1e-3
    assert score != model.evaluate(*points, verbose=0)
    with pytest.raises(ZeroDivisionError), averaged_weights(model):
        raise ZeroDivisionError
    assert same(state(model), before)

    load_state(save_state(tmp_path, 0, 5, model), resumed)
    for _, (x, y) in given[5:]:
        for each in (model, resumed):
            each.train_on_batch(x, y)
    assert same(state(resumed), state(model))
    with averaged_weights(model):
        expected = weights(model)
    for _ in range(2):
        apply_average(resumed)
        assert (weights(resumed) == expected).all()


def test_fit_ends_with_the_average_that_a_state_behind_the_last_step_gives(
    points: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    options = OptimizerOptions('sgd', 'constant', ema=0.9)
    model, resumed = (network(options, steps=3, run_eagerly=True) for _ in range(2))

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            save_state(tmp_path, 0, 3, self.model)

    model.fit(batches(points, 6), steps_per_epoch=3, verbose=0, callbacks=[Keep()])
    load_state(next(tmp_path.iterdir()), resumed)
    assert (weights(resumed) != weights(model)).any()
    apply_average(resumed)
    assert (weights(resumed) == weights(model)).all()


def test_averages_behind_the_scaling_of_half_precision(
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    model = network(replace(PLAIN, ema=0.9), steps=4, run_eagerly=True)
    # What compile does for mixed_float16.
    model.optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=8.0)
    for _, (x, y) in zip(range(4), batches(points, 6), strict=False):
        model.train_on_batch(x, y)
    raw, before = weights(model), state(model)
    with averaged_weights(model):
        assert np.abs(weights(model) - raw).max() > 1e-4
    assert same(state(model), before)


def test_averaged_weights_have_the_statistics_of_their_activations() -> None:
    ema, rng = 0.99, np.random.default_rng(0)
    x = rng.normal(size=(4000, 8)).astype(np.float32)
    y = np.argmax(x @ rng.normal(size=(8, 4)), axis=1)
    losses = []
    for averaged in (False, True):
        keras.utils.set_random_seed(3)
        layers: list[Any] = [keras.Input((8,))]
        for _ in range(4):
            layers += [keras.layers.Dense(32, use_bias=False)]
            layers += [keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
        model = keras.Sequential([*layers, keras.layers.Dense(4)])
        if averaged:
            average_statistics(model, ema)
        # Weights move far in each step.
        optimizer = build_optimizer(OptimizerOptions('adam', 'constant', ema=ema), 0.05, 300)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        model.fit(batches((x, y), 40), steps_per_epoch=300, verbose=0)
        losses.append(model.evaluate(x, y, batch_size=500, verbose=0))
    assert losses[1] < 0.8 * losses[0]


def test_statistics_of_averaged_weights_are_recomputed() -> None:
    x = np.random.default_rng(1).normal(2, 3, (200, 8)).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(6),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(4),
            BatchNormalization(),
        ]
    )
    dense, trained, fixed = model.layers[0], model.layers[1], model.layers[-1]
    before = [np.array(values) for values in fixed.get_weights()]
    recompute_statistics(model, np.split(x, 5))
    _, _, mean, variance = trained.get_weights()
    kernel, bias = dense.get_weights()
    values = (x @ kernel + bias).reshape(5, 40, 6)
    np.testing.assert_allclose(mean, values.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, values.var(1).mean(0), rtol=1e-4)
    assert trained.momentum == 0.99
    for now, then in zip(fixed.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_without_averages_nothing_is_swapped(points: tuple[np.ndarray, np.ndarray]) -> None:
    model = network(PLAIN, steps=1, run_eagerly=True)
    model.train_on_batch(points[0], points[1])
    before = weights(model)
    with averaged_weights(model):
        assert (weights(model) == before).all()
    apply_average(model)
    assert (weights(model) == before).all()


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (OptimizerOptions('adamm'), r"optimizer\.name is 'adamm'; did you mean adam\?"),
        (OptimizerOptions('lbfgs-b'), 'known: sgd, adam, adamw, lamb, rmsprop'),
        (OptimizerOptions(schedule='onecycle'), 'did you mean one_cycle'),
        (
            OptimizerOptions(momentum=1.0),
            r'optimizer\.momentum is 1\.0; expected 0 or more and below 1',
        ),
        (OptimizerOptions(momentum=math.nan), r'optimizer\.momentum is nan'),
        (OptimizerOptions(weight_decay=-0.1), r'optimizer\.weight_decay is -0\.1'),
        (OptimizerOptions(clip=math.inf), r'optimizer\.clip is inf; expected 0 for no limit'),
        (OptimizerOptions(accumulate=0), r'optimizer\.accumulate is 0; expected 1 or more'),
        (OptimizerOptions(accumulate=11), r'accumulate is 11, but a stage has 10 steps only'),
        (OptimizerOptions(ema=1.0), r'optimizer\.ema is 1\.0'),
    ],
)
def test_what_is_out_of_range_names_the_key(options: OptimizerOptions, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        build_optimizer(options, 0.1, 10)
    assert '\n' not in str(caught.value)


def test_a_learning_rate_of_nothing_is_refused() -> None:
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(SettingsError, match='learning_rate is'):
            build_optimizer(OptimizerOptions(), rate, 10)
