"""Optimisers and schedules that a training config may name, and averages of weights.

Keras counts batches: its schedules are asked for the learning rate of a batch, and its average
moves on with each, even where the gradients of several batches are gathered for one update
(Keras 3.5 to 3.15, ``BaseOptimizer._get_current_learning_rate`` and
``_update_model_variables_moving_average``). What is built here counts updates, so that a run
that gathers N batches is the run with batches N times as large.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from ..system.errors import SettingsError
from .choices import require_known
from .options import Optimizer


@keras.saving.register_keras_serializable('brainchop')
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises for a while and then falls to next to nothing, along cosines.

    After Smith and Topin (2018), https://arxiv.org/abs/1708.07120.

    Parameters
    ----------
    peak : float
        The largest learning rate.
    steps : int
        Length of the cycle.
    rise : float
        Share of the cycle in which it rises.
    start, end : float
        First and last learning rate as shares of the peak.
    """

    def __init__(
        self, peak: float, steps: int, rise: float = 0.15, start: float = 0.1, end: float = 0.01
    ) -> None:
        self.peak, self.steps, self.rise, self.start, self.end = peak, steps, rise, start, end

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step."""
        step = keras.ops.cast(step, 'float32')
        top = max(1.0, self.rise * self.steps)
        up = keras.ops.clip(step / top, 0, 1)
        down = keras.ops.clip((step - top) / max(1.0, self.steps - top), 0, 1)
        rising = self.start + (1 - self.start) * (1 - keras.ops.cos(np.pi * up)) / 2
        falling = self.end + (1 - self.end) * (1 + keras.ops.cos(np.pi * down)) / 2
        return self.peak * keras.ops.where(step < top, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this schedule again."""
        return {
            'peak': self.peak,
            'steps': self.steps,
            'rise': self.rise,
            'start': self.start,
            'end': self.end,
        }


@keras.saving.register_keras_serializable('brainchop')
class PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of updates for an optimiser that counts batches.

    Parameters
    ----------
    schedule : keras.optimizers.schedules.LearningRateSchedule
        Learning rate by update.
    batches : int
        Batches whose gradients make one update.
    """

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, batches: int
    ) -> None:
        self.schedule, self.batches = schedule, batches

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a batch: that of the update it belongs to."""
        return self.schedule(keras.ops.floor_divide(step, self.batches))

    def get_config(self) -> dict[str, Any]:
        """Return what makes this schedule again."""
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {'schedule': schedule, 'batches': self.batches}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> 'PerUpdate':
        """Make a schedule of what `get_config` returned."""
        return cls(keras.saving.deserialize_keras_object(config['schedule']), config['batches'])


def _cosine(peak: float, updates: int) -> Any:
    """Fall along half a cosine, to 0."""
    return keras.optimizers.schedules.CosineDecay(peak, updates)


def _linear(peak: float, updates: int) -> Any:
    """Fall along a line, to 0."""
    return keras.optimizers.schedules.PolynomialDecay(peak, updates, end_learning_rate=0.0)


def _polynomial(peak: float, updates: int) -> Any:
    """Fall as what is left of the run to the power of 0.9, as nnU-Net's (Isensee et al. 2021)."""
    return keras.optimizers.schedules.PolynomialDecay(
        peak, updates, end_learning_rate=0.0, power=0.9
    )


def _halving(peak: float, updates: int) -> Any:
    """Halve four times, after each fifth of the run."""
    return keras.optimizers.schedules.ExponentialDecay(
        peak, math.ceil(updates / 5), decay_rate=0.5, staircase=True
    )


# Of the peak and the number of updates; each function says in a line what its schedule does.
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    'one_cycle': OneCycle,
    'constant': lambda peak, updates: peak,
    'cosine': _cosine,
    'linear': _linear,
    'polynomial': _polynomial,
    'halving': _halving,
}


OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    'sgd': keras.optimizers.SGD,
    'adam': keras.optimizers.Adam,
    'adamw': keras.optimizers.AdamW,
    'rmsprop': keras.optimizers.RMSprop,
}
_WITH_MOMENTUM = ('sgd', 'rmsprop')


def build_optimizer(
    options: Optimizer, learning_rate: float, steps: int
) -> keras.optimizers.Optimizer:
    """Make the optimiser of a stage.

    Parameters
    ----------
    options : Optimizer
        What the config asks for.
    learning_rate : float
        The largest of the schedule.
    steps : int
        Batches of the stage. ``steps // options.accumulate`` updates are the length of the
        schedule; batches left over at the end of a stage change nothing.

    Returns
    -------
    keras.optimizers.Optimizer
        Not built yet. Averages and gathered gradients are among its ``variables``. SGD has
        plain, not Nesterov's momentum; weight decay is decoupled from the gradient for all
        (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) and reaches all trained
        variables; gradients are clipped after they are averaged over batches.

    Raises
    ------
    SettingsError
        Naming the key: for a name that is not known or a number out of range.
    """
    _check(options, learning_rate, steps)
    schedule = SCHEDULES[options.schedule](learning_rate, steps // options.accumulate)
    more: dict[str, Any] = {'clipnorm': options.clip or None}
    if options.accumulate > 1:
        more['gradient_accumulation_steps'] = options.accumulate
        if not isinstance(schedule, float):
            schedule = PerUpdate(schedule, options.accumulate)
    if options.ema:
        # Keras moves the average with each batch; so many moves make one of the size asked for.
        more |= {'use_ema': True, 'ema_momentum': options.ema ** (1 / options.accumulate)}
    if options.name in _WITH_MOMENTUM:
        more['momentum'] = options.momentum
    # Keras' AdamW refuses None, and takes 0 for what the others take None for.
    if options.weight_decay or options.name == 'adamw':
        more['weight_decay'] = options.weight_decay
    return OPTIMIZERS[options.name](schedule, **more)


def _check(options: Optimizer, learning_rate: float, steps: int) -> None:
    require_known('optimizer.name', options.name, OPTIMIZERS)
    require_known('optimizer.schedule', options.schedule, SCHEDULES)
    checks = [
        (0 <= options.momentum < 1, 'momentum', '0 or more and below 1'),
        (0 <= options.weight_decay < math.inf, 'weight_decay', '0 or more'),
        (0 <= options.clip < math.inf, 'clip', '0 for no limit, or more'),
        (options.accumulate >= 1, 'accumulate', '1 or more'),
        (0 <= options.ema < 1, 'ema', '0 for none, or more and below 1'),
    ]
    for holds, name, expected in checks:
        if not holds:
            raise SettingsError(
                f'optimizer.{name} is {getattr(options, name)}; expected {expected}'
            )
    if not 0 < learning_rate < math.inf:
        raise SettingsError(f'learning_rate is {learning_rate}; expected a number above 0')
    if steps < options.accumulate:
        raise SettingsError(
            f'optimizer.accumulate is {options.accumulate}, but a stage has {steps} steps only: '
            'its weights would never change'
        )


@contextmanager
def averaged(model: Any) -> Iterator[Any]:
    """Give a model the averages of its weights for a while.

    Parameters
    ----------
    model : keras.Model
        Compiled. Without averages (``optimizer.ema`` is 0), or before the first update,
        nothing changes. In a callback, use it at the end of an epoch, where Keras has brought
        the variables up to date on any backend.

    Yields
    ------
    keras.Model
        The same, with averaged weights. Its moving statistics of batch normalisation stay as
        they are: they are averages already. Do not save states of the run in here.

    Notes
    -----
    Weights come back bit by bit, and the optimiser's variables are left alone, so that a run
    goes on as if nothing had been. (`keras.callbacks.SwapEMAWeights` swaps by adding and
    subtracting with TensorFlow, which rounds.)
    """
    variables = model.trainable_variables
    kept = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    take_average(model)
    try:
        yield model
    finally:
        for variable, values in zip(variables, kept, strict=True):
            variable.assign(values)


def take_average(model: Any) -> None:
    """Give a model the averages of its weights for good, as at the end of a stage.

    Keras' ``fit`` does so too before it returns, after the callbacks of its last epoch; a run
    that is resumed behind the last step of a stage never gets there. Doing it twice changes
    nothing.

    Parameters
    ----------
    model : keras.Model
        Compiled. Without averages, or before the first update, nothing changes.
    """
    optimizer = model.optimizer
    # Averages are zeros until the first update has been averaged.
    if optimizer.built and int(keras.ops.convert_to_numpy(optimizer.iterations)) > 0:
        optimizer.finalize_variable_values(model.trainable_variables)
