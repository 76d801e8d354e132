"""Losses that average over voxels, on any Keras backend."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from .tensors import EPSILON, at_labels, checked_weights, flat_labels, flat_logits


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
    logarithms = ops.log_softmax(flat_logits(logits), axis=-1)
    return cross_entropy_of(logarithms, labels, class_weights)


def cross_entropy_of(
    logarithms: Any, labels: Any, class_weights: Sequence[float] | None = None
) -> Any:
    """Return `cross_entropy` of logarithms of probabilities ``(batch, voxels, classes)``."""
    likelihood, weight = _true_class(logarithms, labels, class_weights)
    return weighted_mean(-likelihood, weight)


def focal(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    gamma: float = 2.0,
) -> Any:
    r"""Focal loss: cross entropy in which well-classified voxels have little weight.

    .. math:: - \frac{\sum_i w_{y_i} (1 - p_{i y_i})^\gamma \log p_{i y_i}}{\sum_i w_{y_i}}

    After Lin et al. (2017), doi:10.1109/ICCV.2017.324, for a softmax; their :math:`\alpha_t` is
    the class weight :math:`w`. With :math:`\gamma = 0` this is `cross_entropy`.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class.
    gamma : float
        0 or more; the larger, the less easy voxels count.

    Returns
    -------
    (batch,) float32
        0 is perfect.
    """
    likelihood, weight = _true_class(
        ops.log_softmax(flat_logits(logits), axis=-1), labels, class_weights
    )
    if gamma == 0:
        return weighted_mean(-likelihood, weight)
    # A power below 1 is not differentiable at p = 1.
    wrong = ops.maximum(-ops.expm1(likelihood), EPSILON)
    return weighted_mean(-ops.power(wrong, gamma) * likelihood, weight)


def boundary_cross_entropy(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    strength: float = 4.0,
    reach: int = 3,
) -> Any:
    r"""Cross entropy in which voxels near a boundary between labels weigh more.

    .. math:: - \frac{\sum_i w_{y_i} b_i \log p_{i y_i}}{\sum_i w_{y_i} b_i}, \quad
              b_i = 1 + s \max\Big(0, \frac{r + 1 - d_i}{r}\Big)

    with strength :math:`s`, reach :math:`r` and :math:`d_i`, the chessboard distance of voxel
    :math:`i` to the nearest voxel of the volume that has another label: 1 where two labels
    touch, by face, edge or corner. A voxel there weighs :math:`1 + s`, one step further
    :math:`s / r` less, and 1 from :math:`r + 1` steps on. The edges of the volume are no
    boundary. In the spirit of the weight map of Ronneberger et al. (2015),
    doi:10.1007/978-3-319-24574-4_28, which falls like a Gaussian of the distance to the two
    nearest cells, and of Roy et al. (2019), doi:10.1016/j.neuroimage.2018.11.042, whose reach
    is 1.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class.
    strength : float
        What a voxel at a boundary weighs more than one far from any; 0 gives `cross_entropy`.
    reach : int
        Voxels from a boundary that weigh more, 1 or more.

    Returns
    -------
    (batch,) float32
        In nats; 0 is perfect.
    """
    likelihood, weight = _true_class(
        ops.log_softmax(flat_logits(logits), axis=-1), labels, class_weights
    )
    near = ops.reshape(boundary_nearness(labels, reach), ops.shape(likelihood))
    return weighted_mean(-likelihood, weight * (1 + strength * near))


def boundary_nearness(labels: Any, reach: int) -> Any:
    r"""Return the nearness of each voxel to voxels with another label.

    A box of :math:`2k + 1` voxels a side around a voxel holds another label if, and only if,
    its smallest and its largest label differ, and that is so for each :math:`k \ge d_i`. The
    share of :math:`k = 1 \dots r` for which it is so is therefore
    :math:`\max(0, (r + 1 - d_i) / r)`.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        Labels.
    reach : int
        1 or more.

    Returns
    -------
    (batch, X, Y, Z) float32
        1 at a boundary, falling by ``1 / reach`` with each voxel, 0 beyond.
    """
    high = ops.cast(labels, 'float32')[..., None]
    low = -high
    near = ops.zeros_like(high)
    for _ in range(reach):
        high, low = _dilated(high), _dilated(low)
        near = near + ops.cast(high + low > 0, 'float32')
    return near[..., 0] / reach


def _dilated(values: Any) -> Any:
    return ops.max_pool(values, 3, 1, padding='same', data_format='channels_last')


def _true_class(
    logarithms: Any, labels: Any, class_weights: Sequence[float] | None
) -> tuple[Any, Any]:
    """Return log-likelihood and weight of the true class, ``(batch, voxels)`` float32 each."""
    classes = logarithms.shape[-1]
    truth, known = flat_labels(labels, classes)
    likelihood = known * at_labels(logarithms, truth)
    if class_weights is None:
        return likelihood, known
    return likelihood, known * ops.take(checked_weights(class_weights, classes), truth)


def weighted_mean(values: Any, weight: Any) -> Any:
    """Return the weighted mean over voxels, ``(batch,)``; 0 if all weights are 0."""
    return ops.sum(weight * values, axis=-1) / ops.maximum(ops.sum(weight, axis=-1), EPSILON)
