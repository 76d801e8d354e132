"""Optimisers, learning rate schedules and weight averages of training configs.

Keras counts batches: schedules and averages of weights advance with each batch, even if gradients
are accumulated over several batches (Keras 3.5 to 3.15,
``BaseOptimizer._get_current_learning_rate`` and ``_update_model_variables_moving_average``). Those
built here count updates, so that accumulation over N batches is equivalent to batches N times as
large.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from ..system.errors import SettingsError
from .choices import require_known
from .options import OptimizerOptions


@keras.saving.register_keras_serializable('brainchop')
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A one-cycle schedule: the learning rate rises and then falls, both along cosines.

    After Smith and Topin (2018), https://arxiv.org/abs/1708.07120.

    Parameters
    ----------
    peak : float
        Largest learning rate.
    steps : int
        Length of the cycle.
    rise : float
        Share of the cycle with a rising learning rate.
    start, end : float
        First and last learning rate, relative to the peak.
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
        """Return the arguments of the constructor."""
        return {
            'peak': self.peak,
            'steps': self.steps,
            'rise': self.rise,
            'start': self.start,
            'end': self.end,
        }


@keras.saving.register_keras_serializable('brainchop')
class PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """Adapts a schedule by updates to an optimiser that counts batches.

    Parameters
    ----------
    schedule : keras.optimizers.schedules.LearningRateSchedule
        Learning rate by update.
    batches : int
        Batches of each update.
    """

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, batches: int
    ) -> None:
        self.schedule, self.batches = schedule, batches

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a batch, which is that of its update."""
        return self.schedule(keras.ops.floor_divide(step, self.batches))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {'schedule': schedule, 'batches': self.batches}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> 'PerUpdate':
        """Build a schedule from the result of `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config['schedule']), config['batches'])


def _cosine(peak: float, updates: int) -> Any:
    """Fall along half a cosine, to 0."""
    return keras.optimizers.schedules.CosineDecay(peak, updates)


def _linear(peak: float, updates: int) -> Any:
    """Fall along a line, to 0."""
    return keras.optimizers.schedules.PolynomialDecay(peak, updates, end_learning_rate=0.0)


def _polynomial(peak: float, updates: int) -> Any:
    """Fall polynomially with the power 0.9, as in nnU-Net (Isensee et al. 2021)."""
    return keras.optimizers.schedules.PolynomialDecay(
        peak, updates, end_learning_rate=0.0, power=0.9
    )


def _halving(peak: float, updates: int) -> Any:
    """Halve after each fifth of the run, four times."""
    return keras.optimizers.schedules.ExponentialDecay(
        peak, math.ceil(updates / 5), decay_rate=0.5, staircase=True
    )


# Functions of the peak and the number of updates.
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
    # Steps are relative to the norm of each layer's weights (You et al. 2020,
    # https://arxiv.org/abs/1904.00962): layers with normalisation folded into them have weights
    # of very different sizes.
    'lamb': keras.optimizers.Lamb,
    'rmsprop': keras.optimizers.RMSprop,
}
_WITH_MOMENTUM = ('sgd', 'rmsprop')


def build_optimizer(
    options: OptimizerOptions, learning_rate: float, steps: int
) -> keras.optimizers.Optimizer:
    """Build the optimiser of a stage.

    Parameters
    ----------
    options : OptimizerOptions
        The ``[optimizer]`` table.
    learning_rate : float
        Largest learning rate of the schedule.
    steps : int
        Batches of the stage. The schedule has ``steps // options.accumulate`` updates;
        remaining batches at the end of the stage have no effect.

    Returns
    -------
    keras.optimizers.Optimizer
        Not built yet. Its ``variables`` include averages and accumulated gradients. SGD has
        plain, not Nesterov momentum. Weight decay is decoupled from the gradient (Loshchilov
        and Hutter 2019, https://arxiv.org/abs/1711.05101) and applies to all trained variables.
        Gradients are clipped after accumulation.

    Raises
    ------
    SettingsError
        If a name is unknown or a number is out of range; the message names the key.
    """
    _check(options, learning_rate, steps)
    schedule = SCHEDULES[options.schedule](learning_rate, steps // options.accumulate)
    more: dict[str, Any] = {'clipnorm': options.clip or None}
    if options.accumulate > 1:
        more['gradient_accumulation_steps'] = options.accumulate
        if not isinstance(schedule, float):
            schedule = PerUpdate(schedule, options.accumulate)
    if options.ema:
        # Keras updates the average with each batch; together these updates have this momentum.
        more |= {'use_ema': True, 'ema_momentum': options.ema ** (1 / options.accumulate)}
    if options.name in _WITH_MOMENTUM:
        more['momentum'] = options.momentum
    # Keras' AdamW does not accept None, which means 0 for the others.
    if options.weight_decay or options.name == 'adamw':
        more['weight_decay'] = options.weight_decay
    return OPTIMIZERS[options.name](schedule, **more)


def _check(options: OptimizerOptions, learning_rate: float, steps: int) -> None:
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


def average_statistics(model: Any, decay: float) -> None:
    """Make moving statistics of batch normalisation averages over as many steps as weights.

    Averaged weights have other activations than the latest ones: with the statistics of these,
    a network that is trained with a high learning rate finds nothing.

    Parameters
    ----------
    model : keras.Model
        Model before it is compiled. Layers with a longer memory keep it.
    decay : float
        Decay of the average of weights; 0 for none.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = max(layer.momentum, decay)


@contextmanager
def averaged_weights(model: Any) -> Iterator[Any]:
    """Temporarily replace a model's weights by their averages.

    Parameters
    ----------
    model : keras.Model
        Compiled model. It is unchanged without averages (``optimizer.ema`` is 0) or before the
        first update. In a callback, call this at the end of an epoch, when Keras has updated
        the variables on all backends.

    Yields
    ------
    keras.Model
        The same model with averaged weights. Moving statistics of batch normalisation are
        averages over as many steps, see `average_statistics`, and stay unchanged. Do not save
        checkpoints inside.

    Notes
    -----
    Weights are restored exactly, and the optimiser's variables are not touched, so that training
    is not affected. (With TensorFlow, `keras.callbacks.SwapEMAWeights` swaps by addition and
    subtraction, with rounding errors.)
    """
    variables = model.trainable_variables
    kept = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    apply_average(model)
    try:
        yield model
    finally:
        for variable, values in zip(variables, kept, strict=True):
            variable.assign(values)


def apply_average(model: Any) -> None:
    """Replace a model's weights by their averages, at the end of a stage.

    Keras' ``fit`` also does so before it returns, after the callbacks of the last epoch, but not
    in a run that is resumed after the last step of a stage. Repeated calls change nothing.

    Parameters
    ----------
    model : keras.Model
        Compiled model. It is unchanged without averages or before the first update.
    """
    optimizer = model.optimizer
    # Averages are 0 before the first update.
    if optimizer.built and int(keras.ops.convert_to_numpy(optimizer.iterations)) > 0:
        optimizer.finalize_variable_values(model.trainable_variables)
        for variable in model.trainable_variables:
            # Averages of values that a constraint keeps differ from these by rounding.
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
