"""Where the voxels of an image lie in the label map it is made of.

The map of coordinates is kept at points ``STEP`` voxels apart and is linear between them: any
part of the image can be looked up without the rest, and the points themselves, looked up, are a
coarse overview of the whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...image.lookup import lookup
from ..data.label_maps import STEP, Atlas
from ..options import SynthesisOptions
from .fields import along_axes, smooth_field, turned
from .tissues import NECK_CODES

# How far below its map a head can go on, mm.
_NECK = 70.0
_BLOBS = (-1.2, -0.5, 0.0, 0.5, 1.2)

Start = tuple[int, int, int]


@dataclass(frozen=True)
class Neck:
    """What lies below a map, and in patches around the brain: blobs of muscle, fat and bone.

    Parameters
    ----------
    blobs, patches : float
        Distances of the control points that make both, mm.
    share : float
        Threshold of the patches, in standard deviations.
    """

    blobs: float
    patches: float
    share: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> 'Neck':
        """Draw one."""
        # Mostly fine ones: layers of muscle and fat are as thin as gyri.
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
        """Change labels of voxels of ``size`` mm; ``below`` says where these are not the map's."""
        field = smooth_field(labels.shape, max(1.0, self.blobs / size), rng)
        blobs = np.zeros(labels.shape, np.uint8)
        for limit in _BLOBS:
            blobs += field > limit
        field = smooth_field(labels.shape, max(1.0, self.patches / size), rng)
        outside = atlas.outside & (atlas.codes > 0)
        where = (below & (labels > 0)) | ((field > self.share) & lookup(outside, labels))
        labels[where] = atlas.places(NECK_CODES)[blobs[where]]


@dataclass(frozen=True, eq=False)
class Pose:
    """How a head is turned, stretched, bent and mirrored.

    Parameters
    ----------
    atlas : Atlas
        The head.
    points : (3, K, K, K) float32
        Voxel of the map at each voxel of the image whose indices are multiples of ``STEP``.
    mirrored : bool
        Sides are exchanged.
    neck : Neck, optional
        What lies below the map; without it, air.
    """

    atlas: Atlas
    points: np.ndarray
    mirrored: bool = False
    neck: Neck | None = None

    @classmethod
    def draw(cls, atlas: Atlas, rng: np.random.Generator, options: SynthesisOptions) -> 'Pose':
        """Draw one."""
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
        """Return every fourth voxel of the image, as `labels` does."""
        count = (self.atlas.side - 1) // STEP + 1
        part = self.points[:, :count, :count, :count]
        planes = (part[:, plane].copy() for plane in range(count))
        return self._look_up(planes, count, rng, STEP)

    def labels(self, start: Start, side: int, rng: np.random.Generator) -> np.ndarray:
        """Return a cube of the image.

        Parameters
        ----------
        start : tuple of 3 int
            Its first voxel.
        side : int
            Its side, voxels.
        rng : numpy.random.Generator
            Decides how a neck goes on.

        Returns
        -------
        (side, side, side) uint8
            Places of codes, see `brainchop_bids.training.data.label_maps.Atlas`.
        """
        box, hats = self._hats(start, side)
        # The first axis last: it needs only two planes of points for each of the image's.
        sheets = hats[1] @ (self.points[:, box[0], box[1], box[2]] @ hats[2].T)
        planes = (_blend(sheets, row) for row in hats[0])
        return self._look_up(planes, side, rng)

    def spread(self, values: np.ndarray, start: Start, side: int) -> np.ndarray:
        """Interpolate what is known at the points to a cube of the image.

        Parameters
        ----------
        values : (K, K, K) float32
            At the points.
        start, side
            As for `labels`.

        Returns
        -------
        (side, side, side) float32
        """
        box, hats = self._hats(start, side)
        return along_axes(values[box], hats)

    def at_points(self, values: np.ndarray) -> np.ndarray:
        """Return a coarse map's values, one for each ``STEP`` voxels of the map, at the points."""
        return _at(values, self.points)

    def _hats(self, start: Start, side: int) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        """Return which points a cube lies between, and what interpolates them linearly."""
        box, hats = [], []
        for low in start:
            place = np.arange(low, low + side) / STEP
            first, last = int(place[0]), int(np.ceil(place[-1])) + 1
            distance = np.abs(place[:, None] - np.arange(first, last))
            box.append(slice(first, last))
            hats.append(np.clip(1 - distance, 0, None).astype(np.float32))
        return tuple(box), hats

    def _look_up(
        self, planes: Iterable[np.ndarray], side: int, rng: np.random.Generator, size: int = 1
    ) -> np.ndarray:
        """Return the labels at some planes of coordinates, (3, side, side), which are spoilt."""
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
                # Beyond the box of the head is its border of zeros.
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
    """Return a weighted sum of planes (3, K, Y, Z) as (3, Y, Z), where few weights are not 0."""
    first, *rest = np.flatnonzero(weights)
    blend: np.ndarray = sheets[:, first] * weights[first]
    for other in rest:
        blend += sheets[:, other] * weights[other]
    return blend


def _affine(rng: np.random.Generator, options: SynthesisOptions) -> np.ndarray:
    angles = np.deg2rad(rng.uniform(-1, 1, 3) * options.rotation)
    matrix = turned(np.diag(1 + rng.uniform(-1, 1, 3) * options.scaling), angles)
    return matrix @ (np.eye(3) + rng.uniform(-1, 1, (3, 3)) * options.shearing)


def _proportions(
    atlas: Atlas, points: np.ndarray, matrix: np.ndarray, rng: np.random.Generator, size: float
) -> np.ndarray:
    """Return the displacement that lets parts of a head grow or shrink."""
    change = rng.uniform(-size, size, len(atlas.potentials)).astype(np.float32)
    potential = np.tensordot(change, atlas.potentials, axes=1)
    # It is smooth: every second point tells the others.
    coarse = _at(potential, points[:, ::2, ::2, ::2])
    place = np.arange(points.shape[1]) / 2
    between = np.clip(1 - np.abs(place[:, None] - np.arange(coarse.shape[0])), 0, None)
    between /= between.sum(1, keepdims=True)
    potential = along_axes(coarse, [between.astype(np.float32)] * 3)
    slopes = np.stack(np.gradient(potential, STEP))
    # From the slope in the image to the slope in the map.
    bent: np.ndarray = np.tensordot(np.linalg.inv(matrix).T.astype(np.float32), slopes, axes=1)
    return bent


def _at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    where = (points - np.float32((STEP - 1) / 2)) / np.float32(STEP)
    found: np.ndarray = ndimage.map_coordinates(values, where, np.float32, order=1, mode='nearest')
    return found
