"""Stored values of an image as numbers, in the types that FreeSurfer's ``mri_convert`` uses."""

from collections.abc import Iterator

import numpy as np

from .lookup import flat

_PIECE = 1 << 16
# Beyond these the difference of two values, or a thousandth of it, exceeds what float32 can hold.
_LARGEST, _SMALLEST = 2.0**126, 2.0**-120
_MIDDLE = 10  # exponent of the largest value after scaling, so that it is 512 to 1024
_FEW = 1000  # one value in so many may be dropped, as the window of conform clips as many


def as_read(stored: np.ndarray, slope: float, inter: float) -> tuple[np.ndarray, list[str]]:
    """Scale or convert stored values as FreeSurfer does, in float32 at every step.

    Parameters
    ----------
    stored : (X, Y, Z) array
        Integers or floats of any size and byte order; not changed.
    slope, inter : float
        Slope and intercept; 1 and 0 if values are not scaled.

    Returns
    -------
    values : array of the same shape
        uint8, int16, uint16, int32 or float32. Values that are not finite are 0. If more than a
        thousandth of the values is too large for float32, or all are too small, they are
        multiplied by a power of two; fewer are 0.
    warnings : list of str
        One line for each change that FreeSurfer does not make.
    """
    with np.errstate(all='ignore'):
        values = _converted(stored, slope, inter)
        if values.dtype.kind != 'f' or _is_ordinary(values):
            return values, []
        return _mended(stored, slope, inter, values)


def _converted(stored: np.ndarray, slope: float, inter: float) -> np.ndarray:
    kind, size = stored.dtype.kind, stored.dtype.itemsize
    if (slope, inter) != (1.0, 0.0):
        values = stored.astype(np.float32, order='K')
        values *= np.float32(slope)
        values += np.float32(inter)
        return values
    if (kind == 'f' and size != 4) or (kind == 'u' and size > 2) or (kind == 'i' and size > 4):
        return stored.astype(np.float32, order='K')
    if kind == 'i' and size == 1:
        return stored.astype(np.int16, order='K')
    return stored.astype(stored.dtype.newbyteorder('='), order='K', copy=False)


def _is_ordinary(values: np.ndarray) -> bool:
    return bool(_SMALLEST <= max(-values.min(), values.max()) <= _LARGEST)


def _mended(
    stored: np.ndarray, slope: float, inter: float, values: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    reach, used, large, infinite = 0.0, 0, 0, 0
    for wide in _pieces(stored, slope, inter):
        size = np.abs(wide)
        finite = np.isfinite(size)
        infinite += size.size - int(np.count_nonzero(finite))
        size = size[finite]
        reach = max(reach, float(size.max(initial=0)))
        used += int(np.count_nonzero(size))
        large += int(np.count_nonzero(size > _LARGEST))
    warnings = []
    if infinite:
        warnings.append(f'{infinite} values that are not finite (NaN or infinite) became 0')
    if large * _FEW > used or 0 < reach < _SMALLEST:
        shift = _MIDDLE - int(np.frexp(reach)[1])
        warnings.append(
            f'values reach {reach:.3g}, outside the range of float32; '
            f'all were multiplied by 2^{shift}'
        )
        # A new array, because that of the values may be the caller's.
        values = np.empty_like(values)
        target, start = flat(values), 0
        for wide in _pieces(stored, slope, inter):
            target[start : start + wide.size] = np.ldexp(wide, shift)
            start += wide.size
    elif large:
        warnings.append(f'{large} values beyond {_LARGEST:.2g}, too large for float32, became 0')
    usable = (values <= _LARGEST) & (values >= -_LARGEST)
    return np.where(usable, values, np.float32(0)), warnings


def _pieces(stored: np.ndarray, slope: float, inter: float) -> Iterator[np.ndarray]:
    source = flat(stored)
    for start in range(0, source.size, _PIECE):
        yield source[start : start + _PIECE].astype(np.float64) * slope + inter
