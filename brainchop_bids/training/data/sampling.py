"""Which cubes of a volume a network is trained on, and which of their voxels it computes."""

from collections.abc import Sequence

import numpy as np

from ...system.errors import SettingsError

# Cubes drawn at most where the ones before hold too few labelled voxels.
_TRIES = 20

Box = tuple[slice, ...]


def draw_box(
    shape: Sequence[int],
    side: int,
    inside: np.ndarray,
    rng: np.random.Generator,
    centred: float,
    labelled: float = 0.0,
) -> Box:
    """Draw a cube, around a labelled voxel or anywhere.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the volume.
    side : int
        Side of the cube, voxels.
    inside : (n,) integers
        Labelled voxels of the volume in C order, rising, as `numpy.flatnonzero` gives them.
    rng : numpy.random.Generator
        Decides.
    centred : float
        Probability of a cube around a labelled voxel, which then lies within a quarter side of
        its middle wherever the volume does not end.
    labelled : float
        Least share of labelled voxels in the cube. Others are drawn again; after 20 draws it is
        the one with most.

    Returns
    -------
    tuple of 3 slice
        Within the volume, each ``side`` long.

    Raises
    ------
    SettingsError
        Where the volume is smaller than the cube.
    """
    if min(shape) < side:
        raise SettingsError(f'cubes of {side} voxels do not fit a volume of {tuple(shape)}')
    best, most = _draw(shape, side, inside, rng, centred), -1.0
    # Without labelled voxels no cube would be better.
    if labelled <= 0 or not len(inside):
        return best
    box = best
    for tries in range(_TRIES):
        if tries:
            box = _draw(shape, side, inside, rng, centred)
        share = labelled_share(shape, box, inside)
        if share > most:
            best, most = box, share
        if share >= labelled:
            break
    return best


def labelled_share(shape: Sequence[int], box: Box, inside: np.ndarray) -> float:
    """Return how much of a box is labelled.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the volume.
    box : tuple of 3 slice
        Within it.
    inside : (n,) integers
        As for `draw_box`.

    Returns
    -------
    float
        0 to 1.
    """
    x, y, z = box
    rows = np.arange(x.start, x.stop)[:, None] * shape[1] + np.arange(y.start, y.stop)
    # Each row of the box is a run of flat indices, and these are sorted.
    begin = np.searchsorted(inside, (rows * shape[2] + z.start).ravel())
    end = np.searchsorted(inside, (rows * shape[2] + z.stop).ravel())
    return float((end - begin).sum()) / (rows.size * (z.stop - z.start))


def computed(labels: np.ndarray, stride: int) -> np.ndarray:
    """Return the labels of the voxels that a network of this stride computes.

    A convolution of stride 2 that keeps an even size has its first output on voxel 1.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels of a cube.
    stride : {1, 2}
        The stage's.

    Returns
    -------
    (X / stride, Y / stride, Z / stride) view
    """
    return labels[(slice(stride - 1, None, stride),) * 3]


def _draw(
    shape: Sequence[int], side: int, inside: np.ndarray, rng: np.random.Generator, centred: float
) -> Box:
    if len(inside) and rng.random() < centred:
        chosen = inside[rng.integers(len(inside))]
        middle = np.array(np.unravel_index(chosen, tuple(shape)))
        middle += rng.integers(-(side // 4), side // 4 + 1, 3)
    else:
        middle = rng.integers(0, shape)
    start = np.clip(middle - side // 2, 0, np.array(shape) - side)
    return tuple(slice(int(low), int(low) + side) for low in start)
