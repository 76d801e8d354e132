"""Several scans of one head, conformed onto one grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..system.errors import InputError
from .conform import Conformed, ConformOptions, conform
from .geometry import Geometry
from .io import Volume


def conform_channels(
    volumes: Sequence[Volume],
    options: ConformOptions | None = None,
    *,
    organ: Geometry | None = None,
    threads: int = 1,
) -> tuple[Conformed, np.ndarray]:
    """Conform a scan, and resample other scans of the same head onto its grid by their headers.

    Parameters
    ----------
    volumes : sequence of Volume
        Scans of one head; the first one determines the grid.
    options : ConformOptions, optional
        As for `brainchop_bids.image.conform.conform`.
    organ : Geometry, optional
        As for `brainchop_bids.image.conform.conform`.
    threads : int
        Number of threads.

    Returns
    -------
    conformed : Conformed
        The first scan.
    data : uint8 array
        (W, W, W) for a single scan, (W, W, W, C) for several.

    Raises
    ------
    InputError
        As for `conform` and `conform_to_grid`.
    """
    first, *others = volumes
    options = options or ConformOptions()
    conformed = conform(first, options, organ=organ, threads=threads)
    channels = [conformed.data]
    for other in others:
        moved = conform_to_grid(other, conformed.geometry, first.path, options, threads=threads)
        channels.append(moved.data)
    return conformed, np.stack(channels, -1) if others else conformed.data


def conform_to_grid(
    volume: Volume,
    grid: Geometry,
    reference: Path | str | None,
    options: ConformOptions,
    *,
    threads: int = 1,
) -> Conformed:
    """Conform a scan onto the grid of another scan of the same head, by the headers of both.

    Parameters
    ----------
    volume : Volume
        The scan.
    grid : Geometry
        Grid of the result.
    reference : Path or str or None
        File of the scan that has this grid, for messages.
    options : ConformOptions
        Interpolation and scaling.
    threads : int
        Number of threads.

    Returns
    -------
    Conformed

    Raises
    ------
    InputError
        If the fields of view do not overlap.
    """
    moved = conform(volume, options, grid=grid, threads=threads)
    if not moved.data.any():
        raise InputError(
            f'{volume.path}: has nothing where {reference} lies; the headers must place both '
            'in the same space'
        )
    return moved
