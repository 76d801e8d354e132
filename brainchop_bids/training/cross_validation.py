"""Cross-validation: a training for each fold, and one table of the scores of held-out scans."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from ..models.formats import read_network
from ..models.spec import load_spec
from ..system.atomic import write_text
from ..system.errors import SettingsError
from .callbacks import StopCondition
from .config import TrainConfig
from .data.sources import Sources, draw_volume, item_name
from .export import export, write_model
from .loop import check_folder, train
from .merge import average_networks
from .report.page import write_training_page
from .report.scores import ScoreRow, mean, read_scores, write_scores
from .validate import ValidationScan, Validator

# Scores of a fold's held-out scans, written when the fold is done.
HELD_OUT = 'held_out.csv'
TABLE = 'cross_validation.tsv'
ENSEMBLE = 'ensemble'
# Folds if the config has none.
_FOLDS = 5

Facts = Sequence[tuple[str, str]]


def cross_validate(
    config: TrainConfig,
    out: Path,
    stop: StopCondition | None = None,
    *,
    facts: Facts = (),
    say: Callable[[str], None] = print,
) -> list[list[ScoreRow]] | None:
    """Train and score a network for each fold, or resume this.

    Parameters
    ----------
    config : TrainConfig
        Config of all folds; ``data.folds`` is their number (5 if it is 0), ``data.fold`` is
        ignored.
    out : Path
        Folder, with the run of each fold in ``fold-0``, ``fold-1``, .... Folds that are done are
        not repeated.
    stop : StopCondition, optional
        Stops before the next step, with a checkpoint.
    facts : sequence of (str, str)
        Further lines for the page of each fold.
    say : callable
        Prints a line.

    Returns
    -------
    list of list of ScoreRow
        For each fold the Dice of each label in each of its held-out scans, by the model that it
        exported, before connected components are cleaned up.
    None
        If it was stopped.

    Raises
    ------
    SettingsError
        If the images are made from label maps, which are no subjects.
    BrainchopError
        As `train` and `Validator.score`.
    """
    if config.data.label_maps:
        raise SettingsError(
            '--cross-validate needs labelled scans; data.label_maps has maps without subjects'
        )
    folds = config.data.folds or _FOLDS
    results = []
    for fold in range(folds):
        folder = out / f'fold-{fold}'
        own = replace(config, data=replace(config.data, folds=folds, fold=fold))
        check_folder(own, folder)
        if not (folder / HELD_OUT).exists():
            say(f'fold {fold + 1} of {folds}: {folder}')
            trained = train(own, folder, stop)
            if trained is None:
                return None
            network, sources = trained
            model = export(own, network, sources, folder)
            write_training_page(folder, own, facts)
            write_scores(folder / HELD_OUT, _scores(own, model, sources))
            # Graphs of finished folds would stay in memory.
            keras.utils.clear_session()
        results.append(read_scores(folder / HELD_OUT))
    return results


def _scores(config: TrainConfig, model: Path, sources: Sources) -> list[ScoreRow]:
    """Return the scores of the held-out scans, one scan in memory at a time."""
    names = [label.abbreviation for label in load_spec(model).labels]
    rows = []
    for item in sources.held_out:
        image, labels = draw_volume(
            item,
            config,
            config.stages[-1],
            sources,
            np.random.default_rng(config.seed),
            training=False,
        )
        scan = ValidationScan(item_name(item), image, labels)
        scores = Validator([scan], names).score(model)
        rows += [
            ScoreRow(config.steps, scan.name, label, float(dice))
            for label, dice in zip(names[1:], scores.dice[0, 1:], strict=True)
        ]
    return rows


def write_table(out: Path, folds: Sequence[Sequence[ScoreRow]]) -> tuple[Path, str]:
    """Write the table of a cross-validation.

    Parameters
    ----------
    out : Path
        Folder of the cross-validation.
    folds : sequence of sequence of ScoreRow
        From `cross_validate`.

    Returns
    -------
    path : Path
        TSV file with a row for each label, and one for their mean: mean and standard deviation
        over the folds, and the mean Dice over the scans of each fold.
    text : str
        The same for a terminal.
    """
    labels = list(dict.fromkeys(row.label for fold in folds for row in fold))
    rows = [(label, [_mean(fold, label) for fold in folds]) for label in labels]
    rows.append(('mean', [mean(values[i] for _, values in rows) for i in range(len(folds))]))
    head = ['label', 'mean', 'sd', *(f'fold-{i}' for i in range(len(folds)))]
    lines = [head]
    for label, values in rows:
        known = [value for value in values if not math.isnan(value)]
        sd = statistics.stdev(known) if len(known) > 1 else math.nan
        lines.append([label, *(_cell(value) for value in (mean(values), sd, *values))])
    write_text(out / TABLE, ''.join('\t'.join(line) + '\n' for line in lines))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = '\n'.join(
        '  '.join(
            cell.rjust(n) if i else cell.ljust(n)
            for i, (cell, n) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    scans = sum(len({row.scan for row in fold}) for fold in folds)
    return out / TABLE, f'Dice of {scans} held-out scans in {len(folds)} folds\n{text}'


def _mean(fold: Sequence[ScoreRow], label: str) -> float:
    return mean(row.dice for row in fold if row.label == label)


def _cell(value: float) -> str:
    return 'n/a' if math.isnan(value) else f'{value:.4f}'


def write_ensemble(config: TrainConfig, out: Path, folds: int) -> Path:
    """Write the networks of all folds as one model, whose logits are the mean of theirs.

    Parameters
    ----------
    config : TrainConfig
        Config of all folds.
    out : Path
        Folder of the cross-validation, with the folds.
    folds : int
        Number of folds.

    Returns
    -------
    Path
        ``out/ensemble``, a model folder like any other.

    Raises
    ------
    ModelError, OutputError
        If a network cannot be read or the model not be written.
    """
    networks = [read_network(out / f'fold-{fold}' / config.card.name)[0] for fold in range(folds)]
    named = replace(config, card=replace(config.card, name=f'{config.card.name}-{ENSEMBLE}'))
    write_model(named, average_networks(networks), out / ENSEMBLE)
    return out / ENSEMBLE
