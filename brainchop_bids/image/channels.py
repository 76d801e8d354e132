"""Several scans of one head, conformed on one grid."""

from collections.abc import Sequence

import numpy as np

from ..system.errors import InputError
from .conform import Conformed, ConformOptions, conform
from .io import Volume


def conform_channels(
    volumes: Sequence[Volume], options: ConformOptions | None = None, *, threads: int = 1
) -> tuple[Conformed, np.ndarray]:
    """Conform a scan and bring other scans of the head onto its grid, by their headers.

    Parameters
    ----------
    volumes : sequence of Volume
        The first decides the grid.
    options : ConformOptions, optional
        As for `brainchop_bids.image.conform.conform`.
    threads : int
        Planes resliced at once.

    Returns
    -------
    conformed : Conformed
        The first scan.
    data : uint8 array
        (W, W, W) of a lone scan, (W, W, W, C) of several.

    Raises
    ------
    InputError
        Where another scan has nothing where the first lies, or as `conform` does.
    """
    first, *others = volumes
    options = options or ConformOptions()
    conformed = conform(first, options, threads=threads)
    channels = [conformed.data]
    for other in others:
        moved = conform(other, options, grid=conformed.geometry, threads=threads).data
        if not moved.any():
            raise InputError(
                f'{other.path}: has nothing where {first.path} lies; the headers must place both '
                'in the same space'
            )
        channels.append(moved)
    return conformed, np.stack(channels, -1) if others else conformed.data
