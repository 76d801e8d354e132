"""Masks of head, air and empty background of a scan.

Head and air are found in blocks of about 4 mm: that is exact enough for their borders, and there
are sixty times fewer blocks than voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from ..image.boxes import bounding_box
from ..image.components import fill_holes
from ..image.geometry import Geometry

# Side of a block, mm.
BLOCK_MM = 4.0
# A block belongs to the head where it is brighter than the air by this share of what the brain is.
_HEAD_LEVEL = 0.25
# Gaps in the head mask, nostrils and dark bone, are closed over so many blocks.
_CLOSING = 3
# Air begins so many blocks from the head: fat's shadow and blurred skin lie between.
_APART = 2
# MRIQC takes air above the plane through glabella and inion, both at z = -14 mm in MNI space; the
# brain's centre of mass there is at z = 8 mm or so.
_HAT_BELOW_CENTRE_MM = 22.0


@dataclass(frozen=True, eq=False)
class BlockGrid:
    """A scan and its brain in blocks of some 4 mm.

    Parameters
    ----------
    factors : tuple of 3 int
        Voxels in a block along each axis.
    affine : (4, 4) float64
        Block index to RAS+ mm.
    mean : float32 array
        Mean intensity of each block.
    filled : float32 array
        Share of its voxels that are not empty.
    brain : float32 array
        Share of its voxels that are brain.
    """

    factors: tuple[int, int, int]
    affine: np.ndarray
    mean: np.ndarray
    filled: np.ndarray
    brain: np.ndarray

    @classmethod
    def of(
        cls, data: np.ndarray, void: np.ndarray, brain: np.ndarray, geometry: Geometry
    ) -> 'BlockGrid':
        """Reduce a scan, its empty voxels and its brain mask, all on one grid."""
        x, y, z = (max(1, round(BLOCK_MM / zoom)) for zoom in geometry.zooms.tolist())
        factors = (x, y, z)
        affine = geometry.affine @ np.diag([x, y, z, 1.0])
        affine[:3, 3] = geometry.affine[:3, :3] @ ((np.array(factors) - 1) / 2)
        affine[:3, 3] += geometry.affine[:3, 3]
        filled = 1 - shrink(void, factors)
        return cls(factors, affine, shrink(data, factors), filled, shrink(brain, factors))

    @property
    def volume(self) -> float:
        """Volume of a whole block in mm^3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def places(self, inside: np.ndarray) -> np.ndarray:
        """Return the centres of blocks, ``(n, 3)`` RAS+ mm."""
        return np.argwhere(inside) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def expand(self, blocks: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Give each voxel of a grid the value of its block."""
        turned = blocks.T
        # Last axis first, so that the result is in Fortran order as scans are.
        for axis in (2, 1, 0):
            whole = np.repeat(turned, self.factors[2 - axis], axis=axis)
            turned = np.take(whole, np.arange(shape[2 - axis]), axis=axis)
        return turned.T


def shrink(data: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Average blocks of voxels.

    Parameters
    ----------
    data : (X, Y, Z) array
        Numbers or bool.
    factors : sequence of 3 int
        Voxels in a block along each axis; the last one may have fewer.

    Returns
    -------
    float32 array

    Examples
    --------
    >>> shrink(np.array([[[1, 3, 8]]], dtype=np.int16), (1, 1, 2))
    array([[[2., 8.]]], dtype=float32)
    """
    result = data.view(np.uint8) if data.dtype == bool else data
    # The axis that varies slowest first: whole planes are added, and the rest has less to do.
    for axis in sorted(range(3), key=lambda axis: -data.strides[axis]):
        factor = factors[axis]
        parts = [_every(result, axis, start, factor) for start in range(factor)]
        total = parts[0].astype(np.float32)
        count = np.ones(total.shape[axis], dtype=np.float32)
        for part in parts[1:]:
            whole = part.shape[axis]
            _every(total, axis, 0, 1, whole)[...] += part
            count[:whole] += 1
        shape = [1, 1, 1]
        shape[axis] = -1
        total /= count.reshape(shape)
        result = total
    return result if result.dtype == np.float32 else result.astype(np.float32)


def _every(
    array: np.ndarray, axis: int, start: int, step: int, stop: int | None = None
) -> np.ndarray:
    index: list[slice] = [slice(None)] * 3
    index[axis] = slice(start, stop, step)
    return array[tuple(index)]


def head_blocks(blocks: BlockGrid) -> np.ndarray:
    """Find the head: the brain and all that is clearly brighter than air, closed and filled.

    Parameters
    ----------
    blocks : BlockGrid
        Scan and brain.

    Returns
    -------
    bool array
        One for each block.
    """
    brain = blocks.brain > 0.5
    outside = (blocks.brain == 0) & (blocks.filled == 1)
    if not brain.any() or not outside.any():
        return blocks.brain > 0
    air = float(np.percentile(blocks.mean[outside], 5))
    level = air + _HEAD_LEVEL * (float(np.median(blocks.mean[brain])) - air)
    parts = cc3d.connected_components(
        np.asarray((blocks.mean > level) | brain, dtype=np.uint8, order='F'), connectivity=6
    )
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    head = parts == int(np.argmax(sizes))
    wide = np.pad(head, _CLOSING)
    wide = ndimage.binary_closing(wide, iterations=_CLOSING)
    inside = (slice(_CLOSING, -_CLOSING),) * 3
    return fill_holes(wide)[inside] | (blocks.brain > 0)


def air_blocks(blocks: BlockGrid, head: np.ndarray) -> np.ndarray:
    """Find the air around the head, above its base, clear of empty background.

    Parameters
    ----------
    blocks : BlockGrid
        Scan and brain.
    head : bool array
        As `head_blocks` gives it.

    Returns
    -------
    bool array
        One for each block. Without a brain the air of the whole volume.
    """
    air = ~ndimage.binary_dilation(head, iterations=_APART)
    brain = blocks.brain > 0.5
    if brain.any():
        base = blocks.places(brain)[:, 2].mean() - _HAT_BELOW_CENTRE_MM
        grids = np.meshgrid(*map(np.arange, head.shape), indexing='ij', sparse=True)
        height = sum(step * grid for step, grid in zip(blocks.affine[2, :3], grids, strict=True))
        air &= height + blocks.affine[2, 3] > base
    return air


def box_of(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the box around a mask; an empty one where there is nothing."""
    box = bounding_box(mask)
    if box is None:
        return slice(0), slice(0), slice(0)
    x, y, z = box
    return x, y, z
