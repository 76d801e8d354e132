"""Where the voxels of an image lie in the label map it is made of.

The map of coordinates is kept at points ``STEP`` voxels apart and is linear between them: any
part of the image can be looked up without the rest, and the points themselves, looked up, are a
coarse overview of the whole.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .atlas import STEP, Atlas
from .fields import along_axes, smooth_field
from .synthesis import NECK, NECK_CODES, SynthesisOptions, random_affine

Start = tuple[int, int, int]


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
    neck : bool
        What lies below the map is more of the same neck, and not air.
    """

    atlas: Atlas
    points: np.ndarray
    mirrored: bool = False
    neck: bool = False

    @classmethod
    def draw(cls, atlas: Atlas, rng: np.random.Generator, options: SynthesisOptions) -> 'Pose':
        """Draw one."""
        side = atlas.side
        mirrored = rng.random() < options.flip
        neck = rng.random() < options.neck
        matrix = random_affine(rng, options)
        middle = np.full(3, (side - 1) / 2)
        shift = middle - matrix @ middle + rng.uniform(-1, 1, 3) * options.translation
        if neck:
            # The second axis runs down.
            shift[1] += rng.uniform(0, NECK)
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

    def overview(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return every fourth voxel of the image, as `labels` does."""
        count = (self.atlas.side - 1) // STEP + 1
        part = self.points[:, :count, :count, :count]
        below = np.empty(part.shape[1:], bool) if self.neck else None
        labels = np.empty(part.shape[1:], np.uint8)
        for plane in range(count):
            self._look_up(part[:, plane].copy(), labels, below, plane)
        return labels, below

    def labels(self, start: Start, side: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a cube of the image.

        Parameters
        ----------
        start : tuple of 3 int
            Its first voxel.
        side : int
            Its side, voxels.

        Returns
        -------
        labels : (side, side, side) uint8
            Places of codes, see `brainchop_bids.training.atlas.Atlas`.
        below : bool array of the same shape, or None
            Where it lies below the map.
        """
        box, hats = self._hats(start, side)
        part = self.points[(slice(None), *box)]
        # The first axis last: it needs only two planes of points for each of the image's.
        sheets = hats[1] @ (part @ hats[2].T)
        labels = np.empty((side,) * 3, np.uint8)
        below = np.empty((side,) * 3, bool) if self.neck else None
        for plane, row in enumerate(hats[0]):
            first, *rest = np.flatnonzero(row)
            where = sheets[:, first] * row[first]
            for other in rest:
                where += sheets[:, other] * row[other]
            self._look_up(where, labels, below, plane)
        return labels, below

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
        self, where: np.ndarray, labels: np.ndarray, below: np.ndarray | None, plane: int
    ) -> None:
        """Fill one plane; ``where`` is spoilt."""
        atlas = self.atlas
        np.rint(where, out=where)
        if below is not None:
            np.greater(where[1], atlas.end, out=below[plane])
            np.minimum(where[1], atlas.end, out=where[1])
        where -= atlas.corner.astype(np.float32)[:, None, None]
        shape = atlas.dense.shape
        for axis in range(3):
            # Beyond the box of the head is its border of zeros.
            np.clip(where[axis], 0, shape[axis] - 1, out=where[axis])
        index = where.astype(np.int32)
        flat = (index[0] * shape[1] + index[1]) * shape[2] + index[2]
        found = atlas.dense.reshape(-1).take(flat)
        labels[plane] = atlas.swap.take(found) if self.mirrored else found


def lengthen_neck(
    labels: np.ndarray,
    below: np.ndarray,
    atlas: Atlas,
    rng: np.random.Generator,
    spacings: tuple[float, float],
    share: float,
) -> None:
    """Turn all that lies below the map, and patches of what is outside the brain, into blobs.

    Parameters
    ----------
    labels : (X, Y, Z) uint8
        Places of codes; changed.
    below : bool array of the same shape
        Where it lies below the map.
    atlas : Atlas
        Knows the codes.
    rng : numpy.random.Generator
        Decides.
    spacings : tuple of 2 float
        Size of blobs and of patches, voxels.
    share : float
        Threshold of the patches, in standard deviations.
    """
    field = smooth_field(labels.shape, max(1.0, spacings[0]), rng)
    blobs = np.digitize(field, (-1.2, -0.5, 0, 0.5, 1.2)).astype(np.uint8)
    patches = smooth_field(labels.shape, max(1.0, spacings[1]), rng) > share
    outside = atlas.outside & (atlas.codes > 0)
    where = (below & (labels > 0)) | (patches & outside[labels])
    labels[where] = atlas.places(NECK_CODES)[blobs[where]]


def _proportions(
    atlas: Atlas, points: np.ndarray, matrix: np.ndarray, rng: np.random.Generator, size: float
) -> np.ndarray:
    """Return the displacement that lets parts of a head grow or shrink."""
    change = rng.uniform(-size, size, len(atlas.potentials)).astype(np.float32)
    potential = _at(np.tensordot(change, atlas.potentials, axes=1), points)
    slopes = np.stack(np.gradient(potential, STEP))
    # From the slope in the image to the slope in the map.
    turned: np.ndarray = np.tensordot(np.linalg.inv(matrix).T.astype(np.float32), slopes, axes=1)
    return turned


def _at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    where = (points - np.float32((STEP - 1) / 2)) / np.float32(STEP)
    found: np.ndarray = ndimage.map_coordinates(values, where, np.float32, order=1, mode='nearest')
    return found
