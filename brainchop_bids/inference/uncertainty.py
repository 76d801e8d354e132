"""Uncertainty of class probabilities, in nats."""

import numpy as np
from scipy import special


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Compute the entropy of class probabilities (Shannon 1948).

    Parameters
    ----------
    probabilities : (..., classes) array
        Probabilities, which sum to 1.

    Returns
    -------
    (...) float32 array
        ``-sum(p log p)`` in nats: 0 where one class is certain, ``log(classes)`` where all are
        equally likely.

    Examples
    --------
    >>> entropy(np.array([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])) / np.log(4)
    array([0., 1.])
    """
    total = special.entr(probabilities).sum(axis=-1, dtype=np.float32)
    # A probability may be rounded to slightly more than 1.
    return np.asarray(np.maximum(total, np.float32(0)))


def spread(mean: np.ndarray, *members: np.ndarray) -> np.ndarray:
    """Compute how far several predictions differ, as mutual information.

    It is the entropy of their mean less the mean of their entropies, the part of the uncertainty
    that is due to the choice of the prediction (Houlsby et al. 2011,
    https://arxiv.org/abs/1112.5745), here of the mirror image (Wang et al. 2019,
    https://doi.org/10.1016/j.neucom.2019.01.103). For two it is the Jensen-Shannon divergence.

    Parameters
    ----------
    mean : (...) array
        Entropy of the mean of their probabilities, see `entropy`.
    *members : (...) array
        Entropy of each prediction.

    Returns
    -------
    (...) float32 array
        Nats, from 0 where they agree to ``log(len(members))``.
    """
    difference = mean - np.mean(members, axis=0, dtype=np.float32)
    return np.asarray(np.maximum(difference, np.float32(0)))
