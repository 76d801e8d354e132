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
        Of any precision; there may be more axes of voxels.

    Returns
    -------
    (batch, voxels, classes) float32
        Half precision has too few digits for sums over a million voxels.
    """
    return ops.reshape(ops.cast(logits, 'float32'), (ops.shape(logits)[0], -1, logits.shape[-1]))


def flat_labels(labels: Any, classes: int) -> tuple[Any, Any]:
    """Return labels voxel by voxel, and which of them are classes.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        A label that is no class becomes 0.
    classes : int
        Number of classes.

    Returns
    -------
    labels : (batch, voxels) int32
    known : (batch, voxels) float32
        1 for a class, else 0.
    """
    flat = ops.reshape(ops.cast(labels, 'int32'), (ops.shape(labels)[0], -1))
    known = (flat >= 0) & (flat < classes)
    return ops.where(known, flat, 0), ops.cast(known, 'float32')


def at_labels(values: Any, labels: Any) -> Any:
    """Return what each voxel has for its own label.

    Parameters
    ----------
    values : (batch, voxels, classes) float32
        Something for each class.
    labels : (batch, voxels) int32
        Classes.

    Returns
    -------
    (batch, voxels) float32
    """
    return ops.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def sum_by_class(values: Any, labels: Any, classes: int) -> Any:
    """Add up values of voxels of the same label.

    Much less work than a product with one-hot labels, which are as large as all logits.

    Parameters
    ----------
    values : (batch, voxels) float32
        What is added.
    labels : (batch, voxels) int32
        Classes.
    classes : int
        Number of classes.

    Returns
    -------
    (batch, classes) float32
    """
    batch = labels.shape[0] or ops.shape(labels)[0]
    first = ops.expand_dims(ops.arange(batch, dtype='int32') * classes, -1)
    sums = ops.segment_sum(
        ops.reshape(values, (-1,)), ops.reshape(labels + first, (-1,)), batch * classes
    )
    return ops.reshape(sums, (-1, classes))


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
