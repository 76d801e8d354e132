"""Parts of a volume that are computed one after the other."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Tile:
    """What is computed at once, and what of it is kept.

    Parameters
    ----------
    outer : tuple of 3 slice
        Voxels of the volume that are computed. They may end behind the volume's end.
    own : tuple of 3 slice
        Voxels among them that are kept.
    """

    outer: Box
    own: Box

    @property
    def inner(self) -> Box:
        """What is kept, counted from the first voxel that is computed."""
        x, y, z = (
            slice(own.start - outer.start, own.stop - outer.start)
            for own, outer in zip(self.own, self.outer, strict=True)
        )
        return x, y, z

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what is computed."""
        x, y, z = (outer.stop - outer.start for outer in self.outer)
        return x, y, z


def whole(shape: Sequence[int]) -> list[Tile]:
    """Return one tile for all of a volume."""
    box = full(shape)
    return [Tile(box, box)]


def full(shape: Sequence[int]) -> Box:
    """Return the box that is all of a volume.

    Examples
    --------
    >>> full((2, 3, 4))[1]
    slice(0, 3, None)
    """
    x, y, z = (slice(0, n) for n in shape)
    return x, y, z


def cubes(shape: Sequence[int], size: Sequence[int]) -> list[Tile]:
    """Cut a volume into cubes on a grid, the last ones pushed back to its edge.

    Parameters
    ----------
    shape : sequence of 3 int
        The volume's. Where it is smaller than a cube, the cube ends behind its end.
    size : sequence of 3 int
        A cube's.

    Returns
    -------
    list of Tile
        What they keep is the volume, each voxel once.

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


def exact_tiles(box: Box, reach: int, stride: int, numbers: Sequence[int]) -> list[Tile]:
    """Cut a box into tiles wide enough that each gives what the whole box would.

    Parameters
    ----------
    box : tuple of 3 slice
        What is computed of a volume.
    reach : int
        Voxels on either side that a result depends on.
    stride : int
        Tiles begin and end at multiples of it, counted from the box's first voxel.
    numbers : sequence of 3 int
        How many tiles there are along each axis, at most.

    Returns
    -------
    list of Tile
        What they keep is the box, each voxel once. At the box's own edges they end there: what
        a network pads there, it pads in the whole, too.

    Examples
    --------
    >>> [(tile.outer[0], tile.own[0]) for tile in exact_tiles(full((9, 1, 1)), 2, 1, (2, 1, 1))]
    [(slice(0, 7, None), slice(0, 5, None)), (slice(3, 9, None), slice(5, 9, None))]
    """
    axes = [
        list(_parts(side, reach, stride, number))
        for side, number in zip(box, numbers, strict=True)
    ]
    return [
        Tile(_box([outer for outer, _ in parts]), _box([own for _, own in parts]))
        for parts in itertools.product(*axes)
    ]


def fitting_tiles(
    box: Box, reach: int, stride: int, fits: Callable[[tuple[int, int, int]], bool]
) -> list[Tile] | None:
    """Choose exact tiles that fit and cost the least.

    Parameters
    ----------
    box, reach, stride
        As for `exact_tiles`.
    fits : callable
        Tells whether a volume of some shape can be computed.

    Returns
    -------
    list of Tile or None
        Those with the fewest voxels computed; None where none fit.
    """
    counts = [range(1, max(2, -(-(side.stop - side.start) // stride) + 1)) for side in box]
    best: tuple[float, list[Tile]] | None = None
    # More tiles than these along an axis are mostly margins.
    for numbers in itertools.product(*(count[:16] for count in counts)):
        lengths = [
            [outer.stop - outer.start for outer, _ in _parts(side, reach, stride, number)]
            for side, number in zip(box, numbers, strict=True)
        ]
        work = math.prod(sum(length) for length in lengths)
        if best is not None and work >= best[0]:
            continue
        largest = (max(lengths[0]), max(lengths[1]), max(lengths[2]))
        if fits(largest):
            best = work, exact_tiles(box, reach, stride, numbers)
    return None if best is None else best[1]


def _parts(side: slice, reach: int, stride: int, number: int) -> list[tuple[slice, slice]]:
    """Cut one axis into (outer, own)."""
    length = side.stop - side.start
    step = -(-length // number)
    step, margin = (-(-n // stride) * stride for n in (step, reach))
    parts = []
    for start in range(0, length, step):
        stop = min(start + step, length)
        outer = slice(side.start + max(0, start - margin), side.start + min(length, stop + margin))
        parts.append((outer, slice(side.start + start, side.start + stop)))
    return parts


def _box(sides: Sequence[slice]) -> Box:
    x, y, z = sides
    return x, y, z
