"""The HTML page of a training run: log, scores, and overlays of the worst scans.

It is made from the files in the run's folder alone.
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
# Prefixes of columns in the log.
_TRAINED, _CUBES = 'dice_', 'validation_dice_'

LogValues = dict[str, float]


def write_training_page(
    out: Path, config: TrainConfig, facts: Sequence[tuple[str, str]] = ()
) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    out : Path
        Folder of the run, with ``log.csv`` and the files of `ValidationLog`.
    config : TrainConfig
        Config of the run.
    facts : sequence of (str, str)
        Further lines for the settings, such as ``('Backend', 'torch 2.9')``.

    Returns
    -------
    Path
        ``out/report.html``, which links to no other file.

    Raises
    ------
    DatasetError
        If the run's tables cannot be read.
    OutputError
        If the page cannot be written.
    """
    # Jinja is needed at the end of a run only.
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


def read_log(path: Path) -> list[LogValues]:
    """Read ``log.csv``.

    Returns
    -------
    list of dict of str to float
        Values of each row by column.

    Raises
    ------
    DatasetError
        If the file is missing or is not such a table.
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
    log: Sequence[LogValues], rows: Sequence[ScoreRow], config: TrainConfig
) -> list[tuple[str, str]]:
    """Return the facts at the top of the page."""
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
    log: Sequence[LogValues], rows: Sequence[ScoreRow], config: TrainConfig
) -> list[tuple[str, Chart]]:
    """Lay out all charts, each with the name that the page refers to it by."""
    last = max([*(row['step'] for row in log), *(row.step for row in rows)], default=0.0)
    starts = [sum(stage.steps for stage in config.stages[:i]) for i in range(len(config.stages))]
    marks = [float(start) for start in starts[1:] if start < last]

    def of_log(column: str, name: str, *, strong: bool = False) -> Series:
        # Logs of earlier versions lack the validation loss.
        return Series(name, [(row['step'], row[column]) for row in log if column in row], strong)

    charts = {
        'validation': make_chart(
            'Dice of whole validation scans',
            _score_series(rows),
            last=last,
            limits=(0, 1),
            marks=marks,
            others='single labels',
        ),
        'loss': make_chart(
            'Loss',
            [
                line
                for line in (
                    of_log('validation_loss', 'validation cubes'),
                    of_log('loss', 'training', strong=True),
                )
                if line.points
            ],
            last=last,
            marks=marks,
        ),
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


def _foreground(row: LogValues, prefix: str) -> list[str]:
    """Return the columns with a prefix, without the first one, which is the background."""
    return [key for key in row if key.startswith(prefix)][1:]


def _log_series(log: Sequence[LogValues], prefix: str) -> list[Series]:
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


def _log_line(row: LogValues) -> dict[str, Any]:
    """Return a row of the log as the table shows it."""
    return {
        **{key: row[key] for key in ('step', 'stage', 'loss', 'learning_rate')},
        'validation_loss': _or_none(row.get('validation_loss', math.nan)),
        **{
            name: _or_none(mean(row[column] for column in _foreground(row, prefix)))
            for name, prefix in (('dice', _TRAINED), ('cubes', _CUBES))
        },
    }


def _validations(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """Return the rows of the table of validations."""
    lines = []
    for step, value in mean_dice(rows).items():
        per_scan = _per_scan([row for row in rows if row.step == step])
        scan, dice = per_scan[0]
        lines.append(
            {'step': step, 'mean': _or_none(value), 'worst': scan, 'dice': _or_none(dice)}
        )
    return lines


def _per_scan(rows: Sequence[ScoreRow]) -> list[tuple[str, float]]:
    """Return the mean of each scan, lowest first and NaN last."""
    by_scan: dict[str, list[float]] = {}
    for row in rows:
        by_scan.setdefault(row.scan, []).append(row.dice)
    means = [(scan, mean(values)) for scan, values in by_scan.items()]
    return sorted(means, key=lambda pair: (math.isnan(pair[1]), pair[1]))


def _scans(rows: Sequence[ScoreRow], step: int | None) -> list[dict[str, Any]]:
    """Return the rows of the table of scans, lowest Dice first."""
    chosen = [row for row in rows if row.step == step]
    lines = []
    for scan, value in _per_scan(chosen):
        own = [row for row in chosen if row.scan == scan and not math.isnan(row.dice)]
        lowest = min(own, key=lambda row: row.dice, default=None)
        lines.append({'scan': scan, 'mean': _or_none(value), 'lowest': lowest})
    return lines


def _labels(
    rows: Sequence[ScoreRow], step: int | None, pictures: tuple[int, Scores] | None
) -> list[dict[str, Any]]:
    """Return the rows of the table of labels."""
    colors = _colors(pictures[1]) if pictures else {}
    by_label: dict[str, list[ScoreRow]] = {}
    for row in rows:
        if row.step == step:
            by_label.setdefault(row.label, []).append(row)
    lines = []
    for label, own in by_label.items():
        known = [row for row in own if not math.isnan(row.dice)]
        values = [row.dice for row in known]
        lines.append(
            {
                'name': label,
                'color': colors.get(label),
                'mean': _or_none(mean(values)),
                'median': float(np.median(values)) if values else None,
                'scans': len(known),
                'worst': min(known, key=lambda row: row.dice, default=None),
            }
        )
    return lines


def _pictures(folder: Path, means: Mapping[int, float]) -> tuple[int, Scores] | None:
    """Return the overlays of the best validation, or of the latest one that has any."""
    there = {step: path for step, path in list_pictures(folder) if step in means}
    best = best_step(means)
    for step in dict.fromkeys([best, *sorted(there, reverse=True)]):
        scores = read_pictures(there[step]) if step in there else None
        if step is not None and scores is not None:
            return step, scores
    return None


def _cases(scores: Scores) -> list[dict[str, Any]]:
    """Return the overlays with their captions, worst scan first and best one last."""
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
                'mean': _or_none(means[name]),
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
    # Lossless, since label colours must not blend.
    Image.fromarray(picture).save(content, format='WEBP', lossless=True, method=4)
    uri = webp_uri(content.getvalue())
    if uri is None:
        raise ValueError('Pillow cannot write WebP files')
    return uri


def _colors(scores: Scores) -> dict[str, str]:
    pairs = zip(scores.labels, scores.colors.tolist(), strict=True)
    return {label: '#{:02x}{:02x}{:02x}'.format(*color) for label, color in pairs}


def _legend(scores: Scores) -> list[tuple[str, str]]:
    """Return names and colours of the labels, or nothing if they are too many for a legend."""
    named = list(_colors(scores).items())[1:]
    return named if len(named) <= 3 * MOST_COLORS else []


def _or_none(value: float) -> float | None:
    """Replace NaN by None, for which the page shows a dash."""
    return None if math.isnan(value) else float(value)
