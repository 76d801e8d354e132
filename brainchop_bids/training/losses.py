"""Losses for label volumes, on any Keras backend.

All take integer labels and logits, weigh classes if asked to, and return one number for each
volume of the batch; the Keras classes average these.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

# Small against one voxel: it decides only what a class that is nowhere counts.
EPSILON = 1e-6


def soft_dice(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
) -> Any:
    r"""One minus the soft Dice coefficient, averaged over classes.

    .. math:: 1 - \frac{1}{C} \sum_c
              \frac{2 \sum_i p_{ic} g_{ic} + \epsilon}{\sum_i p_{ic} + \sum_i g_{ic} + \epsilon}

    with probabilities :math:`p` and one-hot labels :math:`g` over all voxels :math:`i` of a
    volume. A class that is neither there nor predicted counts as perfect. After Milletari et
    al. (2016), V-Net, with plain sums instead of squares in the denominator.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class that counts; they need not sum to one.
    background : bool
        Whether class 0 counts.

    Returns
    -------
    (batch,) float32
        0 is perfect, 1 the worst.
    """
    probabilities, truth = _prepare(labels, logits)
    shared, sizes = _overlap(probabilities, truth)
    dice = (2 * shared + EPSILON) / (sizes + EPSILON)
    return 1 - _mean_over_classes(dice, class_weights, background)


def generalised_dice(labels: Any, logits: Any) -> Any:
    r"""Dice in which each class weighs by the inverse square of its size.

    .. math:: 1 - 2 \frac{\sum_c w_c \sum_i p_{ic} g_{ic}}
                         {\sum_c w_c \sum_i (p_{ic} + g_{ic})}, \quad
              w_c = \Big(\sum_i g_{ic}\Big)^{-2}

    After Sudre et al. (2017), doi:10.1007/978-3-319-67558-9_28. A class that is absent would
    weigh infinitely; it takes the largest weight of those present, so that predicting it is
    punished as hard as missing the smallest one.

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
    probabilities, truth = _prepare(labels, logits)
    shared, sizes = _overlap(probabilities, truth)
    count = ops.sum(truth, axis=1)
    present = ops.cast(count > 0, 'float32')
    weight = present / ops.square(ops.maximum(count, 1.0))
    weight = weight + (1 - present) * ops.max(weight, axis=-1, keepdims=True)
    top = 2 * ops.sum(weight * shared, axis=-1)
    return 1 - top / ops.sum(weight * sizes, axis=-1)


def cross_entropy(
    labels: Any, logits: Any, *, class_weights: Sequence[float] | None = None
) -> Any:
    r"""Cross entropy, averaged over voxels by the weights of their true classes.

    .. math:: - \frac{\sum_i w_{y_i} \log p_{i y_i}}{\sum_i w_{y_i}}

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class.

    Returns
    -------
    (batch,) float32
        In nats; 0 is perfect.
    """
    classes = logits.shape[-1]
    flat = ops.reshape(ops.cast(logits, 'float32'), (ops.shape(logits)[0], -1, classes))
    truth = _one_hot(labels, classes)
    each = -ops.sum(truth * ops.log_softmax(flat, axis=-1), axis=-1)
    if class_weights is None:
        return ops.mean(each, axis=-1)
    weight = ops.sum(truth * _checked(class_weights, classes), axis=-1)
    return ops.sum(weight * each, axis=-1) / ops.maximum(ops.sum(weight, axis=-1), EPSILON)


def dice_cross_entropy(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
    share: float = 0.5,
) -> Any:
    """Weighted sum of `soft_dice` and `cross_entropy`.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class, for the cross entropy alone.
    background : bool
        Whether class 0 counts in the Dice term.
    share : float
        Weight of the Dice term, 0 to 1; the cross entropy has the rest.

    Returns
    -------
    (batch,) float32
    """
    dice = soft_dice(labels, logits, background=background)
    return share * dice + (1 - share) * cross_entropy(labels, logits, class_weights=class_weights)


LOSSES: dict[str, Callable[..., Any]] = {
    'soft_dice': soft_dice,
    'generalised_dice': generalised_dice,
    'cross_entropy': cross_entropy,
    'dice_cross_entropy': dice_cross_entropy,
}


@keras.saving.register_keras_serializable('brainchop')
class LabelLoss(keras.losses.Loss):
    """One of the losses above as a Keras loss, to be given to ``compile``.

    Parameters
    ----------
    kind : {'soft_dice', 'generalised_dice', 'cross_entropy', 'dice_cross_entropy'}
        Which one.
    name : str, optional
        For logs; the kind by default.
    **options
        Keyword arguments of the function.

    Raises
    ------
    ValueError
        For another kind.

    Examples
    --------
    >>> loss = LabelLoss('dice_cross_entropy', share=0.7)
    >>> loss.get_config()['share']
    0.7
    """

    def __init__(self, kind: str, *, name: str | None = None, **options: Any) -> None:
        if kind not in LOSSES:
            raise ValueError(f'loss {kind!r} is not known; expected one of {sorted(LOSSES)}')
        super().__init__(name=name or kind)
        self.kind = kind
        self.options = options

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each volume."""
        return LOSSES[self.kind](y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this loss again."""
        return {'kind': self.kind, 'name': self.name, **self.options}


@keras.saving.register_keras_serializable('brainchop')
class ClassDice(keras.metrics.Metric):
    """Dice of each class over all volumes seen, of labels and of the most likely class.

    Counts are added up over batches, so that the last, smaller batch weighs what it is worth.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    name : str
        For logs.
    """

    def __init__(self, classes: int, *, name: str = 'dice', **options: Any) -> None:
        super().__init__(name=name, **options)
        self.classes = classes
        shape = (classes,)
        self.shared = self.add_weight(shape=shape, initializer='zeros', name='shared')
        self.sizes = self.add_weight(shape=shape, initializer='zeros', name='sizes')

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch: integer labels and logits as for the losses; weights are not used."""
        truth = _one_hot(y_true, self.classes)
        found = _one_hot(ops.argmax(y_pred, axis=-1), self.classes)
        self.shared.assign_add(ops.sum(truth * found, axis=(0, 1)))
        self.sizes.assign_add(ops.sum(truth, axis=(0, 1)) + ops.sum(found, axis=(0, 1)))

    def per_class(self) -> Any:
        """Return the Dice of each class, ``(classes,)``; NaN where there was nothing."""
        return 2 * self.shared / self.sizes

    def result(self) -> Any:
        """Return the mean over the foreground classes that were there or predicted."""
        there = ops.cast(self.sizes[1:] > 0, 'float32')
        dice = 2 * self.shared[1:] / ops.maximum(self.sizes[1:], 1.0)
        return ops.sum(dice * there) / ops.maximum(ops.sum(there), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this metric again."""
        return {**super().get_config(), 'classes': self.classes}


def _prepare(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Return probabilities and one-hot labels, ``(batch, voxels, classes)`` float32 each."""
    classes = logits.shape[-1]
    # Half precision has too few digits for sums over a million voxels.
    flat = ops.reshape(ops.cast(logits, 'float32'), (ops.shape(logits)[0], -1, classes))
    return ops.softmax(flat, axis=-1), _one_hot(labels, classes)


def _one_hot(labels: Any, classes: int) -> Any:
    flat = ops.reshape(ops.cast(labels, 'int32'), (ops.shape(labels)[0], -1))
    return ops.one_hot(flat, classes, dtype='float32')


def _overlap(probabilities: Any, truth: Any) -> tuple[Any, Any]:
    """Return the shared mass and the sum of both masses of each class, ``(batch, classes)``."""
    shared = ops.sum(probabilities * truth, axis=1)
    return shared, ops.sum(probabilities, axis=1) + ops.sum(truth, axis=1)


def _mean_over_classes(values: Any, weights: Sequence[float] | None, background: bool) -> Any:
    first = 0 if background else 1
    values = values[:, first:]
    if weights is None:
        return ops.mean(values, axis=-1)
    weight = _checked(weights, values.shape[-1])
    return ops.sum(values * weight, axis=-1) / ops.sum(weight)


def _checked(weights: Sequence[float], classes: int) -> Any:
    if len(weights) != classes:
        raise ValueError(f'{len(weights)} class weights given, expected {classes}')
    return ops.convert_to_tensor(list(map(float, weights)), 'float32')
