"""Execution of a plan on a volume."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..system.errors import MemoryLimitError
from ..system.resources import available_memory
from .confidence import confidence
from .engine import Engine
from .memmap import create_array
from .plan import Plan
from .tiles import Tile
from .uncertainty import entropy, spread

_SLAB = 8


def run_network(
    engine: Engine,
    plan: Plan,
    data: np.ndarray,
    scratch: Callable[[], Path] | None = None,
    *,
    probabilities: Any = None,
    entropies: Any = None,
    spreads: Any = None,
    confidences: Any = None,
) -> np.ndarray:
    """Label a volume as planned.

    Parameters
    ----------
    engine : Engine
        Engine of the plan.
    plan : Plan
        The plan.
    data : (X, Y, Z) or (X, Y, Z, channels) array
        A conformed volume, LIA.
    scratch : callable, optional
        Returns the path of a new temporary file, for the probabilities of test-time augmentation;
        by default they are kept in memory.
    probabilities : (X, Y, Z, classes) float32 array, optional
        Filled with class probabilities.
    entropies, spreads : (X, Y, Z) float32 array, optional
        Filled with their entropy and, with test-time augmentation, the spread over the scan and
        its mirror image, see `brainchop_bids.inference.uncertainty`.
    confidences : (X, Y, Z) uint8 array, optional
        Filled with the probability of the most likely class, see
        `brainchop_bids.inference.confidence`.

    Returns
    -------
    (X, Y, Z) uint8 or uint16
        Labels.
    """
    if not plan.tta:
        return engine.segment(
            data,
            probabilities=probabilities,
            entropies=entropies,
            confidences=confidences,
            tiles=plan.tiles,
            subvolumes=plan.subvolumes,
        )
    shape = (*data.shape[:3], engine.spec.classes)
    flipped = _zeros(shape, scratch)
    both = _zeros(shape, scratch) if probabilities is None else probabilities
    labels = engine.segment(data, probabilities=both, tiles=plan.tiles, subvolumes=plan.subvolumes)
    tiles = plan.tiles and [_flipped(tile, data.shape[0]) for tile in plan.tiles]
    engine.probabilities(data[::-1], flipped, tiles=tiles, subvolumes=plan.subvolumes)
    swapped = list(engine.spec.labels.mirrored())
    for start in range(0, shape[2], _SLAB):
        planes = slice(start, start + _SLAB)
        other = np.asarray(flipped[::-1, :, planes])[..., swapped]
        first = np.asarray(both[:, :, planes])
        mean = (first + other) / 2
        if entropies is not None:
            entropies[:, :, planes] = entropy(mean)
        if spreads is not None:
            spreads[:, :, planes] = spread(entropy(mean), entropy(first), entropy(other))
        if confidences is not None:
            confidences[:, :, planes] = confidence(mean)
        both[:, :, planes] = mean
        labels[:, :, planes] = mean.argmax(-1)
    return labels


def _zeros(shape: tuple[int, ...], scratch: Callable[[], Path] | None) -> np.ndarray:
    if scratch is not None:
        return create_array(scratch(), shape)
    need, granted = 4 * math.prod(shape) / 1e9, available_memory()
    if need > granted.amount:
        raise MemoryLimitError(
            f'tta needs {need:.1f} GB of memory for probabilities, granted are '
            f'{granted.amount:.1f} GB ({granted.source}); brainchop-segment keeps them on the disk'
        )
    return np.zeros(shape, np.float32, order='F')


def _flipped(tile: Tile, length: int) -> Tile:
    """Return the tile mirrored along the first axis."""
    outer, own = (
        (slice(length - sides[0].stop, length - sides[0].start), *sides[1:])
        for sides in (tile.outer, tile.own)
    )
    return replace(tile, outer=outer, own=own)
