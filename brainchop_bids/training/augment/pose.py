"""Spatial transforms from synthetic images to the label maps they are made from.

Coordinates are computed at points ``STEP`` voxels apart and interpolated linearly between them.
Any part of the image can be made without the rest, and the labels at the points themselves are a
coarse overview of the whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...image.lookup import lookup
from ..data.label_maps import STEP, Atlas
from ..options import SynthesisOptions
from .fields import along_axes, rotate, smooth_field
from .tissues import NECK_CODES

# Largest extent of a neck below the label map, mm.
_NECK = 70.0
_BLOBS = (-1.2, -0.5, 0.0, 0.5, 1.2)

Start = tuple[int, int, int]


@dataclass(frozen=True)
class Neck:
    """Random tissue below a label map, and in regions around the brain.

    Parameters
    ----------
    blobs, patches : float
        Distances of the control points of tissue blobs and of regions, mm.
    share : float
        Threshold of the regions, in standard deviations.
    """

    blobs: float
    patches: float
    share: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> 'Neck':
        """Draw a neck."""
        # Mostly fine, since layers of muscle and fat are as thin as gyri.
        blobs = float(np.exp(rng.uniform(*np.log((2.5, 20)))))
        return cls(blobs, rng.uniform(12, 40), rng.uniform(-0.5, 1))

    def fill(
        self,
        labels: np.ndarray,
        below: np.ndarray,
        atlas: Atlas,
        rng: np.random.Generator,
        size: int = 1,
    ) -> None:
        """Replace labels in place; ``below`` marks those under the map."""
        field = smooth_field(labels.shape, max(1.0, self.blobs / size), rng)
        blobs = np.zeros(labels.shape, np.uint8)
        for limit in _BLOBS:
            blobs += field > limit
        field = smooth_field(labels.shape, max(1.0, self.patches / size), rng)
        outside = atlas.outside & (atlas.codes > 0)
        where = (below & (labels > 0)) | ((field > self.share) & lookup(outside, labels))
        labels[where] = atlas.indices(NECK_CODES)[blobs[where]]


@dataclass(frozen=True, eq=False)
class Pose:
    """Rotation, scaling, bending and flip of a head.

    Parameters
    ----------
    atlas : Atlas
        Label map of the head.
    points : (3, K, K, K) float32
        Coordinates in the map, voxels, of each voxel of the image whose indices are multiples of
        ``STEP``.
    mirrored : bool
        Whether left and right are exchanged.
    neck : Neck, optional
        Tissue below the map; by default air.
    """

    atlas: Atlas
    points: np.ndarray
    mirrored: bool = False
    neck: Neck | None = None

    @classmethod
    def draw(cls, atlas: Atlas, rng: np.random.Generator, options: SynthesisOptions) -> 'Pose':
        """Draw a pose."""
        side = atlas.side
        mirrored = rng.random() < options.flip
        neck = Neck.draw(rng) if rng.random() < options.neck else None
        matrix = _affine(rng, options)
        middle = np.full(3, (side - 1) / 2)
        shift = middle - matrix @ middle + rng.uniform(-1, 1, 3) * options.translation
        if neck is not None:
            # The second axis runs down.
            shift[1] += rng.uniform(0, _NECK)
        count = -(-(side - 1) // STEP) + 1
        steps = np.arange(count, dtype=np.float32) * STEP
        strength = rng.uniform(0, options.elastic)
        points = np.empty((3, count, count, count), np.float32)
        for axis in range(3):
            field = smooth_field(points.shape[1:], options.elastic_spacing / STEP, rng)
            x, y, z = (np.float32(matrix[axis, k]) * steps for k in range(3))
            np.multiply(field, np.float32(strength), out=points[axis])
            points[axis] += x[:, None, None] + y[None, :, None] + (z + np.float32(shift[axis]))
        if mirrored:
            points[0] = side - 1 - points[0]
            matrix = np.diag([-1, 1, 1]) @ matrix
        if options.proportions > 0:
            points += _proportions(atlas, points, matrix, rng, options.proportions)
        return cls(atlas, points, mirrored, neck)

    def overview(self, rng: np.random.Generator) -> np.ndarray:
        """Return the labels of every fourth voxel of the image, see `labels`."""
        count = (self.atlas.side - 1) // STEP + 1
        part = self.points[:, :count, :count, :count]
        planes = (part[:, plane].copy() for plane in range(count))
        return self._look_up(planes, count, rng, STEP)

    def labels(self, start: Start, side: int, rng: np.random.Generator) -> np.ndarray:
        """Return the labels of a cube of the image.

        Parameters
        ----------
        start : tuple of 3 int
            First voxel.
        side : int
            Side, voxels.
        rng : numpy.random.Generator
            Random generator, for the neck.

        Returns
        -------
        (side, side, side) uint8
            Indices of codes, see `brainchop_bids.training.data.label_maps.Atlas`.
        """
        box, weights = self._weights(start, side)
        # The first axis last, since each plane of the image needs only two planes of points.
        sheets = weights[1] @ (self.points[:, box[0], box[1], box[2]] @ weights[2].T)
        planes = (_blend(sheets, row) for row in weights[0])
        return self._look_up(planes, side, rng)

    def spread(self, values: np.ndarray, start: Start, side: int) -> np.ndarray:
        """Interpolate values at the points to a cube of the image.

        Parameters
        ----------
        values : (K, K, K) float32
            Values at the points.
        start, side
            As for `labels`.

        Returns
        -------
        (side, side, side) float32
        """
        box, weights = self._weights(start, side)
        return along_axes(values[box], weights)

    def at_points(self, values: np.ndarray) -> np.ndarray:
        """Return a coarse map's values, one for each ``STEP`` voxels of the map, at the points."""
        return _at(values, self.points)

    def _weights(self, start: Start, side: int) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        """Return the box of points around a cube, and matrices that interpolate linearly."""
        box, weights = [], []
        for low in start:
            place = np.arange(low, low + side) / STEP
            first, last = int(place[0]), int(np.ceil(place[-1])) + 1
            distance = np.abs(place[:, None] - np.arange(first, last))
            box.append(slice(first, last))
            weights.append(np.clip(1 - distance, 0, None).astype(np.float32))
        return tuple(box), weights

    def _look_up(
        self, planes: Iterable[np.ndarray], side: int, rng: np.random.Generator, size: int = 1
    ) -> np.ndarray:
        """Return the labels at planes of coordinates (3, side, side), which are overwritten."""
        atlas = self.atlas
        shape = atlas.dense.shape
        corner = atlas.corner.astype(np.float32)[:, None, None]
        labels = np.empty((side,) * 3, np.uint8)
        below = np.empty((side,) * 3, bool) if self.neck else None
        for plane, where in enumerate(planes):
            np.rint(where, out=where)
            if below is not None:
                np.greater(where[1], atlas.end, out=below[plane])
                np.minimum(where[1], atlas.end, out=where[1])
            where -= corner
            for axis in range(3):
                # Outside the box of the head the border of zeros is repeated.
                np.clip(where[axis], 0, shape[axis] - 1, out=where[axis])
            index = where.astype(np.intp)
            flat = (index[0] * shape[1] + index[1]) * shape[2] + index[2]
            atlas.dense.reshape(-1).take(flat, out=labels[plane], mode='clip')
        if self.mirrored:
            labels = lookup(atlas.swap, labels)
        if self.neck and below is not None:
            self.neck.fill(labels, below, atlas, rng, size)
        return labels


def _blend(sheets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return a weighted sum of planes (3, K, Y, Z) with few non-zero weights, (3, Y, Z)."""
    first, *rest = np.flatnonzero(weights)
    blend: np.ndarray = sheets[:, first] * weights[first]
    for other in rest:
        blend += sheets[:, other] * weights[other]
    return blend


def _affine(rng: np.random.Generator, options: SynthesisOptions) -> np.ndarray:
    angles = np.deg2rad(rng.uniform(-1, 1, 3) * options.rotation)
    matrix = rotate(np.diag(1 + rng.uniform(-1, 1, 3) * options.scaling), angles)
    return matrix @ (np.eye(3) + rng.uniform(-1, 1, (3, 3)) * options.shearing)


def _proportions(
    atlas: Atlas, points: np.ndarray, matrix: np.ndarray, rng: np.random.Generator, size: float
) -> np.ndarray:
    """Return the displacement by which parts of a head grow or shrink."""
    change = rng.uniform(-size, size, len(atlas.potentials)).astype(np.float32)
    potential = np.tensordot(change, atlas.potentials, axes=1)
    # It is smooth, so that every second point is enough.
    coarse = _at(potential, points[:, ::2, ::2, ::2])
    place = np.arange(points.shape[1]) / 2
    between = np.clip(1 - np.abs(place[:, None] - np.arange(coarse.shape[0])), 0, None)
    between /= between.sum(1, keepdims=True)
    potential = along_axes(coarse, [between.astype(np.float32)] * 3)
    slopes = np.stack(np.gradient(potential, STEP))
    # From gradients in the image to gradients in the map.
    displacement: np.ndarray = np.tensordot(
        np.linalg.inv(matrix).T.astype(np.float32), slopes, axes=1
    )
    return displacement


def _at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    where = (points - np.float32((STEP - 1) / 2)) / np.float32(STEP)
    sampled: np.ndarray = ndimage.map_coordinates(
        values, where, np.float32, order=1, mode='nearest'
    )
    return sampled
