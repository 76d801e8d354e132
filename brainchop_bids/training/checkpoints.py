"""Checkpoints of a training run: weights and the state of the optimiser, for exact resumption."""

import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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


def load_state(path: Path, model: Any) -> None:
    """Restore the weights and the optimiser's state of a compiled model.

    Raises
    ------
    OutputError
        If the file is damaged or belongs to another network.
    """
    variables = _variables(model)
    try:
        with np.load(path, allow_pickle=False) as content:
            values = [content[f'{i:04d}'] for i in range(len(content.files))]
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise ValueError('its arrays are those of another network')
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise OutputError(
            f'{path}: checkpoint cannot be used ({error}); remove it to go on from the one before'
        ) from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _variables(model: Any) -> list[Any]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
