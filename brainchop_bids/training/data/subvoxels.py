"""Voxels of each block that a step computes, and their labels.

Apart from the loss on them (`brainchop_bids.training.losses.subvoxels`), since the processes that
make patches must not import a deep learning library: it takes seconds and 1 GB in each.
"""

import numpy as np


def draw_subvoxels(seed: tuple[int, ...], count: int, factor: int) -> np.ndarray:
    """Draw voxels of a block.

    Parameters
    ----------
    seed : tuple of int
        Seed of the random generator.
    count : int
        Number of voxels.
    factor : int
        Voxels of a block along each axis.

    Returns
    -------
    (count,) int32
        Distinct indices in C order.
    """
    return np.random.default_rng(seed).permutation(factor**3)[:count].astype(np.int32)


def subvoxel_labels(labels: np.ndarray, indices: np.ndarray, factor: int) -> np.ndarray:
    """Return the labels of some of the voxels of each block.

    Parameters
    ----------
    labels : (batch, X, Y, Z) array
        Labels of all voxels.
    indices : (voxels,) integers
        From `draw_subvoxels`.
    factor : int
        Voxels of a block along each axis.

    Returns
    -------
    (batch, X / factor, Y / factor, Z / factor, voxels) array
    """
    offsets = np.stack(np.unravel_index(indices, (factor,) * 3), -1)
    parts = [labels[:, x::factor, y::factor, z::factor] for x, y, z in offsets]
    return np.stack(parts, -1)
