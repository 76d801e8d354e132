"""Coordinate maps of images and their labels: rotation, scaling and bending in one step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...image.sampling import Sampler, nearest, trilinear
from .fields import along_axes, control_points

_BAND = 1 << 15  # voxels worked on at once: their temporaries fit the second-level cache


@dataclass(frozen=True, eq=False)
class Displacement:
    """A smooth displacement field, given by the control points of cubic B-splines.

    Parameters
    ----------
    points : tuple of 3 float32 arrays, (P, Q, R)
        Displacement along each axis, voxels.
    bases : list of 3 float32 arrays, (X, P), (Y, Q) and (Z, R)
        From control points to voxels.
    """

    points: tuple[np.ndarray, ...]
    bases: list[np.ndarray]

    @classmethod
    def draw(
        cls, shape: tuple[int, ...], spacing: int, size: float, rng: np.random.Generator
    ) -> 'Displacement':
        """Draw a displacement.

        Parameters
        ----------
        shape : tuple of 3 int
            Shape of the volume.
        spacing : int
            Distance of the control points, voxels.
        size : float
            Standard deviation along each axis over voxels and draws, voxels.
        rng : numpy.random.Generator
            Random generator.
        """
        drawn = [control_points(shape, spacing, rng) for _ in range(3)]
        bases = drawn[0][1]
        # The points are independent, so that variances add up.
        spread = np.prod([np.sqrt((basis**2).sum(1).mean()) for basis in bases])
        return cls(tuple(points * np.float32(size / spread) for points, _ in drawn), bases)

    def whole(self) -> np.ndarray:
        """Return the displacement of every voxel, (3, X, Y, Z) float32."""
        return np.stack([along_axes(points, self.bases) for points in self.points])

    def rows(self, plane: int, rows: slice) -> list[np.ndarray]:
        """Return the displacement of some rows of a plane of the first axis.

        Returns
        -------
        list of 3 float32 arrays, (rows, Z)
            Along each axis.
        """
        first, second, third = self.bases
        sheets = (np.tensordot(first[plane], points, axes=1) for points in self.points)
        return [second[rows] @ (sheet @ third.T) for sheet in sheets]


class Warp(Sampler):
    """Coordinates in a source volume for each voxel of a warped volume.

    Parameters
    ----------
    matrix : (3, 4) array of float32
        From voxels of the warped volume to those of the source.
    shape : tuple of 3 int
        Shape of both volumes.
    displacement : Displacement, optional
        Added to the coordinates.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        shape: tuple[int, int, int],
        displacement: Displacement | None = None,
    ) -> None:
        # A sampler's results are in Fortran order; with all axes reversed they are in C order.
        self.matrix, self.displacement = matrix[::-1, [2, 1, 0, 3]], displacement
        super().__init__(self.matrix, shape[::-1], shape[::-1])
        self.separable = self.separable and displacement is None

    def coordinates(self, k: int) -> Iterator[tuple[tuple[slice, slice], list[np.ndarray]]]:
        """Yield boxes of a plane and the coordinates in them, see `Sampler.coordinates`."""
        if self.displacement is None:
            yield from super().coordinates(k)
            return
        columns, count, _ = self.target
        height = max(1, _BAND // columns)
        i = np.arange(columns, dtype=np.float32)
        for start in range(0, count, height):
            rows = slice(start, min(start + height, count))
            j = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
            moved = self.displacement.rows(k, rows)
            coordinates = []
            for axis, n in zip(self.order, self.size, strict=True):
                row, x = self.matrix[axis], moved[2 - axis]
                x += row[0] * i
                x += row[1] * j + (row[2] * np.float32(k) + row[3])
                coordinates.append(np.clip(x, -1, n, out=x))
            yield (rows, slice(0, columns)), coordinates

    def image(self, data: np.ndarray) -> np.ndarray:
        """Interpolate an image linearly, with 0 outside.

        Parameters
        ----------
        data : (X, Y, Z) array
            The source.

        Returns
        -------
        (X, Y, Z) float32
        """
        return trilinear(data.T, self, _identity, np.float32).T

    def labels(self, data: np.ndarray) -> np.ndarray:
        """Interpolate labels by nearest neighbours, with 0 outside.

        Parameters
        ----------
        data : (X, Y, Z) array of unsigned integers
            The source.

        Returns
        -------
        array of the same shape and type
        """
        return nearest(data.T, self).T


def _identity(values: np.ndarray) -> np.ndarray:
    return values
