"""Values of one grid at the voxels of another, one plane at a time.

Everything here works plane by plane along the last target axis: temporaries stay in the cache,
memory is bounded, and planes are independent, so threads share them (NumPy and SciPy release
the interpreter's lock).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, int, int]

# One plane of zeros before the first voxel, two behind the last: a neighbour outside the field
# of view then is an ordinary lookup, even for a coordinate of exactly n.
_BEFORE, _BEHIND = 1, 2


@dataclass(frozen=True, eq=False)
class Plane:
    """Where the part of a target plane that sees the source lies in it.

    Parameters
    ----------
    box : tuple of 2 slices
        Rows (second target axis) and columns (first target axis) that are described.
    base : (J, I) intp
        Index of each voxel's lower corner in the flat source of `Sampler.pad`.
    parts : tuple of 3 float arrays
        Fractions 0..1 between lower and upper corner along the three axes of the padded source,
        each broadcast to ``base``.
    """

    box: tuple[slice, slice]
    base: np.ndarray
    parts: tuple[np.ndarray, np.ndarray, np.ndarray]


class Sampler:
    """The positions of a target grid's voxels in a source grid.

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
        # The source is kept with its axes in the order in which the target walks along them, the
        # fastest one last: neighbouring voxels then are neighbours in memory.
        self.order = _aligned_axes(matrix[:3, :3])
        self.size = tuple(source[axis] for axis in self.order)
        self._rows = [matrix[axis] for axis in self.order]
        self.separable = _is_separable(matrix[:3, :3])
        padded = [n + _BEFORE + _BEHIND for n in self.size]
        self.strides = (padded[1] * padded[2], padded[2], 1)
        real = matrix.dtype.type
        self._index = [np.arange(n, dtype=real) for n in target]

    def arrange(self, data: np.ndarray) -> np.ndarray:
        """Return the source with axes as the sampler keeps them, C-contiguous."""
        return np.ascontiguousarray(data.transpose(self.order))

    def pad(self, data: np.ndarray) -> np.ndarray:
        """Return the source as the sampler keeps it, with a border of zeros, flat."""
        shape = [n + _BEFORE + _BEHIND for n in self.size]
        padded = np.zeros(shape, dtype=data.dtype)
        inside = tuple(slice(_BEFORE, _BEFORE + n) for n in self.size)
        padded[inside] = data.transpose(self.order)
        return padded.reshape(-1)

    def axis(self, number: int) -> np.ndarray:
        """Return the source coordinate along one kept axis, where the grids are parallel.

        Kept axis 0 follows the target's last axis, 2 its first.
        """
        row, index = self._rows[number], self._index[2 - number]
        return row[2 - number] * index + row[3]

    def plane(self, k: int) -> Plane | None:
        """Locate one plane of the target; None where it sees nothing of the source."""
        found = self._parallel(k) if self.separable else self._oblique(k)
        if found is None:
            return None
        box, where = found
        lower = [np.floor(x) for x in where]
        base: Any = 0
        for x, stride in zip(lower, self.strides, strict=True):
            base = base + (x.astype(np.intp) + _BEFORE) * stride
        parts = tuple(np.subtract(x, low) for x, low in zip(where, lower, strict=True))
        return Plane(box, base, (parts[0], parts[1], parts[2]))

    def coordinates(self, k: int) -> tuple[tuple[slice, slice], list[np.ndarray]] | None:
        """Return the box of a plane that sees the source, and coordinates (J, I) along each axis.

        Coordinates are those of the kept axes, cut to -1..n.
        """
        if not self.separable:
            return self._oblique(k)
        found = self._parallel(k)
        if found is None:
            return None
        box, where = found
        return box, list(np.broadcast_arrays(*where))

    def _parallel(self, k: int) -> tuple[tuple[slice, slice], list[np.ndarray]] | None:
        slow, rows, columns = (self.axis(number) for number in range(3))
        slow = slow[k : k + 1]
        boxes = []
        for where, n in zip((slow, rows, columns), self.size, strict=True):
            inside = np.flatnonzero((where > -1) & (where < n))
            if not inside.size:
                return None
            boxes.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return (boxes[1], boxes[2]), [
            slow[:, None],
            rows[boxes[1], None],
            columns[None, boxes[2]],
        ]

    def _oblique(self, k: int) -> tuple[tuple[slice, slice], list[np.ndarray]] | None:
        i, j = self._index[0][None, :], self._index[1][:, None]
        real = i.dtype.type
        inside: Any = True
        where = []
        for row, n in zip(self._rows, self.size, strict=True):
            x = row[0] * i + row[1] * j
            x += row[2] * real(k)
            x += row[3]
            inside = inside & (x > -1) & (x < n)
            where.append(x)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not rows.size:
            return None
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        return box, [np.clip(x[box], -1, n) for x, n in zip(where, self.size, strict=True)]


def for_each(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call ``work`` with every number below ``count``, in threads where there are several."""
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

    Every neighbour outside the source counts as 0 by itself, so that the border is blended
    (SciPy's ``mode='grid-constant'``).

    Parameters
    ----------
    data : (X, Y, Z) array
        The source.
    sampler : Sampler
        Where to look.
    finish : callable
        Turns a plane of float64 values into what is stored.
    dtype : numpy scalar type
        Type of the result.
    threads : int
        Planes worked on at once.

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
            plane = sampler.plane(k)
            if plane is not None:
                planes[k][plane.box] = finish(_blend(flat, plane, sampler.strides))

    for_each(work, sampler.target[2], threads)
    return result


def nearest(data: np.ndarray, sampler: Sampler, threads: int = 1) -> np.ndarray:
    """Take the nearest voxel's value; a fraction below one half takes the lower voxel.

    Parameters
    ----------
    data : (X, Y, Z) array
        The source.
    sampler : Sampler
        Where to look.
    threads : int
        Planes worked on at once.

    Returns
    -------
    array of the target's shape
        Type of ``data``, Fortran order; 0 outside the source.
    """
    result = np.zeros(sampler.target, dtype=data.dtype, order='F')
    planes, flat = result.T, sampler.pad(data)

    def work(k: int) -> None:
        plane = sampler.plane(k)
        if plane is not None:
            index = plane.base
            for part, stride in zip(plane.parts, sampler.strides, strict=True):
                index = index + (part >= 0.5) * stride
            planes[k][plane.box] = flat[index]

    for_each(work, sampler.target[2], threads)
    return result


def _aligned_axes(matrix: np.ndarray) -> tuple[int, int, int]:
    """Return the source axes that the target's last, middle and first axis follow."""
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


def _blend(flat: np.ndarray, plane: Plane, strides: tuple[int, int, int]) -> np.ndarray:
    """Interpolate between the eight corners, axis by axis."""
    slow, middle, fast = (np.asarray(part, dtype=np.float64) for part in plane.parts)
    sides = []
    for a in (0, strides[0]):
        rows = []
        for b in (0, strides[1]):
            low = flat[a + b :].take(plane.base, mode='clip')
            high = flat[a + b + 1 :].take(plane.base, mode='clip')
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
    """Neighbours and weights along one axis, for the target positions that see the source."""

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
