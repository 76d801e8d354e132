"""Outliers: values far from the rest of a group, by robust z."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CUTOFF = 3.5
# In samples of a normal distribution the rule marks 5.3 % of the values by chance where there are
# 5, 1.7 % of 10, 0.65 % of 20 and 0.1 % of 100 (100,000 samples each): with fewer than 10 scans
# most of what it marks of a hundred structures would be chance.
MIN_SCANS = 10
# Shares of sums differ in their last digits where nothing differs.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ValueSpread:
    """Quartiles, range and scale of a group of values.

    Parameters
    ----------
    count : int
        Number of known values.
    low, quarter, median, three_quarters, high : float
        Least value, quartiles and largest value; interpolated as `numpy.quantile` does.
    scale : float
        Robust standard deviation, in the unit of the values; 0 where all are equal.
    """

    count: int
    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float
    scale: float


def spread(values: Sequence[float | None]) -> ValueSpread | None:
    """Describe the distribution of some values.

    Parameters
    ----------
    values : sequence of float or None
        None where a value is not known.

    Returns
    -------
    ValueSpread or None
        None where no value is known.
    """
    known = _known(values)
    if not known.size:
        return None
    quartiles = np.quantile(known, [0, 0.25, 0.5, 0.75, 1])
    low, quarter, median, three_quarters, high = map(float, quartiles)
    return ValueSpread(int(known.size), low, quarter, median, three_quarters, high, _scale(known))


def robust_z(values: Sequence[float | None]) -> list[float | None]:
    """Return how far each value lies from the median, in robust standard deviations.

    The modified z-score of Iglewicz & Hoaglin (1993, How to Detect and Handle Outliers):
    ``0.6745 (x - median) / MAD``. Where more than half of the values are equal, MAD is 0; then
    the mean absolute deviation stands in, ``(x - median) / (1.2533 MeanAD)``, as SPSS does. Both
    are standard deviations where values are normally distributed.

    Parameters
    ----------
    values : sequence of float or None
        None where a value is not known.

    Returns
    -------
    list of float or None
        None for values that are not known; for all where fewer than `MIN_SCANS` are known or
        all are equal.

    Examples
    --------
    >>> scores = robust_z([1, 2, 3, 4, 5, 6, 7, 8, 9, 30])
    >>> round(scores[-1], 3)
    6.61
    """
    known = _known(values)
    scale = _scale(known)
    if known.size < MIN_SCANS or scale == 0:
        return [None] * len(values)
    median = float(np.median(known))
    return [None if value is None else (value - median) / scale for value in values]


def _known(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([value for value in values if value is not None], np.float64)


def _scale(known: npt.NDArray[np.float64]) -> float:
    """Return a robust standard deviation, 0 where all values are equal but for rounding."""
    if not known.size:
        return 0.0
    deviations = np.abs(known - np.median(known))
    least = _ROUNDING * float(np.abs(known).max())
    for scale in (float(np.median(deviations)) / 0.6745, 1.253314 * float(deviations.mean())):
        if scale > least:
            return scale
    return 0.0
