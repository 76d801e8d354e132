"""The log of a training run: progress bar, ``log.csv`` and TensorBoard's event file."""

import csv
import io
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ...inference.localise.orientation import VIEWS
from ...models.labelfiles import override_labels
from ...models.labels import LabelTable
from ...models.mapping import read_mapping
from ...system.atomic import write_text
from ..config import TrainConfig
from ..data.loader import Pair, subsample
from .scores import Scores, ValidationLog, add_scalars

LOG = 'log.csv'
EVENTS = 'tensorboard'
# Validation patches that are drawn.
_PICTURES = 16
# Steps over which the time for one is measured.
_RECENT = 50


@dataclass(frozen=True)
class LogRow:
    """A row of the log, written at each checkpoint.

    Parameters
    ----------
    stage, step : int
        Index of the stage; steps done over all stages.
    learning_rate, loss, validation_loss : float
        The last learning rate; the mean loss since the previous row; that over the validation
        patches, NaN if there are none.
    dice, validation_dice : list of float
        Dice of each class over the training batches and over the validation patches.
    """

    stage: int
    step: int
    learning_rate: float
    loss: float
    validation_loss: float
    dice: list[float]
    validation_dice: list[float]


class TrainingLog:
    """Log of a run; a context manager.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    out : Path
        Folder of the run.
    classes : int
        Number of classes.
    """

    def __init__(self, config: TrainConfig, out: Path, classes: int) -> None:
        from tensorboardX import SummaryWriter

        self.total, self.path = config.steps, out / LOG
        labels = label_table(config, classes)
        self.names = [label.abbreviation for label in labels]
        self.colors = labels.colors
        self._events_folder = str(out / EVENTS)
        self._writer_type = SummaryWriter
        self._writer: Any = None
        self.validations = ValidationLog(out)
        self._rows: list[dict[str, Any]] = []
        self._times: list[float] = []
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._loss = float('nan')

    def __enter__(self) -> 'TrainingLog':
        """Start the bar."""
        if sys.stdout.isatty():
            columns = (TextColumn('{task.description}'), BarColumn(30))
            self._bar = Progress(
                *columns, TextColumn('{task.fields[left]}'), console=self._console
            )
            self._task = self._bar.add_task('training', total=self.total, left='')
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the bar and the event file."""
        if self._bar:
            self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def resume(self, step: int) -> None:
        """Remove rows and images that are newer than the step that a run resumes at."""
        if self.path.exists():
            rows = csv.DictReader(io.StringIO(self.path.read_text(encoding='utf-8')))
            self._rows = [row for row in rows if int(row['step']) <= step]
        self.validations.resume(step)
        self._writer = self._writer_type(
            self._events_folder, purge_step=step + 1 if step else None
        )
        if step:
            self.say(f'resuming at step {step} of {self.total}')

    def tick(self, step: int, loss: float) -> None:
        """Count a step."""
        self._times = [*self._times[-_RECENT:], time.monotonic()]
        self._loss = loss
        if self._bar:
            self._bar.update(self._task, completed=step, left=self._line(step))

    def add(self, row: LogRow) -> None:
        """Write a row to the log and to TensorBoard's file.

        Raises
        ------
        OutputError
            If the log cannot be written.
        """
        cells: dict[str, Any] = {
            'stage': row.stage,
            'step': row.step,
            'learning_rate': f'{row.learning_rate:.3g}',
            'loss': f'{row.loss:.4f}',
            'validation_loss': f'{row.validation_loss:.4f}',
        }
        scalars = {key: getattr(row, key) for key in ('loss', 'validation_loss', 'learning_rate')}
        for kind, values in (('dice', row.dice), ('validation_dice', row.validation_dice)):
            for name, value in zip(self.names, values, strict=True):
                cells[f'{kind}_{name}'] = f'{value:.4f}'
                scalars[f'{kind}/{name}'] = value
        self._rows.append(cells)
        text = io.StringIO()
        # Rows of earlier versions lack a column.
        writer = csv.DictWriter(text, list(self._rows[-1]), restval='nan', lineterminator='\n')
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.path, text.getvalue())
        add_scalars(self._writer, scalars, row.step)
        self._writer.flush()
        if not self._bar:
            scores = ' '.join(f'{value:.2f}' for value in row.validation_dice)
            loss = f'validation loss {row.validation_loss:.3f}, Dice {scores}'
            self.say(f'{self._line(row.step)}, {loss}')

    def say(self, text: str) -> None:
        """Print a message above the progress bar."""
        self._console.print(text, markup=False)

    def validated(self, step: int, scores: Scores) -> None:
        """Add the scores of whole volumes.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        self.validations.add(step, scores, self._writer)
        self._writer.flush()
        worst = f'worst {scores.worst} {scores.per_scan[scores.worst]:.3f}'
        self.say(f'{step}/{self.total}, whole scans: mean Dice {scores.mean:.3f}, {worst}')

    def pictures(
        self, step: int, pairs: list[Pair], predictions: list[np.ndarray], stride: int
    ) -> None:
        """Write the middle slice of the first validation patches: image, truth, prediction."""
        examples = zip(pairs[:_PICTURES], predictions[:_PICTURES], strict=True)
        for i, ((image, truth), labels) in enumerate(examples):
            # Frames of localisers are slices themselves.
            middle = truth.shape[1] // 2 if truth.ndim == 4 else ...
            gray = subsample(image[0, ..., 0], stride)[middle]
            gray = np.uint8(255 * np.clip(gray / max(float(np.quantile(gray, 0.99)), 1e-6), 0, 1))
            panels = [
                np.repeat(gray[..., None], 3, 2),
                self.colors[truth[0, middle]],
                self.colors[labels[0, middle]],
            ]
            self._writer.add_image(
                f'validation/{i}', np.concatenate(panels, 1), step, dataformats='HWC'
            )
        self._writer.flush()

    def _line(self, step: int) -> str:
        seconds = (self._times[-1] - self._times[0]) / max(1, len(self._times) - 1)
        left = timedelta(seconds=round(seconds * (self.total - step)))
        return f'{step}/{self.total}, loss {self._loss:.3f}, {seconds:.2f} s a step, {left} left'


def label_table(config: TrainConfig, classes: int) -> LabelTable:
    """Return the labels of the model that a run trains.

    Names are those of the card, else those of the table of codes, else numbers.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    classes : int
        Number of classes.

    Returns
    -------
    LabelTable

    Raises
    ------
    ModelError
        If the card's labels cannot be read.
    """
    known = read_mapping(config.data.mapping).labels
    names = [known.get(i, str(i)) for i in range(classes)]
    if config.localises:
        organ = known.get(1, 'Organ')
        names = ['Background', *(f'{organ}-{"".join(view)}' for view in VIEWS)]
    table = LabelTable.from_names(names)
    return override_labels(table, list(config.card.labels), Path('card.labels'))
