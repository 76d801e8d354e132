"""Labels and logits as losses and metrics count them: flat and in single precision."""

from collections.abc import Sequence
from typing import Any

from keras import ops

# Small against one voxel: it decides only what a class that is nowhere counts.
EPSILON = 1e-6


def flat_logits(logits: Any) -> Any:
    """Return logits voxel by voxel.

    Parameters
    ----------
    logits : (batch, X, Y, Z, classes) float
        Of any precision.

    Returns
    -------
    (batch, voxels, classes) float32
        Half precision has too few digits for sums over a million voxels.
    """
    return ops.reshape(ops.cast(logits, 'float32'), (ops.shape(logits)[0], -1, logits.shape[-1]))


def one_hot(labels: Any, classes: int) -> Any:
    """Return labels as ones and zeros.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        A label that is no class has zeros only.
    classes : int
        Number of classes.

    Returns
    -------
    (batch, voxels, classes) float32
    """
    flat = ops.reshape(ops.cast(labels, 'int32'), (ops.shape(labels)[0], -1))
    return ops.one_hot(flat, classes, dtype='float32')


def checked_weights(weights: Sequence[float], classes: int) -> Any:
    """Return the weights of classes as a tensor.

    Raises
    ------
    ValueError
        Where there is not one for each class.
    """
    if len(weights) != classes:
        raise ValueError(f'{len(weights)} class weights given, expected {classes}')
    return ops.convert_to_tensor(list(map(float, weights)), 'float32')
