"""How much of each label there is."""

import numpy as np

from .lookup import histogram


def label_volumes(labels: np.ndarray, voxel_volume: float) -> dict[int, tuple[int, float]]:
    """Count the voxels of every label that occurs, background included.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers or bool
        Label map.
    voxel_volume : float
        Volume of one voxel in mm^3.

    Returns
    -------
    dict
        Label to (voxels, volume in mm^3), in ascending order of label.

    Examples
    --------
    >>> label_volumes(np.array([[[0, 2, 2]]], dtype=np.uint8), 0.5)
    {0: (1, 0.5), 2: (2, 1.0)}
    """
    counts = histogram(labels)
    return {
        int(label): (int(counts[label]), float(counts[label] * voxel_volume))
        for label in np.flatnonzero(counts)
    }
