"""Cubes that cover a volume."""

import itertools
from collections.abc import Iterator, Sequence

Place = tuple[int, int, int]


def blocks(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[Place, tuple[slice, ...]]]:
    """Cut a volume into cubes on a grid, the last ones pushed back to its edge.

    Parameters
    ----------
    shape : sequence of 3 int
        The volume's, at least ``size``.
    size : sequence of 3 int
        A cube's.

    Yields
    ------
    start : tuple of 3 int
        First voxel of a cube.
    own : tuple of 3 slice
        The voxels that are its own; those of all cubes are the volume, each voxel once.

    Examples
    --------
    >>> list(blocks((5, 2, 2), (2, 2, 2)))[-1]
    ((3, 0, 0), (slice(4, 5, None), slice(0, 2, None), slice(0, 2, None)))
    """
    for corner in itertools.product(
        *(range(0, length, n) for length, n in zip(shape, size, strict=True))
    ):
        x, y, z = (
            min(first, length - n) for first, length, n in zip(corner, shape, size, strict=True)
        )
        own = tuple(
            slice(first, min(first + n, length))
            for first, length, n in zip(corner, shape, size, strict=True)
        )
        yield (x, y, z), own
