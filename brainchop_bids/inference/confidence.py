"""Confidence of a network: the probability that it gives to its own labels."""

from collections.abc import Sequence

import numpy as np

# Probabilities are kept as whole numbers of this many steps, in uint8.
CONFIDENCE_STEPS = 255
_DIGITS = 4


def confidence(probabilities: np.ndarray) -> np.ndarray:
    """Return the probability of the most likely class.

    Parameters
    ----------
    probabilities : (..., classes) array
        Class probabilities.

    Returns
    -------
    (...) uint8 array
        The largest of them, times 255.

    Examples
    --------
    >>> confidence(np.array([[1, 0, 0], [0.2, 0.6, 0.2]]))
    array([255, 153], dtype=uint8)
    """
    return np.asarray(CONFIDENCE_STEPS * probabilities.max(axis=-1) + 0.5).astype(np.uint8)


def confidence_by_label(
    labels: np.ndarray, confidences: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """Return the mean probability that a network gives to each of its labels.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Labels of the network, before they are smoothed or cleaned up.
    confidences : (X, Y, Z) uint8 array
        The probabilities of these labels, times 255.
    names : sequence of str
        Names of all labels, the background's first.

    Returns
    -------
    dict of str to float
        For each label that occurs, but the background, the mean over its voxels.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 1, 2]]], np.uint8)
    >>> steps = np.array([[[255, 255, 51, 102]]], np.uint8)
    >>> confidence_by_label(labels, steps, ['background', 'grey', 'white', 'fluid'])
    {'grey': 0.6, 'white': 0.4}
    """
    inside = np.flatnonzero(labels.ravel('F'))
    found, steps = (image.ravel('F')[inside] for image in (labels, confidences))
    counts = np.bincount(found, minlength=len(names))
    sums = np.bincount(found, weights=steps, minlength=len(names)) / CONFIDENCE_STEPS
    return {
        name: round(float(total / count), _DIGITS)
        for name, total, count in zip(names, sums, counts, strict=True)
        if count
    }


def mean_confidence(by_label: dict[str, float]) -> float | None:
    """Return one figure for a scan: the mean over its labels; None without labels."""
    return round(float(np.mean(list(by_label.values()))), _DIGITS) if by_label else None
