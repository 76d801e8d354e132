"""The training loop: stages of Keras' `fit`, each of which can be killed and resumed anywhere."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import BrainchopError, SettingsError
from ..models.mapping import read_mapping
from ..publish import write_text
from ..resources import available_cpus
from .checkpoints import list_states, load_state, save_state
from .config import TrainConfig, read_config
from .generate import CubeSource, Pair
from .losses import LabelLoss
from .metrics import ClassDice
from .network import build_stage, take_over
from .optimizers import OneCycle
from .record import Record, Row

CONFIG = 'config.toml'
CHECKPOINTS = 'checkpoints'


@dataclass
class Clock:
    """Tells a run when to stop.

    Parameters
    ----------
    deadline : float or None
        In `time.monotonic`'s seconds.
    asked : bool
        Set by a signal.
    """

    deadline: float | None = None
    asked: bool = False

    @property
    def over(self) -> bool:
        """Whether the next step should not begin."""
        return self.asked or (self.deadline is not None and time.monotonic() >= self.deadline)


def train(config: TrainConfig, out: Path, clock: Clock | None = None) -> Any:
    """Train a network, or go on with it.

    Parameters
    ----------
    config : TrainConfig
        The run.
    out : Path
        Its folder: config, checkpoints, log and TensorBoard's files. What it holds of the same
        run is taken up.
    clock : Clock, optional
        Stops the run at the next step, with a checkpoint.

    Returns
    -------
    keras.Model or None
        The network of the last stage; None where the clock stopped the run.

    Raises
    ------
    SettingsError
        Where the folder holds a run of another config.
    BrainchopError
        Where the loss is no longer a number.
    DatasetError, InputError, ModelError, OutputError
        For label maps and files that cannot be used.
    """
    clock = clock or Clock()
    _check_folder(config, out)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    classes = read_mapping(config.data.mapping).classes
    networks = _networks(config, classes)
    done = list_states(out / CHECKPOINTS)
    first, step, path = done[-1] if done else (0, 0, None)
    workers = config.workers or max(1, int(available_cpus().amount) - 1)
    with CubeSource(config, workers) as source, Record(config, out, classes) as record:
        write_text(out / CONFIG, config.to_toml())
        record.resume(_global_step(config, first, step))
        previous = None
        for number in range(first, len(config.stages)):
            model = networks(number)
            if number == first and path is not None:
                load_state(path, model)
            elif previous is not None:
                take_over(previous, model)
            begin = step if number == first else 0
            if begin < config.stages[number].steps:
                _fit(config, out, number, begin, model, source, record, clock)
            if clock.over and not _complete(config, number, out):
                return None
            previous = model
    return previous


def _check_folder(config: TrainConfig, out: Path) -> None:
    """Refuse a folder in which another run has got somewhere."""
    path = out / CONFIG
    if path.exists() and list_states(out / CHECKPOINTS) and read_config(path) != config:
        raise SettingsError(
            f'{out}: holds a run of another config ({path}); choose another --out, or remove it'
        )


def _networks(config: TrainConfig, classes: int) -> Any:
    """Return what builds and compiles a stage's network."""

    def build(number: int) -> Any:
        stage = config.stages[number]
        model = build_stage(config.model, stage, classes)
        options: dict[str, Any] = {}
        if config.loss.class_weights:
            options['class_weights'] = config.loss.class_weights
        optimizer = keras.optimizers.Adam(OneCycle(stage.learning_rate, stage.steps), clipnorm=1.0)
        model.compile(
            optimizer, LabelLoss(config.loss.kind, **options), metrics=[ClassDice(classes)]
        )
        return model

    # What does not fit together must not come up after hours.
    given = {'loss.class_weights': config.loss.class_weights, 'card.labels': config.card.labels}
    for key, values in given.items():
        if values and len(values) != classes:
            raise SettingsError(
                f'{key} has {len(values)} entries; the table {config.data.mapping} makes '
                f'{classes} classes'
            )
    for stage in config.stages:
        build_stage(config.model, stage, classes)
    return build


def _global_step(config: TrainConfig, number: int, step: int) -> int:
    return sum(stage.steps for stage in config.stages[:number]) + step


def _complete(config: TrainConfig, number: int, out: Path) -> bool:
    """Tell whether the last stage has been trained to its end."""
    states = list_states(out / CHECKPOINTS)
    last = len(config.stages) - 1
    return bool(states) and states[-1][:2] == (last, config.stages[last].steps)


def _fit(
    config: TrainConfig,
    out: Path,
    number: int,
    begin: int,
    model: Any,
    source: CubeSource,
    record: Record,
    clock: Clock,
) -> None:
    stage = config.stages[number]
    keeper = _Keeper(config, out, number, begin, source.validation(number), record, clock)
    batches = source.batches(number, begin)
    # An epoch is what lies between two checkpoints; the last one may be shorter.
    rounds = -(-(stage.steps - begin) // config.checkpoint_every)
    model.fit(
        _steps(batches, stage.steps - begin),
        steps_per_epoch=config.checkpoint_every,
        epochs=rounds,
        verbose=0,
        callbacks=[keeper],
    )
    if keeper.failure is not None:
        raise keeper.failure


def _steps(batches: Iterator[Pair], count: int) -> Iterator[Pair]:
    """Give the batches that are left, and then the last one again: Keras looks ahead."""
    pair = None
    for pair in itertools.islice(batches, count):
        yield pair
    while pair is not None:
        yield pair


class _Keeper(keras.callbacks.Callback):
    """Counts steps, keeps checkpoints and the record, and stops where it must."""

    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        number: int,
        begin: int,
        validation: list[Pair],
        record: Record,
        clock: Clock,
    ) -> None:
        super().__init__()
        self.config, self.number, self.step = config, number, begin
        self.folder = out / CHECKPOINTS
        self.validation, self.record, self.clock = validation, record, clock
        self.failure: BrainchopError | None = None

    @property
    def stage_steps(self) -> int:
        return self.config.stages[self.number].steps

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1
        now = _global_step(self.config, self.number, self.step)
        loss = float((logs or {})['loss'])
        if not np.isfinite(loss):
            self.failure = BrainchopError(
                f'training: the loss is {loss} at step {now}; lower the learning rate. The last '
                f'good checkpoint lies in {self.folder}'
            )
        self.record.tick(now, loss)
        if self.failure or self.step >= self.stage_steps or self.clock.over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.failure:
            return
        logs = logs or {}
        metric = next(m for m in _metrics(self.model) if isinstance(m, ClassDice))
        found = [self._predict(image) for image, _ in self.validation]
        row = Row(
            stage=self.number,
            step=_global_step(self.config, self.number, self.step),
            learning_rate=float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            loss=float(logs['loss']),
            dice=[float(d) for d in keras.ops.convert_to_numpy(metric.per_class())],
            validation_dice=_dice(found, self.validation, metric.classes),
        )
        save_state(self.folder, self.number, self.step, self.model)
        self.record.add(row)
        stride = self.config.stages[self.number].stride
        self.record.pictures(row.step, self.validation, found, stride)

    def _predict(self, image: np.ndarray) -> np.ndarray:
        logits = self.model.predict_on_batch(image)
        return np.argmax(logits, axis=-1).astype(np.uint8)


def _metrics(model: Any) -> Iterator[Any]:
    """Go through a model's metrics, those that Keras wraps in one included."""
    for metric in model.metrics:
        yield metric
        yield from getattr(metric, 'metrics', [])


def _dice(found: list[np.ndarray], pairs: list[Pair], classes: int) -> list[float]:
    """Return the Dice of each class over all pairs; NaN where there is nothing."""
    if not pairs:
        return [float('nan')] * classes
    truth = np.concatenate([labels.ravel() for _, labels in pairs])
    guess = np.concatenate([labels.ravel() for labels in found])
    counts = np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid='ignore'):
        dice = 2 * np.diag(counts) / (counts.sum(0) + counts.sum(1))
    return [float(value) for value in dice]
