"""Tiles of a volume, which are computed one after the other."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Box = tuple[slice, slice, slice]
Place = tuple[int, int, int]
ONE = (1, 1, 1)
_MOST = 8


@dataclass(frozen=True)
class Tile:
    """A part of a volume that is computed at once, and the part of it that is kept.

    Parameters
    ----------
    outer : tuple of 3 slice
        Box that is computed; it may extend beyond the end of the volume.
    own : tuple of 3 slice
        Box within it that is kept.
    """

    outer: Box
    own: Box

    @property
    def inner(self) -> Box:
        """Box that is kept, relative to the box that is computed."""
        x, y, z = (
            slice(own.start - outer.start, own.stop - outer.start)
            for own, outer in zip(self.own, self.outer, strict=True)
        )
        return x, y, z

    @property
    def kept(self) -> int:
        """Number of voxels that are kept."""
        return math.prod(side.stop - side.start for side in self.own)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the box that is computed."""
        x, y, z = (outer.stop - outer.start for outer in self.outer)
        return x, y, z


def whole(shape: Sequence[int]) -> list[Tile]:
    """Return a single tile for the whole volume."""
    box = full(shape)
    return [Tile(box, box)]


def full(shape: Sequence[int]) -> Box:
    """Return the box of the whole volume.

    Examples
    --------
    >>> full((2, 3, 4))[1]
    slice(0, 3, None)
    """
    x, y, z = (slice(0, n) for n in shape)
    return x, y, z


def cubes(shape: Sequence[int], size: Sequence[int]) -> list[Tile]:
    """Cut a volume into cubes on a grid, with the last ones moved back inside the volume.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the volume. If it is smaller than a cube, the cube extends beyond its end.
    size : sequence of 3 int
        Shape of a cube.

    Returns
    -------
    list of Tile
        Tiles that keep each voxel of the volume once.

    Examples
    --------
    >>> cubes((5, 2, 2), (2, 2, 2))[-1].outer[0], cubes((5, 2, 2), (2, 2, 2))[-1].own[0]
    (slice(3, 5, None), slice(4, 5, None))
    """
    tiles = []
    for corner in itertools.product(
        *(range(0, length, n) for length, n in zip(shape, size, strict=True))
    ):
        outer, own = [], []
        for first, length, n in zip(corner, shape, size, strict=True):
            start = max(0, min(first, length - n))
            outer.append(slice(start, start + n))
            own.append(slice(first, min(first + n, length)))
        tiles.append(Tile(_box(outer), _box(own)))
    return tiles


def exact_tiles(
    shape: Sequence[int], reach: int, stride: int, *, box: Box | None = None, numbers: Place = ONE
) -> list[Tile]:
    """Cut a box into tiles that are wide enough to give the same result as the whole volume.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the volume.
    reach : int
        Number of voxels on either side that a result depends on.
    stride : int
        Tiles begin and end at multiples of this number, or at the end of the volume.
    box : tuple of 3 slice, optional
        Part of the volume that is needed; by default all.
    numbers : tuple of 3 int
        Maximum number of tiles along each axis.

    Returns
    -------
    list of Tile
        Tiles that keep each voxel of the box once.

    Examples
    --------
    >>> [(tile.outer[0], tile.own[0]) for tile in exact_tiles((9, 1, 1), 2, 1, numbers=(2, 1, 1))]
    [(slice(0, 7, None), slice(0, 5, None)), (slice(3, 9, None), slice(5, 9, None))]
    """
    axes = _all_parts(shape, reach, stride, full(shape) if box is None else box, numbers)
    return [
        Tile(_box([outer for outer, _ in parts]), _box([own for _, own in parts]))
        for parts in itertools.product(*axes)
    ]


def fitting_tiles(
    shape: Sequence[int],
    reach: int,
    stride: int,
    fits: Callable[[Place], bool],
    *,
    box: Box | None = None,
) -> list[Tile] | None:
    """Choose the exact tiles that fit into the memory with the least computation.

    Parameters
    ----------
    shape, reach, stride, box
        As for `exact_tiles`.
    fits : callable
        Returns True if a volume of a given shape can be computed at once.

    Returns
    -------
    list of Tile or None
        Tiles with the smallest total number of computed voxels; None if no tiles fit.
    """
    box = full(shape) if box is None else box
    best: tuple[int, Place] | None = None
    # With more tiles along an axis, most of the computation would be in margins.
    for numbers in itertools.product(range(1, _MOST + 1), repeat=3):
        sides = [
            [outer.stop - outer.start for outer, _ in parts]
            for parts in _all_parts(shape, reach, stride, box, numbers)
        ]
        work = math.prod(map(sum, sides))
        if (best is None or work < best[0]) and fits(_place(map(max, sides))):
            best = work, _place(numbers)
    if best is None:
        return None
    return exact_tiles(shape, reach, stride, box=box, numbers=best[1])


def _all_parts(
    shape: Sequence[int], reach: int, stride: int, box: Box, numbers: Sequence[int]
) -> list[list[tuple[slice, slice]]]:
    """Cut each axis into pairs of the slice to compute and the slice to keep."""
    axes = []
    for length, side, number in zip(shape, box, numbers, strict=True):
        step = max(1, -(-(side.stop - side.start) // number))
        parts = []
        for start in range(side.start, side.stop, step):
            stop = min(start + step, side.stop)
            first = max(0, (start - reach) // stride * stride)
            last = min(length, -(-(stop + reach) // stride) * stride)
            parts.append((slice(first, last), slice(start, stop)))
        axes.append(parts)
    return axes


def _place(values: Iterable[int]) -> Place:
    x, y, z = values
    return x, y, z


def _box(sides: Sequence[slice]) -> Box:
    x, y, z = sides
    return x, y, z
