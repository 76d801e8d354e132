"""Interpolation of the values of one grid at the voxels of another.

Planes along the last target axis are computed one by one: temporary arrays stay in the cache,
memory is bounded, and threads share the planes (NumPy and SciPy release the interpreter's lock).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, int, int]

# With one plane of zeros before the first voxel and two after the last, neighbours outside the
# field of view are ordinary lookups, even at a coordinate of exactly n.
_BEFORE, _BEHIND = 1, 2

_BAND = 1 << 15  # voxels that are computed at once; temporary arrays fit into the level-2 cache
_MARGIN = 0.01  # voxels, far above any rounding error of the coordinates
_LEVEL = 1e-6  # a coordinate that changes less from voxel to voxel does not limit a row


@dataclass(frozen=True, eq=False)
class Piece:
    """Source positions of the voxels in a part of a target plane.

    Parameters
    ----------
    box : tuple of 2 slices
        Rows (second target axis) and columns (first target axis) of the plane.
    base : (J, I) intp
        Index of each voxel's lower corner in the flat array of `Sampler.pad`.
    parts : tuple of 3 float arrays
        Position between lower and upper corner, 0..1, along the three axes of the padded source;
        each broadcasts to ``base``.
    """

    box: tuple[slice, slice]
    base: np.ndarray
    parts: tuple[np.ndarray, np.ndarray, np.ndarray]


class Sampler:
    """Positions of a target grid's voxels in a source grid.

    Parameters
    ----------
    matrix : (4, 4) or (3, 4) array of float32 or float64
        Target voxel index to source voxel index. Coordinates are computed in its precision,
        left to right: ``((m0 i + m1 j) + m2 k) + m3``.
    source, target : tuple of 3 int
        Shapes of the grids.
    """

    def __init__(self, matrix: np.ndarray, source: Shape, target: Shape) -> None:
        self.target = target
        # The axes of the source are kept in the order of the target's axes, the fastest one last,
        # so that neighbouring voxels are neighbours in memory.
        self.order = _aligned_axes(matrix[:3, :3])
        self.size = tuple(source[axis] for axis in self.order)
        self._rows = [matrix[axis] for axis in self.order]
        self.separable = _is_separable(matrix[:3, :3])
        padded = [n + _BEFORE + _BEHIND for n in self.size]
        self.strides = (padded[1] * padded[2], padded[2], 1)
        real = matrix.dtype.type
        self._index = [np.arange(n, dtype=real) for n in target]

    def arrange(self, data: np.ndarray) -> np.ndarray:
        """Return the source with its axes in the sampler's order, C-contiguous."""
        return np.ascontiguousarray(data.transpose(self.order))

    def pad(self, data: np.ndarray) -> np.ndarray:
        """Return the source with its axes in the sampler's order and a border of zeros, flat."""
        shape = [n + _BEFORE + _BEHIND for n in self.size]
        padded = np.zeros(shape, dtype=data.dtype)
        inside = tuple(slice(_BEFORE, _BEFORE + n) for n in self.size)
        padded[inside] = data.transpose(self.order)
        return padded.reshape(-1)

    def axis(self, number: int) -> np.ndarray:
        """Return the source coordinates along one axis, for parallel grids.

        In the sampler's order, axis 0 is that of the target's last axis, 2 that of its first.
        """
        row, index = self._rows[number], self._index[2 - number]
        return row[2 - number] * index + row[3]

    def pieces(self, k: int) -> Iterator[Piece]:
        """Yield the parts of a target plane that overlap the source, band by band of rows."""
        for box, where in self.coordinates(k):
            lower = [np.floor(x) for x in where]
            base: Any = _BEFORE * sum(self.strides)
            for x, stride in zip(lower, self.strides, strict=True):
                # These integers are exact in double precision, which multiplies faster.
                base = base + np.multiply(x, stride, dtype=np.float64)
            parts = tuple(np.subtract(x, low) for x, low in zip(where, lower, strict=True))
            yield Piece(box, base.astype(np.intp), (parts[0], parts[1], parts[2]))

    def coordinates(self, k: int) -> Iterator[tuple[tuple[slice, slice], list[np.ndarray]]]:
        """Yield boxes of a plane, and the source coordinates in them along each axis.

        Coordinates broadcast to (J, I) and are clipped to -1..n.
        """
        width = max(1, self.target[0])
        height = max(1, _BAND // width)
        for start in range(0, self.target[1], height):
            rows = slice(start, min(start + height, self.target[1]))
            box = self._box(k, rows)
            if box is not None:
                yield box, self._in_box(k, box)

    def _box(self, k: int, rows: slice) -> tuple[slice, slice] | None:
        """Return a box with all voxels of some rows that have neighbours in the source."""
        first = np.zeros(rows.stop - rows.start)
        last = np.full(rows.stop - rows.start, self.target[0] - 1.0)
        index = np.arange(rows.start, rows.stop)
        for row, n in zip(self._rows, self.size, strict=True):
            step = float(row[0])
            begin = float(row[1]) * index + float(row[2]) * k + float(row[3])
            if abs(step) < _LEVEL:
                last[(begin < -1 - _MARGIN) | (begin > n + _MARGIN)] = -1
                continue
            ends = np.sort([(-1 - begin) / step, (n - begin) / step], axis=0)
            first = np.maximum(first, np.ceil(ends[0] - _MARGIN))
            last = np.minimum(last, np.floor(ends[1] + _MARGIN))
        seen = np.flatnonzero(first <= last)
        if not seen.size:
            return None
        return (
            slice(rows.start + int(seen[0]), rows.start + int(seen[-1]) + 1),
            slice(int(first[seen].min()), int(last[seen].max()) + 1),
        )

    def _in_box(self, k: int, box: tuple[slice, slice]) -> list[np.ndarray]:
        i, j = self._index[0][None, box[1]], self._index[1][box[0], None]
        where = []
        for row, n in zip(self._rows, self.size, strict=True):
            if self.separable:
                # Only one term differs from zero.
                steps = (row[0] * i, row[1] * j, row[2] * self._index[2][k : k + 1, None])
                x = steps[int(np.flatnonzero(row[:3])[0])] + row[3]
            else:
                x = row[0] * i + row[1] * j
                x += row[2] * self._index[2][k]
                x += row[3]
            where.append(np.clip(x, -1, n, out=x))
        return where


def for_each(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call ``work`` with every number below ``count``, in several threads if asked for."""
    if threads <= 1 or count < 2:
        for number in range(count):
            work(number)
        return

    def share(first: int) -> None:
        for number in range(first, count, threads):
            work(number)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(share, first) for first in range(threads)]:
            future.result()


def trilinear(
    data: np.ndarray,
    sampler: Sampler,
    finish: Callable[[np.ndarray], np.ndarray],
    dtype: type[np.generic],
    threads: int = 1,
) -> np.ndarray:
    """Interpolate linearly, in double precision.

    Neighbours outside the source count as 0, so that the border is blended (SciPy's
    ``mode='grid-constant'``).

    Parameters
    ----------
    data : (X, Y, Z) array
        Values of the source.
    sampler : Sampler
        Positions in the source.
    finish : callable
        Converts a plane of float64 values to the values of the result.
    dtype : numpy scalar type
        Type of the result.
    threads : int
        Number of threads.

    Returns
    -------
    array of the target's shape
        In Fortran order.
    """
    result = np.zeros(sampler.target, dtype=dtype, order='F')
    planes = result.T  # C order: (K, J, I)
    if sampler.separable:
        work = _separable_work(sampler.arrange(data), sampler, finish, planes)
    else:
        flat = sampler.pad(data)

        def work(k: int) -> None:
            for piece in sampler.pieces(k):
                planes[k][piece.box] = finish(_blend(flat, piece, sampler.strides))

    for_each(work, sampler.target[2], threads)
    return result


def nearest(data: np.ndarray, sampler: Sampler, threads: int = 1) -> np.ndarray:
    """Take the value of the nearest voxel: the lower one if the fraction is below one half.

    Parameters
    ----------
    data : (X, Y, Z) array
        Values of the source.
    sampler : Sampler
        Positions in the source.
    threads : int
        Number of threads.

    Returns
    -------
    array of the target's shape
        Type of ``data``, Fortran order; 0 outside the source.
    """
    result = np.zeros(sampler.target, dtype=data.dtype, order='F')
    planes, flat = result.T, sampler.pad(data)

    def work(k: int) -> None:
        for piece in sampler.pieces(k):
            index = piece.base
            for part, stride in zip(piece.parts, sampler.strides, strict=True):
                index = index + (part >= 0.5) * stride
            planes[k][piece.box] = flat.take(index, mode='clip')

    for_each(work, sampler.target[2], threads)
    return result


def _aligned_axes(matrix: np.ndarray) -> tuple[int, int, int]:
    """Return the source axes nearest to the target's last, middle and first axis."""
    weight = np.abs(matrix.astype(np.float64))
    best, score = (2, 1, 0), -1.0
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        total = float(weight[order[0], 2] + weight[order[1], 1] + weight[order[2], 0])
        if total > score:
            best, score = order, total
    return best


def _is_separable(matrix: np.ndarray) -> bool:
    used = matrix != 0
    return bool((used.sum(axis=0) == 1).all() and (used.sum(axis=1) == 1).all())


def _blend(flat: np.ndarray, piece: Piece, strides: tuple[int, int, int]) -> np.ndarray:
    """Interpolate between the eight corners, axis by axis."""
    slow, middle, fast = (np.asarray(part, dtype=np.float64) for part in piece.parts)
    sides = []
    for a in (0, strides[0]):
        rows = []
        for b in (0, strides[1]):
            low = flat[a + b :].take(piece.base, mode='clip')
            high = flat[a + b + 1 :].take(piece.base, mode='clip')
            rows.append(_lerp(low.astype(np.float64), high, fast))
        sides.append(_lerp(rows[0], rows[1], middle))
    return _lerp(sides[0], sides[1], slow)


def _lerp(low: np.ndarray, high: np.ndarray, part: np.ndarray) -> np.ndarray:
    step = np.subtract(high, low)
    step *= part
    step += low
    return step


@dataclass(frozen=True, eq=False)
class _Line:
    """Neighbours and weights along one axis, for target positions that overlap the source."""

    box: slice
    lower: np.ndarray
    upper: np.ndarray
    low_weight: np.ndarray
    high_weight: np.ndarray

    @classmethod
    def of(cls, where: np.ndarray, n: int) -> '_Line':
        inside = np.flatnonzero((where > -1) & (where < n))
        box = slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)
        where = where[box]
        floor = np.floor(where)
        part = (where - floor).astype(np.float64)
        lower = floor.astype(np.intp)
        return cls(
            box,
            np.maximum(lower, 0),
            np.minimum(lower + 1, n - 1),
            np.where(lower >= 0, 1 - part, 0),
            np.where(lower + 1 < n, part, 0),
        )

    def apply(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Interpolate a plane along its rows (axis 0) or columns (axis 1)."""
        shape = (-1, 1) if axis == 0 else (1, -1)
        result = values.take(self.lower, axis=axis, mode='clip')
        if not self.high_weight.any() and (self.low_weight == 1).all():
            return result
        result *= self.low_weight.reshape(shape)
        other = values.take(self.upper, axis=axis, mode='clip')
        other *= self.high_weight.reshape(shape)
        result += other
        return result


def _separable_work(
    source: np.ndarray,
    sampler: Sampler,
    finish: Callable[[np.ndarray], np.ndarray],
    planes: np.ndarray,
) -> Callable[[int], None]:
    slow, rows, columns = (_Line.of(sampler.axis(n), sampler.size[n]) for n in range(3))
    box = rows.box, columns.box

    def work(k: int) -> None:
        at = k - slow.box.start
        if not 0 <= at < slow.lower.size or not rows.lower.size or not columns.lower.size:
            return
        plane = source[slow.lower[at]].astype(np.float64)
        if slow.high_weight[at] != 0 or slow.low_weight[at] != 1:
            plane *= slow.low_weight[at]
            plane += source[slow.upper[at]] * slow.high_weight[at]
        planes[k][box] = finish(columns.apply(rows.apply(plane, 0), 1))

    return work
