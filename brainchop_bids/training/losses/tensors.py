"""Conversion of labels and logits to flat tensors in single precision, for losses and metrics."""

from collections.abc import Sequence
from typing import Any

from keras import ops

# Small compared with one voxel; it only matters for absent classes.
EPSILON = 1e-6


def flat_logits(logits: Any) -> Any:
    """Return logits with a single axis of voxels.

    Parameters
    ----------
    logits : (batch, X, Y, Z, classes) float
        Logits of any precision, with any number of spatial axes.

    Returns
    -------
    (batch, voxels, classes) float32
        Half precision is not enough for sums over a million voxels.
    """
    return ops.reshape(ops.cast(logits, 'float32'), (ops.shape(logits)[0], -1, logits.shape[-1]))


def flat_labels(labels: Any, classes: int) -> tuple[Any, Any]:
    """Return labels with a single axis of voxels, and whether they are valid.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        Labels; invalid ones become 0.
    classes : int
        Number of classes.

    Returns
    -------
    labels : (batch, voxels) int32
    known : (batch, voxels) float32
        1 for valid labels, else 0.
    """
    flat = ops.reshape(ops.cast(labels, 'int32'), (ops.shape(labels)[0], -1))
    known = (flat >= 0) & (flat < classes)
    return ops.where(known, flat, 0), ops.cast(known, 'float32')


def at_labels(values: Any, labels: Any) -> Any:
    """Return the value of each voxel for its own label.

    Parameters
    ----------
    values : (batch, voxels, classes) float32
        Values of all classes.
    labels : (batch, voxels) int32
        Classes.

    Returns
    -------
    (batch, voxels) float32
    """
    return ops.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def sum_by_class(values: Any, labels: Any, classes: int) -> Any:
    """Sum values over the voxels of each class.

    This is much faster than a product with one-hot labels, which are as large as the logits.

    Parameters
    ----------
    values : (batch, voxels) float32
        Values.
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
    """Return class weights as a tensor.

    Raises
    ------
    ValueError
        If their number is not that of the classes.
    """
    if len(weights) != classes:
        raise ValueError(f'{len(weights)} class weights given, expected {classes}')
    return ops.convert_to_tensor(list(map(float, weights)), 'float32')
