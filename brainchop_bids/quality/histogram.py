"""Distribution of the intensities of a region: distinct values and their counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image.lookup import flat

# Whole numbers with a wider range than this are sorted, as floats are.
_RANGE = 1 << 17
_CHUNK = 1 << 20
# The median absolute deviation of a normal distribution with standard deviation 1.
_NORMAL_MAD = 0.6744897501960817


@dataclass(frozen=True, eq=False)
class Distribution:
    """Values in ascending order, each with its count.

    A scan of integers has a few thousand distinct values, so medians and entropies of millions
    of voxels need one pass over the data.

    Parameters
    ----------
    values : (n,) float64 array
        In ascending order.
    counts : (n,) int64 array
        Number of occurrences.

    Examples
    --------
    >>> Distribution.of(np.array([3, 1, 3, 5], dtype=np.int16)).median
    3.0
    """

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, data: np.ndarray, where: np.ndarray | None = None) -> 'Distribution':
        """Count the values of an array of any shape and real type.

        Parameters
        ----------
        data : array
            Real numbers.
        where : bool array, optional
            Mask of the values to count.
        """
        # Scans are in Fortran order, boolean indexing runs in C order.
        values = flat(data) if where is None else data.T[where.T]
        if not values.size:
            return cls(np.zeros(0), np.zeros(0, dtype=np.int64))
        if values.dtype.kind not in 'iub':
            distinct, counts = np.unique(values, return_counts=True)
            return cls(distinct.astype(np.float64), counts)
        low, high = int(values.min()), int(values.max())
        if high - low > _RANGE:
            distinct, counts = np.unique(values, return_counts=True)
            return cls(distinct.astype(np.float64), counts)
        counts = np.zeros(high - low + 1, dtype=np.int64)
        for start in range(0, values.size, _CHUNK):
            part = values[start : start + _CHUNK].astype(np.int64) - low
            counts += np.bincount(part, minlength=counts.size)
        occur = np.flatnonzero(counts)
        return cls((occur + low).astype(np.float64), counts[occur])

    def scaled(self, factor: float) -> 'Distribution':
        """Multiply by a positive factor; negative values become 0, as in MRIQC."""
        return Distribution(np.maximum(self.values, 0) * factor, self.counts)

    @property
    def size(self) -> int:
        """Number of values, repeats counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return float(np.average(self.values, weights=self.counts))

    @property
    def stdv(self) -> float:
        """The standard deviation, divided by n."""
        return float(np.sqrt(self._moment(2)))

    @property
    def kurtosis(self) -> float:
        """Fisher's excess kurtosis; 0 where all values are equal."""
        variance = self._moment(2)
        return self._moment(4) / variance**2 - 3 if variance > 0 else 0.0

    @property
    def median(self) -> float:
        """The middle value, or the mean of the middle two."""
        return self.quantile(0.5)

    @property
    def mad(self) -> float:
        """The median absolute deviation, scaled to a normal distribution's standard deviation."""
        away = np.abs(self.values - self.median)
        order = np.argsort(away, kind='stable')
        return Distribution(away[order], self.counts[order]).median / _NORMAL_MAD

    def quantile(self, share: float) -> float:
        """Return the least value that ``share`` of all do not exceed.

        Where exactly that share does not exceed it, the mean of it and the next value.
        """
        ends = np.cumsum(self.counts)
        place = share * ends[-1]
        first = int(np.searchsorted(ends, place, side='left'))
        last = int(np.searchsorted(ends, place, side='right'))
        top = self.values.size - 1
        return float(self.values[min(first, top)] + self.values[min(last, top)]) / 2

    def percentile(self, percent: float) -> float:
        """Return what `numpy.percentile` gives: linear between neighbours."""
        ends = np.cumsum(self.counts)
        place = percent / 100 * (ends[-1] - 1)
        below, above = np.floor(place), np.ceil(place)
        low, high = self.values[np.searchsorted(ends, [below, above], side='right')]
        return float(low + (place - below) * (high - low))

    def _moment(self, power: int) -> Any:
        return np.average((self.values - self.mean) ** power, weights=self.counts)
