"""The Keras callback of a training stage: step counts, checkpoints, log and validation."""

import itertools
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from ..system.errors import BrainchopError
from .checkpoints import save_state
from .config import TrainConfig
from .data.loader import Batch, PatchLoader
from .export import write_model
from .losses.subvoxels import logits_of, whole_network
from .metrics import ClassDice
from .optimizers import averaged_weights
from .options import Stage
from .report.log import LogRow, TrainingLog
from .report.scores import Patience, best_step, mean
from .stages import trained_network
from .validate import Validator, class_dice, preserve_state

CHECKPOINTS = 'checkpoints'
# Model folder of the network with the best validation score.
BEST = 'best'


@dataclass
class StopCondition:
    """Condition under which a run stops before its end.

    Parameters
    ----------
    deadline : float or None
        Time in seconds, as `time.monotonic` counts them.
    requested : bool
        Set by a signal handler.
    """

    deadline: float | None = None
    requested: bool = False

    @property
    def met(self) -> bool:
        """Whether to stop before the next step."""
        return self.requested or (self.deadline is not None and time.monotonic() >= self.deadline)


@dataclass
class Progress:
    """Position of a run.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    number : int
        Index of the current stage.
    step : int
        Steps done in this stage.
    steps_before : int
        Steps of all earlier stages.
    """

    config: TrainConfig
    number: int
    step: int
    steps_before: int

    @property
    def stage(self) -> Stage:
        """Options of the current stage."""
        return self.config.stages[self.number]

    @property
    def global_step(self) -> int:
        """Steps done in all stages."""
        return self.steps_before + self.step

    def patience(self, means: Mapping[int, float]) -> Patience:
        """Return the patience that is left after this stage's validations."""
        last = self.steps_before + self.stage.steps
        return Patience.of(self.config.validation.patience, means, self.steps_before, last)


class StageTrainer(keras.callbacks.Callback):
    """Trains a stage, as the callback of its own `keras.Model.fit`.

    Parameters
    ----------
    progress : Progress
        Position to begin at; updated with each step.
    out : Path
        Folder of the run.
    loader : PatchLoader
        Source of batches.
    log : TrainingLog
        Log of the run.
    stop : StopCondition
        Stops the run early, with a checkpoint.
    validator : Validator or None
        Scores whole volumes.
    """

    def __init__(
        self,
        progress: Progress,
        out: Path,
        loader: PatchLoader,
        log: TrainingLog,
        stop: StopCondition,
        validator: Validator | None,
    ) -> None:
        super().__init__()
        self.progress, self.config, self.out = progress, progress.config, out
        self.loader, self.log, self.stop = loader, log, stop
        self.validator = validator
        self.validation = loader.validation(progress.number)
        self.failure: BrainchopError | None = None
        self.whole: Any = None
        self.out_of_patience = False

    @property
    def ended(self) -> bool:
        """Whether the stage is complete, or has stopped early for lack of improvement."""
        return self.out_of_patience or self.progress.step >= self.progress.stage.steps

    def fit(self, model: Any) -> None:
        """Train a model until the stage is complete or the stop condition is met.

        Parameters
        ----------
        model : keras.Model
            Compiled model of the stage.

        Raises
        ------
        BrainchopError
            If the loss is not finite.
        """
        self.whole = whole_network(model)
        progress, every = self.progress, self.config.checkpoint_every
        left = progress.stage.steps - progress.step
        batches = self.loader.batches(progress.number, progress.step)
        # An epoch lasts from one checkpoint to the next; the last one may be shorter.
        model.fit(
            _steps(batches, left),
            steps_per_epoch=every,
            epochs=-(-left // every),
            verbose=0,
            callbacks=[self],
        )
        if self.failure is not None:
            raise self.failure

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count a step and check its loss."""
        progress = self.progress
        loss = float((logs or {})['loss'])
        if not np.isfinite(loss):
            files = '; '.join(self.loader.names(progress.number, progress.step))
            self.failure = BrainchopError(
                f'training: the loss is {loss} at step {progress.global_step + 1}, on cubes of '
                f'{files}; lower the learning rate, or check these files. The last checkpoint is '
                f'in {self.out / CHECKPOINTS}'
            )
        progress.step += 1
        self.log.tick(progress.global_step, loss)
        if self.failure or self.ended or self.stop.met:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score the validation patches, log, and write a checkpoint."""
        if self.failure:
            return
        progress, logs = self.progress, logs or {}
        metric = next(m for m in _metrics(self.model) if isinstance(m, ClassDice))
        dice = [float(d) for d in keras.ops.convert_to_numpy(metric.per_class())]
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        with averaged_weights(self.model):
            logits = [self._predict(image) for image, _ in self.validation]
            losses = [
                self._loss(labels, values)
                for (_, labels), values in zip(self.validation, logits, strict=True)
            ]
            predictions = [np.argmax(values, axis=-1).astype(np.uint8) for values in logits]
            del logits
            self._validate()
        row = LogRow(
            stage=progress.number,
            step=progress.global_step,
            learning_rate=rate,
            loss=float(logs['loss']),
            validation_loss=mean(losses),
            dice=dice,
            validation_dice=class_dice(
                [labels for _, labels in self.validation], predictions, metric.classes
            ).tolist(),
        )
        # The checkpoint is written last: a run that is killed before repeats all of this.
        self.log.add(row)
        self.log.pictures(row.step, self.validation, predictions, progress.stage.stride)
        save_state(self.out / CHECKPOINTS, progress.number, progress.step, self.model)

    def _validate(self) -> None:
        """Score whole volumes if it is time to, and keep the best network."""
        progress, options = self.progress, self.config.validation
        if self.validator is None or progress.global_step % options.every:
            return
        folder = self.out / BEST
        with preserve_state(), TemporaryDirectory(dir=self.out, prefix='.validation-') as name:
            candidate = Path(name) / 'model'
            network = trained_network(self.config.model, progress.stage, self.model)
            write_model(self.config, network, candidate)
            scores = self.validator.score(candidate)
            self.log.validated(progress.global_step, scores)
            means = self.log.validations.means
            if best_step(means) == progress.global_step:
                shutil.rmtree(folder, ignore_errors=True)
                candidate.rename(folder)
        patience = progress.patience(means)
        if patience.over:
            self.out_of_patience = True
            self.log.say(
                f'{progress.global_step}: this stage ends early, since the mean Dice has not '
                f'improved after step {patience.best_step}'
            )
            self.model.stop_training = True

    def _predict(self, image: np.ndarray) -> np.ndarray:
        if self.whole is self.model:
            logits = self.model.predict_on_batch(image)
        else:
            logits = logits_of(self.whole, image)
        return np.asarray(logits, np.float32)

    def _loss(self, labels: np.ndarray, logits: np.ndarray) -> float:
        """Return the stage's loss, over all voxels."""
        value = self.model.loss(keras.ops.convert_to_tensor(labels), logits)
        return float(keras.ops.convert_to_numpy(value))


def _steps(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Yield ``count`` batches, then repeat the last one, since Keras prefetches."""
    pair = None
    for pair in itertools.islice(batches, count):
        yield pair
    while pair is not None:
        yield pair


def _metrics(model: Any) -> Iterator[Any]:
    """Yield all metrics of a model, including those that Keras wraps in another."""
    for metric in model.metrics:
        yield metric
        yield from getattr(metric, 'metrics', [])
