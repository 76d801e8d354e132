"""Losses that measure the overlap of labels and predictions, on any Keras backend.

With probabilities :math:`p` and one-hot labels :math:`g` over all voxels :math:`i` of a volume,
each class :math:`c` has the shared mass :math:`S_c = \\sum_i p_{ic} g_{ic}`, the false positive
mass :math:`F^+_c = \\sum_i p_{ic} - S_c` and the false negative mass
:math:`F^-_c = \\sum_i g_{ic} - S_c`. A class that is neither in the labels nor predicted counts as
perfect.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from .tensors import (
    EPSILON,
    at_labels,
    checked_weights,
    flat_labels,
    flat_logits,
    sum_by_class,
)


def soft_dice(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
) -> Any:
    r"""One minus the soft Dice coefficient, averaged over classes.

    .. math:: 1 - \frac{1}{C} \sum_c
              \frac{2 S_c + \epsilon}{2 S_c + F^+_c + F^-_c + \epsilon}

    After Milletari et al. (2016), V-Net, with plain sums instead of squares in the denominator.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class, in the mean over classes; they need not sum to one.
    background : bool
        Whether class 0 counts; if not, its weight is ignored.

    Returns
    -------
    (batch,) float32
        0 is perfect, 1 the worst.
    """
    return dice_of_masses(*_masses(labels, logits), class_weights, background)


def dice_of_masses(
    shared: Any,
    predicted: Any,
    present: Any,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
) -> Any:
    """Return `soft_dice` from the result of `masses`."""
    dice = (2 * shared + EPSILON) / (predicted + present + EPSILON)
    return _mean_over_classes(1 - dice, class_weights, background)


def generalised_dice(labels: Any, logits: Any) -> Any:
    r"""Dice in which each class weighs by the inverse square of its size.

    .. math:: 1 - 2 \frac{\sum_c w_c S_c}{\sum_c w_c (2 S_c + F^+_c + F^-_c)}, \quad
              w_c = \Big(\sum_i g_{ic}\Big)^{-2}

    After Sudre et al. (2017), doi:10.1007/978-3-319-67558-9_28. The weight of an
    absent class would be infinite; it gets the largest weight of those present, so that predicting
    it costs as much as missing the smallest one.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.

    Returns
    -------
    (batch,) float32
        0 is perfect, 1 the worst.
    """
    shared, predicted, present = _masses(labels, logits)
    known = ops.cast(present > 0, 'float32')
    weight = known / ops.square(ops.maximum(present, 1.0))
    weight = weight + (1 - known) * ops.max(weight, axis=-1, keepdims=True)
    top = 2 * ops.sum(weight * shared, axis=-1)
    return 1 - top / ops.sum(weight * (predicted + present), axis=-1)


def jaccard(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
) -> Any:
    r"""One minus the soft Jaccard index (intersection over union), averaged over classes.

    .. math:: 1 - \frac{1}{C} \sum_c \frac{S_c + \epsilon}{S_c + F^+_c + F^-_c + \epsilon}

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class, in the mean over classes.
    background : bool
        Whether class 0 counts.

    Returns
    -------
    (batch,) float32
        0 is perfect, 1 the worst.
    """
    lost = 1 - _tversky_index(labels, logits, 1.0, 1.0)
    return _mean_over_classes(lost, class_weights, background)


def tversky(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
    alpha: float = 0.3,
    beta: float = 0.7,
) -> Any:
    r"""One minus the Tversky index, averaged over classes, with weights for both kinds of errors.

    .. math:: 1 - \frac{1}{C} \sum_c T_c, \quad
              T_c = \frac{S_c + \epsilon}{S_c + \alpha F^+_c + \beta F^-_c + \epsilon}

    With both weights 1/2 this is the Dice loss, with both 1 the Jaccard loss. After Salehi et
    al. (2017), doi:10.1007/978-3-319-67389-9_44, whose best weights are the defaults.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class, in the mean over classes.
    background : bool
        Whether class 0 counts.
    alpha, beta : float
        Weights of false positives and false negatives.

    Returns
    -------
    (batch,) float32
        0 is perfect, 1 the worst.
    """
    lost = 1 - _tversky_index(labels, logits, alpha, beta)
    return _mean_over_classes(lost, class_weights, background)


def focal_tversky(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
) -> Any:
    r"""Root of the Tversky loss of each class, averaged over classes.

    .. math:: \frac{1}{C} \sum_c (1 - T_c)^{1/\gamma}

    with :math:`T_c` of `tversky`. After Abraham and Khan (2019),
    doi:10.1109/ISBI.2019.8759329, who sum over classes, call the weight of misses
    :math:`\alpha`, and have these values. Below :math:`1 - T_c = \epsilon` the root is replaced
    by the straight line to 0: its slope has no limit there.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class, in the mean over classes.
    background : bool
        Whether class 0 counts.
    alpha, beta : float
        Weights of false positives and false negatives.
    gamma : float
        Above 1, classes that are nearly right still pull; 1 gives `tversky`.

    Returns
    -------
    (batch,) float32
        0 is perfect, 1 the worst.
    """
    lost = 1 - _tversky_index(labels, logits, alpha, beta)
    power = 1 / gamma
    root = ops.power(ops.maximum(lost, EPSILON), power)
    line = lost * EPSILON ** (power - 1)
    return _mean_over_classes(ops.where(lost > EPSILON, root, line), class_weights, background)


def _tversky_index(labels: Any, logits: Any, alpha: float, beta: float) -> Any:
    """Return the index of each class, ``(batch, classes)``."""
    shared, predicted, present = _masses(labels, logits)
    wrong = alpha * (predicted - shared) + beta * (present - shared)
    return (shared + EPSILON) / (shared + wrong + EPSILON)


def _masses(labels: Any, logits: Any) -> tuple[Any, Any, Any]:
    """Return the shared, predicted and true mass of each class, ``(batch, classes)`` each."""
    probabilities = ops.softmax(flat_logits(logits), axis=-1)
    return masses(probabilities, labels)


def masses(probabilities: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Return the shared, predicted and true mass of each class.

    Parameters
    ----------
    probabilities : (batch, voxels, classes) float32
        Probabilities.
    labels : (batch, X, Y, Z) integers
        The truth; invalid labels are ignored.

    Returns
    -------
    shared, predicted, present : (batch, classes) float32
    """
    classes = probabilities.shape[-1]
    truth, known = flat_labels(labels, classes)
    shared = sum_by_class(known * at_labels(probabilities, truth), truth, classes)
    return shared, ops.sum(probabilities, axis=1), sum_by_class(known, truth, classes)


def _mean_over_classes(values: Any, weights: Sequence[float] | None, background: bool) -> Any:
    first = 0 if background else 1
    weight = None if weights is None else checked_weights(weights, values.shape[-1])[first:]
    values = values[:, first:]
    if weight is None:
        return ops.mean(values, axis=-1)
    return ops.sum(values * weight, axis=-1) / ops.sum(weight)
