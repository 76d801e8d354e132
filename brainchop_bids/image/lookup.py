"""Histograms and lookup tables of whole volumes, without index arrays of the same size.

NumPy converts indices to 64-bit integers, which is 134 MB for a uint8 volume of 256^3. Converted
in pieces of a few thousand, they stay in the cache.
"""

from collections.abc import Sequence

import numpy as np

_CHUNK = 1 << 16


def flat(array: np.ndarray) -> np.ndarray:
    """Return the elements in memory order: a view where the array is contiguous."""
    return array.ravel(order='K')


def histogram(array: np.ndarray, size: int = 0) -> np.ndarray:
    """Count each value of an array of small non-negative integers.

    Parameters
    ----------
    array : array of unsigned integers or bool
        Any shape.
    size : int
        Minimum length of the result.

    Returns
    -------
    (n,) int64
        Number of elements with each value; ``n`` is at least ``size`` and the largest value + 1.

    Examples
    --------
    >>> histogram(np.array([[1, 1], [3, 1]], dtype=np.uint8))
    array([0, 3, 0, 1])
    """
    values = flat(array)
    length = max(size, int(values.max()) + 1 if values.size else 0)
    counts = np.zeros(length, dtype=np.int64)
    step = max(_CHUNK, length)
    for start in range(0, values.size, step):
        counts += np.bincount(values[start : start + step], minlength=length)
    return counts


def lookup(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Replace each code by its entry in a table.

    Parameters
    ----------
    table : (n,) array
        One entry for each code.
    codes : array of unsigned integers, each below ``n``
        Any shape.

    Returns
    -------
    array
        Shape and memory order of ``codes``, dtype of ``table``.

    Examples
    --------
    >>> lookup(np.array([0.0, 0.5]), np.array([[1, 0]], dtype=np.uint8))
    array([[0.5, 0. ]])
    """
    result = np.empty_like(codes, dtype=table.dtype, subok=False)
    if not (codes.flags.c_contiguous or codes.flags.f_contiguous):
        result[...] = table[codes]
        return result
    source, target = flat(codes), flat(result)
    for start in range(0, source.size, _CHUNK):
        # mode='clip' avoids a buffered check of bounds; all codes are within the table.
        np.take(
            table, source[start : start + _CHUNK], out=target[start : start + _CHUNK], mode='clip'
        )
    return result


def recode(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Change the values of labels.

    Parameters
    ----------
    labels : array of unsigned integers
        Labels 0 to n - 1.
    values : sequence of int
        New value of each label, non-negative.

    Returns
    -------
    array
        Labels in the smallest unsigned type that holds all values.

    Examples
    --------
    >>> recode(np.array([[0, 2]], dtype=np.uint8), [0, 2, 1024])
    array([[   0, 1024]], dtype=uint16)
    """
    return lookup(np.array(values, dtype=np.min_scalar_type(max(values))), labels)
