"""What happens while Keras fits: steps counted, checkpoints kept, whole scans scored."""

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
from .data.loader import Batch, CubeSource
from .export import write_model
from .losses.subvoxels import logits_of, whole_network
from .metrics import ClassDice
from .network import trained_network
from .optimizers import averaged
from .options import Stage
from .report.log import Record, Row
from .report.scores import Patience, best_step
from .validate import Validator, class_dice, undisturbed

CHECKPOINTS = 'checkpoints'
# The network of the best validation, as a model's folder.
BEST = 'best'


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


@dataclass
class Progress:
    """Where a run is.

    Parameters
    ----------
    config : TrainConfig
        The run.
    number : int
        Its stage.
    step : int
        Steps done in the stage.
    before : int
        Steps of the stages before.
    """

    config: TrainConfig
    number: int
    step: int
    before: int

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.config.stages[self.number]

    @property
    def total(self) -> int:
        """Steps done over all stages."""
        return self.before + self.step

    def patience(self, means: Mapping[int, float]) -> Patience:
        """Return what patience is left after the stage's own validations, by their step."""
        return Patience.of(
            self.config.validation.patience, means, self.before, self.before + self.stage.steps
        )


class Keeper(keras.callbacks.Callback):
    """Fits a stage, keeps checkpoints and the record, and stops where it must.

    Parameters
    ----------
    progress : Progress
        Where to begin.
    out : Path
        The run's folder.
    cubes : CubeSource
        What to learn from.
    record : Record
        Where all is written down.
    clock : Clock
        Stops the run.
    validator : Validator or None
        Scores whole volumes.
    """

    def __init__(
        self,
        progress: Progress,
        out: Path,
        cubes: CubeSource,
        record: Record,
        clock: Clock,
        validator: Validator | None,
    ) -> None:
        super().__init__()
        self.progress, self.config, self.out = progress, progress.config, out
        self.cubes, self.record, self.clock = cubes, record, clock
        self.validator = validator
        self.validation = cubes.validation(progress.number)
        self.failure: BrainchopError | None = None
        self.whole: Any = None
        self.impatient = False

    @property
    def ended(self) -> bool:
        """Whether the stage has come to its end, be it an early one."""
        return self.impatient or self.progress.step >= self.progress.stage.steps

    def fit(self, model: Any) -> None:
        """Train a model to the end of the stage, or until it must stop.

        Raises
        ------
        BrainchopError
            Where the loss is no longer a number.
        """
        self.whole = whole_network(model)
        progress, every = self.progress, self.config.checkpoint_every
        left = progress.stage.steps - progress.step
        batches = self.cubes.batches(progress.number, progress.step)
        # An epoch is what lies between two checkpoints; the last one may be shorter.
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
        """Count a step, and look at its loss."""
        progress = self.progress
        loss = float((logs or {})['loss'])
        if not np.isfinite(loss):
            files = '; '.join(self.cubes.names(progress.number, progress.step))
            self.failure = BrainchopError(
                f'training: the loss is {loss} at step {progress.total + 1}, on cubes of {files}; '
                'lower the learning rate, or look at these. The last good checkpoint lies in '
                f'{self.out / CHECKPOINTS}'
            )
        progress.step += 1
        self.record.tick(progress.total, loss)
        if self.failure or self.ended or self.clock.over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score, write down, and keep a checkpoint."""
        if self.failure:
            return
        progress, logs = self.progress, logs or {}
        metric = next(m for m in _metrics(self.model) if isinstance(m, ClassDice))
        dice = [float(d) for d in keras.ops.convert_to_numpy(metric.per_class())]
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        with averaged(self.model):
            found = [self._predict(image) for image, _ in self.validation]
            self._validate()
        row = Row(
            stage=progress.number,
            step=progress.total,
            learning_rate=rate,
            loss=float(logs['loss']),
            dice=dice,
            validation_dice=class_dice(
                [labels for _, labels in self.validation], found, metric.classes
            ).tolist(),
        )
        # The state comes last: a run that is killed before it does all of this once more.
        self.record.add(row)
        self.record.pictures(row.step, self.validation, found, progress.stage.stride)
        save_state(self.out / CHECKPOINTS, progress.number, progress.step, self.model)

    def _validate(self) -> None:
        """Score whole volumes where it is time to, and keep the network that does best."""
        progress, options = self.progress, self.config.validation
        if self.validator is None or progress.total % options.every:
            return
        folder = self.out / BEST
        with undisturbed(), TemporaryDirectory(dir=self.out, prefix='.validation-') as name:
            made = Path(name) / 'model'
            network = trained_network(self.config.model, progress.stage, self.model)
            write_model(self.config, network, made)
            scores = self.validator.score(made)
            self.record.validated(progress.total, scores)
            means = self.record.validations.means
            if best_step(means) == progress.total:
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
        patience = progress.patience(means)
        if patience.over:
            self.impatient = True
            self.record.say(
                f'{progress.total}: no better for {options.patience} validations; best was step '
                f'{patience.best_step}'
            )
            self.model.stop_training = True

    def _predict(self, image: np.ndarray) -> np.ndarray:
        if self.whole is self.model:
            logits = self.model.predict_on_batch(image)
        else:
            logits = logits_of(self.whole, image)
        return np.argmax(logits, axis=-1).astype(np.uint8)


def _steps(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Give the batches that are left, and then the last one again: Keras looks ahead."""
    pair = None
    for pair in itertools.islice(batches, count):
        yield pair
    while pair is not None:
        yield pair


def _metrics(model: Any) -> Iterator[Any]:
    """Go through a model's metrics, those that Keras wraps in one included."""
    for metric in model.metrics:
        yield metric
        yield from getattr(metric, 'metrics', [])
