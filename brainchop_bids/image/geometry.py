"""Geometry of a voxel grid: voxel sizes, directions and centre, as in FreeSurfer."""

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

_SINGULAR = 1e-4  # |determinant| of unit direction columns; 1 for orthogonal axes


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in RAS+ millimetres.

    The centre is at voxel coordinate ``shape / 2``, not ``(shape - 1) / 2``: half a voxel beyond
    the centre of the box, as in FreeSurfer's ``c_ras``.

    Parameters
    ----------
    shape : tuple of 3 int
        Number of voxels along each axis.
    zooms : (3,) float32
        Voxel sizes in mm.
    cosines : (3, 3) float32
        Direction cosines of the voxel axes, one per column.
    c_ras : (3,) float32
        Position of the grid's centre in mm.

    Examples
    --------
    >>> Geometry((4, 4, 4), np.full(3, 2), np.diag([-1, 1, 1]), np.zeros(3)).vox2ras[:3, 3]
    array([ 4., -4., -4.], dtype=float32)
    """

    shape: tuple[int, int, int]
    zooms: np.ndarray
    cosines: np.ndarray
    c_ras: np.ndarray

    def __post_init__(self) -> None:
        """Convert the types, which determine where later products are rounded."""
        x, y, z = (int(n) for n in self.shape)
        object.__setattr__(self, 'shape', (x, y, z))
        for name, shape in (('zooms', (3,)), ('cosines', (3, 3)), ('c_ras', (3,))):
            value = np.array(getattr(self, name), dtype=np.float32)
            if value.shape != shape:
                raise ValueError(f'{name} has shape {value.shape}, expected {shape}')
            object.__setattr__(self, name, value)

    @classmethod
    def from_affine(
        cls, affine: np.ndarray, shape: Sequence[int], zooms: np.ndarray | None = None
    ) -> 'Geometry':
        """Build from an affine.

        Parameters
        ----------
        affine : (4, 4) array
            Voxel index to RAS+ mm.
        shape : sequence of 3 int
            Number of voxels along each axis.
        zooms : (3,) array, optional
            Voxel sizes in mm; by default the lengths of the affine's columns.

        Raises
        ------
        ValueError
            If a column is not finite or has no length, the columns lie in one plane, or the
            position of the centre exceeds the range of float32.
        """
        columns = np.asarray(affine, dtype=np.float64)[:3, :3]
        origin = np.asarray(affine, dtype=np.float64)[:3, 3]
        lengths = np.sqrt((columns**2).sum(axis=0))
        sizes = np.asarray(lengths if zooms is None else zooms, dtype=np.float32)
        if not (np.isfinite(columns).all() and np.isfinite(origin).all()):
            raise ValueError('is not finite')
        if not (lengths > 0).all():
            raise ValueError('is singular (a column of zeros)')
        if not (np.isfinite(sizes).all() and (sizes > 0).all()):
            raise ValueError(f'has voxel sizes {tuple(sizes.tolist())}')
        cosines = (columns / lengths).astype(np.float32)
        if abs(np.linalg.det(cosines.astype(np.float64))) < _SINGULAR:
            raise ValueError('is singular (its axes lie in one plane)')
        # float32 at every step, from left to right, as in FreeSurfer: the last bit of the centre
        # decides ties of the conform step.
        steps = cosines * sizes
        i, j, k = (np.float32(n / 2) for n in shape[:3])
        c_ras = (steps[:, 0] * i + steps[:, 1] * j) + steps[:, 2] * k
        c_ras += origin.astype(np.float32)
        if not np.isfinite(c_ras).all():
            raise ValueError('puts its centre beyond the range of float32')
        return cls((shape[0], shape[1], shape[2]), sizes, cosines, c_ras)

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to RAS+ mm, (4, 4) float64, without rounding to float32."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.cosines.astype(np.float64) * self.zooms.astype(np.float64)
        middle = np.asarray(self.shape, dtype=np.float64) / 2
        matrix[:3, 3] = self.c_ras.astype(np.float64) - matrix[:3, :3] @ middle
        return matrix

    @property
    def vox2ras(self) -> np.ndarray:
        """Voxel index to RAS+ mm, (4, 4) float32, rounded once."""
        return self.affine.astype(np.float32)

    def part(self, first: Sequence[int], shape: Sequence[int]) -> 'Geometry':
        """Return the grid of a part of the voxels.

        Parameters
        ----------
        first : sequence of 3 int
            Its first voxel.
        shape : sequence of 3 int
            Its number of voxels along each axis.

        Examples
        --------
        >>> grid = Geometry((8, 8, 8), np.full(3, 2), np.diag([-1, 1, 1]), np.zeros(3))
        >>> grid.part((0, 2, 4), (4, 4, 4)).affine[:3, 3]
        array([ 8., -4.,  0.])
        """
        middle = np.asarray(first) + np.asarray(shape) / 2
        centre = self.affine[:3, :3] @ middle + self.affine[:3, 3]
        x, y, z = shape
        return Geometry((x, y, z), self.zooms, self.cosines, centre)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm^3, including shear."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def corners(self) -> np.ndarray:
        """Outer corners of the box of voxels in RAS+ mm, (8, 3) float64.

        Examples
        --------
        >>> Geometry((2, 2, 2), np.ones(3), np.eye(3), np.ones(3)).corners[[0, 7]]
        array([[-0.5, -0.5, -0.5],
               [ 1.5,  1.5,  1.5]])
        """
        ends = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in self.shape), indexing='ij'), -1)
        placed: np.ndarray = ends.reshape(8, 3) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return placed

    def __str__(self) -> str:
        """Return the numbers and the sizes of voxels."""
        sizes = 'x'.join(f'{size:.3g}' for size in self.zooms)
        return f'{"x".join(map(str, self.shape))} voxels of {sizes} mm'

    def apart(self, other: 'Geometry') -> float:
        """Return the distance between the boxes of two grids, in mm.

        Parameters
        ----------
        other : Geometry
            Another grid; order and direction of its axes and its voxel sizes do not matter.

        Returns
        -------
        float
            The largest distance from a corner of either box to the nearest one of the other.

        Examples
        --------
        >>> grid = Geometry((4, 4, 4), np.ones(3), np.eye(3), np.zeros(3))
        >>> finer = Geometry((8, 8, 8), np.full(3, 0.5), np.eye(3), np.full(3, -0.25))
        >>> grid.apart(finer)
        0.0
        """
        between = np.linalg.norm(self.corners[:, None] - other.corners[None], axis=-1)
        return float(max(between.min(0).max(), between.min(1).max()))

    @property
    def orientation(self) -> str:
        """Nearest anatomical direction of each axis, e.g. ``'LIA'``."""
        return ''.join(nib.orientations.aff2axcodes(self.affine))

    def matches(self, other: 'Geometry', tolerance: float = 1e-5) -> bool:
        """Return True if two grids have the same shape, voxel sizes, directions and centre.

        Parameters
        ----------
        other : Geometry
            Another grid.
        tolerance : float
            Largest absolute difference of any size, cosine or coordinate.
        """
        return self.shape == other.shape and all(
            np.allclose(getattr(self, name), getattr(other, name), rtol=0, atol=tolerance)
            for name in ('zooms', 'cosines', 'c_ras')
        )
