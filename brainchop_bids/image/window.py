"""Scaling of intensities to 0..255 as FreeSurfer's ``mri_convert -c`` does it.

Computations are in float32 wherever they are in FreeSurfer, because rounding decides ties.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..system.errors import InputError
from .lookup import flat, histogram, lookup

# Intensities of CT that show a brain, Hounsfield units.
_HOUNSFIELD = (0, 80)
_BINS = 1000
_HIGH = 0.999
_ZERO = 1e-15  # smaller values are background in the histogram
_CODES = 1 << 16
_PIECE = 1 << 16
# The largest float32 below one half: adding it and truncating rounds halves up for every float32,
# whereas adding one half would round 0.49999997 to 1.
_HALF = np.nextafter(np.float32(0.5), np.float32(0))
# Outliers are at most this share of the voxels, at each end. They lie apart from all others by a
# gap in which there is no value, as wide as half the range of the others below them, and as twice
# that range above them, where bright vessels and fat may lie apart, too.
_TAIL = 0.01
_GAP_BELOW, _GAP_ABOVE = 0.5, 2.0
# Outliers above all others matter only if they leave so few bins of the histogram to the others.
_LEAST_BINS = 20
_SAMPLE = 1 << 18
# Values that wrapped around in 16 bits lie beyond this, where there are some on the other side.
_FAR = 1 << 14


@dataclass(frozen=True, eq=False)
class _Values:
    """The intensities of a volume.

    Parameters
    ----------
    pieces : list of array
        Intensities; together all voxels, or all values that occur.
    counts : list of (array or None)
        Number of voxels of each value; None for 1 each.
    """

    pieces: list[np.ndarray]
    counts: list[np.ndarray | None]

    @classmethod
    def of(cls, values: np.ndarray) -> '_Values':
        """Divide the voxels of a volume into pieces that fit into a cache."""
        source = flat(values)
        pieces = [source[start : start + _PIECE] for start in range(0, source.size, _PIECE)]
        return cls(pieces, [None] * len(pieces))

    @classmethod
    def counted(cls, values: np.ndarray, counts: np.ndarray) -> '_Values':
        """Take the values that occur, and their numbers."""
        return cls([values], [counts])

    @cached_property
    def tails(self) -> tuple[float, float]:
        """Quantiles, about, beyond which outliers are looked for."""
        if self.counts[0] is None:
            step = max(1, sum(map(len, self.pieces)) // _SAMPLE)
            sample = np.sort(np.concatenate([piece[::step] for piece in self.pieces]))
            last = sample.size - 1
            return float(sample[int(_TAIL * last)]), float(sample[int((1 - _TAIL) * last)])
        order = np.argsort(self.pieces[0])
        cumulated = np.cumsum(self.counts[0][order])
        places = np.searchsorted(
            cumulated, [share * (cumulated[-1] - 1) for share in (_TAIL, 1 - _TAIL)], side='right'
        )
        low, high = self.pieces[0][order][places]
        return float(low), float(high)

    def beyond(self, limit: float, sign: int) -> tuple[np.ndarray, int]:
        """Return the sorted values below (``sign`` -1) or above (1) a limit, and their number."""
        found, number = [], 0
        for piece, weight in zip(self.pieces, self.counts, strict=True):
            chosen = piece < limit if sign < 0 else piece > limit
            found.append(piece[chosen].astype(np.float64))
            number += int(np.count_nonzero(chosen) if weight is None else weight[chosen].sum())
        return np.sort(np.concatenate(found)), number


def clip_hounsfield(values: np.ndarray) -> np.ndarray:
    """Clip the intensities of a CT of a head to those of brain and fluid, 0 to 80.

    As ``--ct`` of SynthSeg (Billot et al. 2023, https://doi.org/10.1016/j.media.2023.102789).

    Parameters
    ----------
    values : array
        Intensities in Hounsfield units.

    Returns
    -------
    array
        A copy of the same type.
    """
    return np.clip(values, *_HOUNSFIELD)


def to_uint8(
    values: np.ndarray, *, scale: bool = True, robust: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Scale intensities to 0..255 and round them.

    Parameters
    ----------
    values : array of integers or floats
        Finite intensities of one volume.
    scale : bool
        Scale; otherwise only round and clip.
    robust : bool
        Whether outliers are clipped before the window is sought.

    Returns
    -------
    scaled : uint8 array of the same shape
        Scaled as in FreeSurfer's conform: the brightest thousandth of the foreground is clipped.
    notes : list of str
        One line for outliers below all others, and one for outliers above.

    Raises
    ------
    InputError
        If the range of intensities exceeds that of float32.
    """
    notes: list[str] = []
    if values.dtype in (np.int16, np.uint16):
        # The result depends on the value alone, so compute it once per value, not per voxel.
        codes = values.view(np.uint16)
        counts = histogram(codes, _CODES)
        table = np.arange(_CODES, dtype=np.uint16).view(values.dtype).astype(np.float32)
        present = counts > 0
        limits = None
        if scale:
            wrapped = _unwrap(table, counts) if robust else []
            seen = _Values.counted(table[present], counts[present])
            limits, notes = _find_window(seen, robust=robust)
            notes = [*wrapped, *notes]
        return lookup(_rounded(table, limits), codes), notes
    result = np.empty_like(values, dtype=np.uint8, subok=False)
    source, target = flat(values), flat(result)
    limits = None
    if scale:
        limits, notes = _find_window(_Values.of(values), robust=robust)
    for start in range(0, source.size, _PIECE):
        piece = slice(start, start + _PIECE)
        target[piece] = _rounded(source[piece].astype(np.float32), limits)
    return result, notes


def window(values: np.ndarray) -> tuple[np.float32, np.float32]:
    """Return the scaling of `to_uint8` without ``robust``: ``(values - low) * factor``.

    Parameters
    ----------
    values : array
        Finite intensities of one volume.

    Returns
    -------
    low, factor : float32
        Lowest value, and factor.

    Raises
    ------
    InputError
        If the range of intensities exceeds that of float32.
    """
    return _find_window(_Values.of(values), robust=False)[0]


def half_up(values: np.ndarray) -> np.ndarray:
    """Round float32 values in 0..255 to the nearest integer, halves up."""
    return (values + _HALF).astype(np.uint8)


def _unwrap(table: np.ndarray, counts: np.ndarray) -> list[str]:
    """Take a few negative values for numbers above 32767 that were stored in 16 bits.

    Parameters
    ----------
    table : (65536,) float32
        Value of each code, changed in place.
    counts : (65536,) int64
        Number of voxels of each code.

    Returns
    -------
    list of str
        One line if there are such values.
    """
    present = table[counts > 0]
    negative = table < 0
    number = int(counts[negative].sum())
    ends = float(present.min()), float(present.max())
    few = 0 < number <= _TAIL * int(counts.sum())
    if not few or ends[0] > -_FAR or ends[1] < _FAR:
        return []
    table[negative] += _CODES
    return [
        f'{number} voxel{"s" * (number > 1)} with values down to {ends[0]:g} in a scan of values '
        f'up to {ends[1]:g} seem{"s" * (number == 1)} to be numbers above 32767 that wrapped '
        'around in 16 bits; they were read as such'
    ]


def _find_window(
    values: _Values, *, robust: bool
) -> tuple[tuple[np.float32, np.float32], list[str]]:
    """Return the lowest value and the factor that scales the window above it to 0..255."""
    low = np.float32(min(piece.min() for piece in values.pieces))
    high = np.float32(max(piece.max() for piece in values.pieces))
    notes: list[str] = []
    if robust:
        low, below = _without_outliers(values, low, -1)
        notes += below
        cut, above = _without_outliers(values, high, 1)
        if above and _bins_below(values, low, high, cut) < _LEAST_BINS:
            high = cut
            notes += above
    return _window(values, low, high), notes


def _without_outliers(
    values: _Values, extreme: np.float32, sign: int
) -> tuple[np.float32, list[str]]:
    """Return the lowest or highest value that is no outlier, and a line if there are outliers."""
    first, last = values.tails
    gap = (_GAP_BELOW if sign < 0 else _GAP_ABOVE) * (last - first)
    limit = first if sign < 0 else last
    if gap <= 0 or (float(extreme) - limit) * sign <= gap:
        return extreme, []
    tail, _ = values.beyond(limit, sign)
    ordered = np.append(tail, limit) if sign < 0 else np.insert(tail, 0, limit)
    wide = np.flatnonzero(np.diff(ordered) > gap)
    if not wide.size:
        return extreme, []
    # The gap next to the others.
    kept = float(ordered[wide[-1] + 1] if sign < 0 else ordered[wide[0]])
    outliers, number = values.beyond(kept, sign)
    ends = sorted({float(outliers[0]), float(outliers[-1])})
    where = ' to '.join(f'{end:g}' for end in ends)
    side, end = ('below', 'lowest') if sign < 0 else ('above', 'highest')
    note = (
        f'{number} voxel{"s" * (number > 1)} at {where} lie{"s" * (number == 1)} far {side} all '
        f"others, whose {end} is {kept:g}; clipped, because the range of FreeSurfer's "
        'conform would be stretched'
    )
    return np.float32(kept), [note]


def _bins_below(values: _Values, low: np.float32, high: np.float32, cut: np.float32) -> float:
    """Return how many bins of the histogram are left to the values up to a cut."""
    with np.errstate(over='ignore'):
        return float(_BINS * (np.float64(cut) - low) / (np.float64(high) - low))


def _window(values: _Values, low: np.float32, high: np.float32) -> tuple[np.float32, np.float32]:
    with np.errstate(over='ignore'):
        width = np.float32(np.float32(high - low) / np.float32(_BINS))
    if not np.isfinite(width):
        raise InputError(
            f'intensities run from {low:g} to {high:g}, more than float32 can span; '
            'rescale the image'
        )
    if width == 0:
        return low, np.float32(1)
    bins = np.zeros(_BINS, dtype=np.int64)
    nonzero = 0
    for piece, weight in zip(values.pieces, values.counts, strict=True):
        value = piece.astype(np.float32)
        with np.errstate(over='ignore'):
            number = np.clip((value - low) / width, 0, _BINS - 1).astype(np.intp)
        seen = np.abs(value) >= _ZERO
        nonzero += int(seen.sum() if weight is None else weight[seen].sum())
        bins += np.bincount(number, weight, _BINS).astype(np.int64)
    top = np.float32(np.float32(_top_bin(bins, nonzero)) * width + low)
    if top == low:
        return low, np.float32(1)
    with np.errstate(over='ignore'):
        return low, np.float32(np.float32(255) / np.float32(top - low))


def _top_bin(bins: np.ndarray, nonzero: int) -> int:
    """Return the bin below the one that the brightest thousandth of the foreground reaches."""
    wanted = int((1.0 - float(np.float32(_HIGH))) * nonzero)
    found, number = 0, _BINS - 1
    while found < wanted and number > 0:
        found += int(bins[number])
        number -= 1
    return number


def _rounded(values: np.ndarray, limits: tuple[np.float32, np.float32] | None) -> np.ndarray:
    """Scale, clip to 0..255 and round halves up; a value of exactly 0 stays 0 when scaled."""
    out = values
    if limits is not None:
        low, factor = limits
        with np.errstate(over='ignore', invalid='ignore'):
            out = np.nan_to_num(factor * (values - low))
    result = half_up(np.clip(out, 0, 255))
    if limits is not None:
        result[values == 0] = 0
    return result
