"""Checkpoints of a training run: weights and the state of the optimiser, for exact resumption."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..system.atomic import publish
from ..system.errors import OutputError

KEPT = 2
_NAME = re.compile(r'stage-(\d+)_step-(\d+)\.npz')


def save_state(folder: Path, stage: int, step: int, model: Any) -> Path:
    """Write a checkpoint, then remove all but the last two.

    Parameters
    ----------
    folder : Path
        Folder of the checkpoints.
    stage, step : int
        Index of the stage, and steps done in it.
    model : keras.Model
        The compiled model.

    Returns
    -------
    Path
        ``stage-<i>_step-<n>.npz``: one array for each variable in the model's own order.

    Raises
    ------
    OutputError
        If it cannot be written; earlier checkpoints are kept.
    """
    path = folder / f'stage-{stage}_step-{step:06d}.npz'
    values = {
        f'{i:04d}': keras.ops.convert_to_numpy(variable.value)
        for i, variable in enumerate(_variables(model))
    }

    def write(to: Path) -> None:
        # An open file, since numpy would add a suffix to a name.
        with to.open('wb') as file:
            np.savez(file, **values)

    publish([(path, write)])
    for _, _, old in list_states(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def list_states(folder: Path) -> list[tuple[int, int, Path]]:
    """Return stage, step and file of all checkpoints, oldest first."""
    states = []
    for path in folder.glob('stage-*_step-*.npz'):
        if match := _NAME.fullmatch(path.name):
            states.append((int(match[1]), int(match[2]), path))
    return sorted(states)


def newest_state(folder: Path, report: Callable[[str], None]) -> tuple[int, int, Path | None]:
    """Return stage, step and file of the newest checkpoint that is not damaged.

    Parameters
    ----------
    folder : Path
        Folder of the checkpoints. Damaged ones that are newer get the suffix ``.damaged``.
    report : callable
        Called with a line for each of these.

    Returns
    -------
    tuple
        ``(0, 0, None)`` if there is no checkpoint.

    Raises
    ------
    OutputError
        If all are damaged.
    """
    states = list_states(folder)
    damaged = []
    for stage, step, path in reversed(states):
        try:
            _read_state(path)
        except OutputError as error:
            damaged.append((path, error))
            continue
        for bad, why in damaged:
            report(f'{why}; going on from the one before, {path.name}')
            bad.rename(bad.with_name(f'{bad.name}.damaged'))
        return stage, step, path
    if damaged:
        raise OutputError(f'{damaged[0][1]}, nor can one before it; remove them to begin again')
    return 0, 0, None


def load_state(path: Path, model: Any) -> None:
    """Restore the weights and the optimiser's state of a compiled model.

    Raises
    ------
    OutputError
        If the file is damaged or belongs to another network.
    """
    variables, values = _variables(model), _read_state(path)
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise OutputError(
            f'{path}: checkpoint cannot be used (its arrays are those of another network); '
            'remove it to go on from the one before'
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _read_state(path: Path) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return [content[f'{i:04d}'] for i in range(len(content.files))]
    # The zip module has no common error for damaged files.
    except Exception as error:
        raise OutputError(f'{path}: checkpoint cannot be used ({error})') from error


def _variables(model: Any) -> list[Any]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
