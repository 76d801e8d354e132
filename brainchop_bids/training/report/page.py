"""The page of a training run: its course, how well it does, and where it fails.

It is made from what lies in the run's folder, so that it can be made again at any time.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import __version__
from ...system.atomic import write_text
from ...system.errors import DatasetError
from ..config import TrainConfig
from .charts import MOST_COLORS, Chart, Series, make_chart
from .log import LOG
from .scores import (
    PICTURES,
    VALIDATION,
    WORST,
    ScoreRow,
    Scores,
    best_step,
    list_pictures,
    mean,
    mean_dice,
    read_pictures,
    read_scores,
)

REPORT = 'report.html'
# How the log's columns begin.
_TRAINED, _CUBES = 'dice_', 'validation_dice_'

LogRow = dict[str, float]


def write_page(out: Path, config: TrainConfig, facts: Sequence[tuple[str, str]] = ()) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    out : Path
        The run's folder, with ``log.csv`` and what `ValidationLog` keeps.
    config : TrainConfig
        The run.
    facts : sequence of (str, str)
        Further lines on how it was run, such as ``('Backend', 'torch 2.9')``.

    Returns
    -------
    Path
        ``out/report.html``: one file without links to others.

    Raises
    ------
    DatasetError
        Where the run's tables cannot be read.
    OutputError
        Where the page cannot be written.
    """
    # Only the last step of a run needs what lays out pages.
    from ...reports.render import render_template
    from ...reports.text import one_line

    log, rows = read_log(out / LOG), read_scores(out / VALIDATION)
    means = mean_dice(rows)
    pictures = _pictures(out / PICTURES, means)
    best = best_step(means)
    shown = pictures[0] if pictures else best
    html = render_template(
        'training.html',
        heading=f'Training of {one_line(config.card.name)}',
        scripts=('tables.js',),
        styles=('style.css', 'training.css'),
        facts=_facts(log, rows, config),
        charts=_charts(log, rows, config),
        log=[_log_line(row) for row in log],
        validations=_validations(rows),
        shown=shown,
        validated=len(means),
        best=best,
        labels=_labels(rows, shown, pictures),
        scans=_scans(rows, shown),
        cases=_cases(pictures[1]) if pictures else [],
        legend=_legend(pictures[1]) if pictures else [],
        every=config.validation.every,
        run=[('Program', f'brainchop-bids {__version__}'), *facts],
        config=config.to_toml(),
    )
    write_text(out / REPORT, html)
    return out / REPORT


def read_log(path: Path) -> list[LogRow]:
    """Read ``log.csv``: a number for each column and row.

    Raises
    ------
    DatasetError
        Where there is no such table.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding='utf-8')))
        rows = [{key: float(value) for key, value in row.items()} for row in reader]
        if rows and not {'step', 'stage', 'loss', 'learning_rate'} <= rows[0].keys():
            raise ValueError('columns are missing')
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise DatasetError(f'{path}: is no log of a training run ({error})') from error
    return rows


def _facts(
    log: Sequence[LogRow], rows: Sequence[ScoreRow], config: TrainConfig
) -> list[tuple[str, str]]:
    """List what stands at the top."""
    facts = [('Steps', f'{log[-1]["step"]:,.0f} of {config.steps:,}' if log else 'none')]
    if log:
        facts.append(('Last loss', f'{log[-1]["loss"]:.3f}'))
    means = mean_dice(rows)
    best = best_step(means)
    if best is not None:
        facts.append(('Best validation Dice', f'{means[best]:.3f} at step {best:,}'))
        facts.append(('Last', f'{means[max(means)]:.3f}'))
        facts.append(('Validation scans', f'{len({row.scan for row in rows}):,}'))
    if config.card.status:
        facts.append(('Status', config.card.status))
    return facts


def _charts(
    log: Sequence[LogRow], rows: Sequence[ScoreRow], config: TrainConfig
) -> list[tuple[str, Chart]]:
    """Lay out all curves, each with a name to refer to it by."""
    last = max([*(row['step'] for row in log), *(row.step for row in rows)], default=0.0)
    starts = [sum(stage.steps for stage in config.stages[:i]) for i in range(len(config.stages))]
    marks = [float(start) for start in starts[1:] if start < last]

    def of_log(column: str, name: str, *, strong: bool = False) -> Series:
        return Series(name, [(row['step'], row[column]) for row in log], strong)

    charts = {
        'validation': make_chart(
            'Dice of whole validation scans',
            _score_series(rows),
            last=last,
            limits=(0, 1),
            marks=marks,
            others='single labels',
        ),
        'loss': make_chart('Loss', [of_log('loss', 'loss', strong=True)], last=last, marks=marks),
        'dice': make_chart(
            'Dice of what was trained on',
            _log_series(log, _TRAINED),
            last=last,
            limits=(0, 1),
            marks=marks,
            others='single labels',
        ),
        'cubes': make_chart(
            'Dice of the validation cubes',
            _log_series(log, _CUBES),
            last=last,
            limits=(0, 1),
            marks=marks,
            others='single labels',
        ),
        'rate': make_chart(
            'Learning rate',
            [of_log('learning_rate', 'learning rate', strong=True)],
            last=last,
            marks=marks,
        ),
    }
    return [(name, chart) for name, chart in charts.items() if chart is not None]


def _foreground(row: LogRow, prefix: str) -> list[str]:
    """Return the columns of a kind, less that of the background, which is the first."""
    return [key for key in row if key.startswith(prefix)][1:]


def _log_series(log: Sequence[LogRow], prefix: str) -> list[Series]:
    columns = _foreground(log[0], prefix) if log else []
    series = [
        Series(column.removeprefix(prefix), [(row['step'], row[column]) for row in log])
        for column in columns
    ]
    means = [(row['step'], mean(row[column] for column in columns)) for row in log]
    return [*series, Series('mean', means, strong=True)] if columns else []


def _score_series(rows: Sequence[ScoreRow]) -> list[Series]:
    by_label: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        by_label.setdefault(row.label, {}).setdefault(row.step, []).append(row.dice)
    series = [
        Series(label, [(step, mean(values)) for step, values in steps.items()])
        for label, steps in by_label.items()
    ]
    return [*series, Series('mean', list(mean_dice(rows).items()), strong=True)]


def _log_line(row: LogRow) -> dict[str, Any]:
    """Arrange a row of the log for the table of numbers."""
    return {
        **{key: row[key] for key in ('step', 'stage', 'loss', 'learning_rate')},
        **{
            name: _known(mean(row[column] for column in _foreground(row, prefix)))
            for name, prefix in (('dice', _TRAINED), ('cubes', _CUBES))
        },
    }


def _validations(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """Arrange one line for each validation."""
    lines = []
    for step, value in mean_dice(rows).items():
        per_scan = _per_scan([row for row in rows if row.step == step])
        scan, dice = per_scan[0]
        lines.append({'step': step, 'mean': _known(value), 'worst': scan, 'dice': _known(dice)})
    return lines


def _per_scan(rows: Sequence[ScoreRow]) -> list[tuple[str, float]]:
    """Return the mean of each scan, the lowest first; those without a number come last."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.scan, []).append(row.dice)
    means = [(scan, mean(values)) for scan, values in found.items()]
    return sorted(means, key=lambda pair: (math.isnan(pair[1]), pair[1]))


def _scans(rows: Sequence[ScoreRow], step: int | None) -> list[dict[str, Any]]:
    """Arrange the scans of a validation, the lowest Dice first."""
    chosen = [row for row in rows if row.step == step]
    lines = []
    for scan, value in _per_scan(chosen):
        own = [row for row in chosen if row.scan == scan and not math.isnan(row.dice)]
        lowest = min(own, key=lambda row: row.dice, default=None)
        lines.append({'scan': scan, 'mean': _known(value), 'lowest': lowest})
    return lines


def _labels(
    rows: Sequence[ScoreRow], step: int | None, pictures: tuple[int, Scores] | None
) -> list[dict[str, Any]]:
    """Arrange the table of labels of a validation."""
    colors = _colors(pictures[1]) if pictures else {}
    found: dict[str, list[ScoreRow]] = {}
    for row in rows:
        if row.step == step:
            found.setdefault(row.label, []).append(row)
    lines = []
    for label, own in found.items():
        known = [row for row in own if not math.isnan(row.dice)]
        values = [row.dice for row in known]
        lines.append(
            {
                'name': label,
                'color': colors.get(label),
                'mean': _known(mean(values)),
                'median': float(np.median(values)) if values else None,
                'scans': len(known),
                'worst': min(known, key=lambda row: row.dice, default=None),
            }
        )
    return lines


def _pictures(folder: Path, means: Mapping[int, float]) -> tuple[int, Scores] | None:
    """Return the pictures of the best validation, or of the latest that has any."""
    there = {step: path for step, path in list_pictures(folder) if step in means}
    best = best_step(means)
    for step in dict.fromkeys([best, *sorted(there, reverse=True)]):
        found = read_pictures(there[step]) if step in there else None
        if step is not None and found is not None:
            return step, found
    return None


def _cases(scores: Scores) -> list[dict[str, Any]]:
    """Arrange the pictures: the worst scans first, then the best one."""
    lines = []
    means = scores.per_scan
    ranked = [name for name in scores.ranked if name in scores.pictures]
    for name in ranked:
        values = dict(
            zip(scores.labels[1:], scores.dice[scores.scans.index(name), 1:], strict=True)
        )
        known = {label: value for label, value in values.items() if not math.isnan(value)}
        low = sorted(known.items(), key=lambda pair: pair[1])[:WORST]
        best = name == scores.best and len(ranked) > 1
        picture = scores.pictures[name]
        lines.append(
            {
                'name': name,
                'best': best,
                'mean': _known(means[name]),
                'low': low,
                'picture': _uri(picture),
                'width': picture.shape[1],
                'height': picture.shape[0],
            }
        )
    return lines


def _uri(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    from ...reports.render import webp_uri

    content = io.BytesIO()
    # Labels have no colours in between.
    Image.fromarray(picture).save(content, format='WEBP', lossless=True, method=4)
    uri = webp_uri(content.getvalue())
    if uri is None:
        raise ValueError('Pillow wrote no WebP file')
    return uri


def _colors(scores: Scores) -> dict[str, str]:
    pairs = zip(scores.labels, scores.colors.tolist(), strict=True)
    return {label: '#{:02x}{:02x}{:02x}'.format(*color) for label, color in pairs}


def _legend(scores: Scores) -> list[tuple[str, str]]:
    """Return names and colours of labels, where they are few enough to be read."""
    named = list(_colors(scores).items())[1:]
    return named if len(named) <= 3 * MOST_COLORS else []


def _known(value: float) -> float | None:
    """Return a number, or None where there is none: the page then writes a dash."""
    return None if math.isnan(value) else float(value)
