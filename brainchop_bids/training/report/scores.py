"""Scores of whole volumes: files in the run's folder, TensorBoard, and early stopping."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ...system.atomic import publish, write_text
from ...system.errors import DatasetError

VALIDATION = 'validation.csv'
PICTURES = 'validation'
# Number of worst scans whose overlays are kept.
WORST = 3
_COLUMNS = ('step', 'scan', 'label', 'dice')
_NAME = re.compile(r'step-(\d+)\.npz')


@dataclass(frozen=True, eq=False)
class Scores:
    """Result of one validation.

    Parameters
    ----------
    scans : tuple of str
        Names of the scans.
    labels : tuple of str
        Names of all classes, the background first.
    dice : (scans, classes) float64
        Dice of each class in each scan; NaN if it is neither in the truth nor predicted.
    colors : (classes, 3) uint8
        Colours of the labels in the overlays.
    pictures : dict of str to (H, W, 3) uint8
        Overlays (`draw_overlay`) of the best scan and of the worst ones, by name.
    """

    scans: tuple[str, ...]
    labels: tuple[str, ...]
    dice: npt.NDArray[np.float64]
    colors: npt.NDArray[np.uint8]
    pictures: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def per_scan(self) -> dict[str, float]:
        """Mean over the foreground classes of each scan."""
        return {name: mean(row[1:]) for name, row in zip(self.scans, self.dice, strict=True)}

    @property
    def per_label(self) -> dict[str, float]:
        """Mean over scans of each foreground class."""
        return {name: mean(self.dice[:, i]) for i, name in enumerate(self.labels) if i}

    @property
    def mean(self) -> float:
        """Mean over the foreground classes of all scans."""
        return mean(self.dice[:, 1:].ravel())

    @property
    def ranked(self) -> list[str]:
        """Names of the scans, lowest mean first; those without any foreground come last."""
        means = self.per_scan
        return sorted(self.scans, key=lambda name: (math.isnan(means[name]), means[name]))

    @property
    def worst(self) -> str:
        """The scan with the lowest mean."""
        return self.ranked[0]

    @property
    def best(self) -> str:
        """The scan with the highest mean."""
        known = [name for name in self.ranked if not math.isnan(self.per_scan[name])]
        return known[-1] if known else self.ranked[0]


@dataclass(frozen=True)
class ScoreRow:
    """A line of ``validation.csv``.

    Parameters
    ----------
    step : int
        Steps done over all stages.
    scan, label : str
        Name of the scan and of the label, without the background.
    dice : float
        NaN if the label is neither in the truth nor predicted.
    """

    step: int
    scan: str
    label: str
    dice: float


class ValidationLog:
    """The validations of a run, kept on disk.

    Parameters
    ----------
    out : Path
        Folder of the run, with ``validation.csv`` and, in ``validation/``, the overlays of the
        best and of the last validation.
    """

    def __init__(self, out: Path) -> None:
        self.path, self.folder = out / VALIDATION, out / PICTURES
        self.rows: list[ScoreRow] = []

    def resume(self, step: int) -> None:
        """Read the files, and remove what is newer than the step that the run resumes at.

        Raises
        ------
        DatasetError
            If the file is not such a table.
        OutputError
            If it cannot be written.
        """
        rows = read_scores(self.path)
        self.rows = [row for row in rows if row.step <= step]
        if not self.rows:
            self.path.unlink(missing_ok=True)
        elif len(self.rows) < len(rows):
            write_scores(self.path, self.rows)
        for number, path in list_pictures(self.folder):
            if number > step:
                path.unlink(missing_ok=True)

    def add(self, step: int, scores: Scores, writer: Any = None) -> None:
        """Add a validation.

        Parameters
        ----------
        step : int
            Steps done over all stages.
        scores : Scores
            Its scores.
        writer : tensorboardX.SummaryWriter, optional
            Gets the scalars ``validation/dice`` and ``validation/dice/LABEL``, and the images
            ``validation/best`` and ``validation/worst``.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        for scan, values in zip(scores.scans, scores.dice, strict=True):
            # Rounded as in the file, so that a resumed run decides by the same numbers.
            self.rows += [
                ScoreRow(step, scan, label, round(float(value), 6))
                for label, value in zip(scores.labels[1:], values[1:], strict=True)
            ]
        path = self.folder / f'step-{step:06d}.npz'
        # Images first, so that every step in the table has them.
        publish([(path, lambda to: _save(to, scores))])
        write_scores(self.path, self.rows)
        kept = {step, best_step(self.means)}
        for number, old in list_pictures(self.folder):
            if number not in kept:
                old.unlink(missing_ok=True)
        if writer is not None:
            _show(writer, step, scores)

    @property
    def means(self) -> dict[int, float]:
        """Mean Dice of each validation by its step, see `mean_dice`."""
        return mean_dice(self.rows)


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write rows for `read_scores`.

    Parameters
    ----------
    path : Path
        The CSV file.
    rows : iterable of ScoreRow
        Rows in the order of the file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow((row.step, row.scan, row.label, f'{row.dice:.6f}'))
    write_text(path, text.getvalue())


class Patience:
    """Early stopping after several validations without a better mean Dice.

    Parameters
    ----------
    patience : int
        Number of validations; 0 for never.

    Examples
    --------
    >>> patience = Patience(2)
    >>> for step, dice in ((100, 0.5), (200, 0.7), (300, 0.7), (400, 0.6)):
    ...     patience.add(step, dice)
    >>> patience.best_step, patience.over
    (200, True)
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_step: int | None = None
        self.best = float('nan')
        self.without_progress = 0

    @classmethod
    def of(
        cls, patience: int, means: Mapping[int, float], begin: int = 0, end: int | None = None
    ) -> 'Patience':
        """Return the patience left after some validations.

        Parameters
        ----------
        patience : int
            Number of validations; 0 for never.
        means : mapping of int to float
            Mean Dice by step.
        begin, end : int
            Only validations after step ``begin`` and up to step ``end`` count.

        Returns
        -------
        Patience
        """
        counter = cls(patience)
        for step in sorted(means):
            if step > begin and (end is None or step <= end):
                counter.add(step, means[step])
        return counter

    def add(self, step: int, dice: float) -> None:
        """Add the mean Dice of the next validation; NaN never counts as better."""
        if dice > self.best or (math.isnan(self.best) and not math.isnan(dice)):
            self.best_step, self.best, self.without_progress = step, dice, 0
        else:
            self.without_progress += 1

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return 0 < self.patience <= self.without_progress


def mean_dice(rows: Iterable[ScoreRow]) -> dict[int, float]:
    """Return the mean over scans and foreground labels of each validation by its step."""
    by_step: dict[int, list[float]] = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row.dice)
    return {step: mean(values) for step, values in by_step.items()}


def best_step(means: Mapping[int, float]) -> int | None:
    """Return the first step of the highest mean, or None if there is none."""
    return Patience.of(0, means).best_step


def mean(values: Iterable[float]) -> float:
    """Return the mean of all values that are not NaN, or NaN if there are none."""
    known = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else float('nan')


def read_scores(path: Path) -> list[ScoreRow]:
    """Read ``validation.csv``; return an empty list if there is no such file.

    Raises
    ------
    DatasetError
        If the file cannot be read or is not such a table.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path}: validation scores cannot be read ({error})') from error
    try:
        return [
            ScoreRow(int(row['step']), row['scan'], row['label'], float(row['dice']))
            for row in csv.DictReader(io.StringIO(text))
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DatasetError(
            f'{path}: is not a table of {", ".join(_COLUMNS)} ({error}); remove it to go on'
        ) from error


def list_pictures(folder: Path) -> list[tuple[int, Path]]:
    """Return step and file of all stored validations, in the order of steps."""
    pictures = [
        (int(match[1]), path)
        for path in folder.glob('*.npz')
        if (match := _NAME.fullmatch(path.name))
    ]
    return sorted(pictures)


def read_pictures(path: Path) -> Scores | None:
    """Read the scores and overlays of a validation; return None if the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            shown = content['shown'].tolist()
            return Scores(
                tuple(content['scans'].tolist()),
                tuple(content['labels'].tolist()),
                content['dice'],
                content['colors'],
                {name: content[f'picture_{i}'] for i, name in enumerate(shown)},
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _save(path: Path, scores: Scores) -> None:
    pictures: dict[str, Any] = {
        f'picture_{i}': picture for i, picture in enumerate(scores.pictures.values())
    }
    with path.open('wb') as file:
        np.savez_compressed(
            file,
            scans=np.array(scores.scans),
            labels=np.array(scores.labels),
            dice=scores.dice,
            colors=scores.colors,
            shown=np.array(list(scores.pictures), dtype=str),
            **pictures,
        )


def add_scalars(writer: Any, scalars: Mapping[str, float], step: int) -> None:
    """Write numbers for TensorBoard.

    Parameters
    ----------
    writer : tensorboardX.SummaryWriter
        The event file.
    scalars : mapping of str to float
        Values by tag. NaN, such as the Dice of an absent label, is left out.
    step : int
        Steps done over all stages.
    """
    for tag, value in scalars.items():
        if np.isfinite(value):
            writer.add_scalar(tag, value, step)


def _show(writer: Any, step: int, scores: Scores) -> None:
    labels = {f'validation/dice/{label}': dice for label, dice in scores.per_label.items()}
    add_scalars(writer, {'validation/dice': scores.mean, **labels}, step)
    for tag, scan in (('best', scores.best), ('worst', scores.worst)):
        writer.add_image(f'validation/{tag}', scores.pictures[scan], step, dataformats='HWC')
    writer.flush()
