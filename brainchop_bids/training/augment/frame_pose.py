"""Random planes through a head or another organ, as points of frames of 64 x 64 pixels."""

from dataclasses import dataclass

import numpy as np

from ...inference.localise.frames import SIDE
from ...inference.localise.orientation import ORIENTATIONS, VIEWS, view_of
from ..options import SynthesisOptions
from .fields import rotate

# Points of a pixel along each axis.
POINTS = 2
# Axes of points by the codes of `ORIENTATIONS`: left to right (or the reverse), down, forward.
_AXES = {'R': (0, 1), 'I': (1, 1), 'S': (1, -1), 'A': (2, 1), 'P': (2, -1)}
_OPPOSITE = {'R': 'R', 'A': 'P', 'P': 'A', 'S': 'I', 'I': 'S'}
# In units of the organ's reach: least field of view, fields of view just around the organ, and
# how far below it volumes without it lie.
_FIELD, _AROUND, _BELOW = 1.8, (2.5, 4.0), (2.5, 5.5)
# How far outside of the field of view the organ's middle may be, mm.
_BEYOND = 20.0
# Share of volumes of what is below the organ, or of nothing.
_WITHOUT = 0.08


@dataclass(frozen=True, eq=False)
class FramePose:
    """Frames of one volume, all along the same axis.

    Parameters
    ----------
    points : (3, count, 128, 128) float32
        For each of 2 x 2 points of a pixel its place relative to the organ's middle, mm, left to
        right (or the reverse), down, and forward; NaN outside the field of view.
    view : tuple of 2 str
        Directions of rows and columns, one of
        `brainchop_bids.inference.localise.orientation.VIEWS`.
    pixel : float
        Size of a pixel, mm.
    """

    points: np.ndarray
    view: tuple[str, str]
    pixel: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, options: SynthesisOptions, count: int, reach: float
    ) -> 'FramePose':
        """Draw frames.

        Parameters
        ----------
        rng : numpy.random.Generator
            Random generator.
        options : SynthesisOptions
            Ranges of all random changes.
        count : int
            Number of frames.
        reach : float
            Half of the longest side of the organ, mm.

        Returns
        -------
        FramePose
        """
        codes = ORIENTATIONS[rng.integers(len(ORIENTATIONS))]
        axis = int(rng.integers(3))
        extent, offset = _field_of_view(rng, options, reach)
        others = [n for n in range(3) if n != axis]
        pixel = float(extent[others].max() / SIDE)
        matrix = _matrix(rng, options, codes)
        grids: list[np.ndarray] = []
        for n in range(3):
            steps = (np.arange(SIDE * POINTS) + 0.5) / POINTS * pixel - pixel * SIDE / 2
            if n == axis:
                steps = _places(rng, count, extent[n], offset[n], reach)
            shape = [1, 1, 1]
            # The axis across the frames comes first.
            shape[0 if n == axis else 1 + others.index(n)] = -1
            inside = np.where(np.abs(steps) > extent[n] / 2, np.nan, steps + offset[n])
            grids.append(inside.astype(np.float32).reshape(shape))
        points = np.stack([sum(matrix[to, n] * grids[n] for n in range(3)) for to in range(3)])
        if rng.random() < _WITHOUT:
            points[1] += np.float32(rng.uniform(*_BELOW) * reach)
        _bend(points, rng, options.elastic)
        return cls(points, VIEWS[view_of(codes, axis)], pixel)

    def turned(
        self, image: np.ndarray, organ: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Flip and transpose a frame at random.

        Parameters
        ----------
        image : (64, 64) float32
            Intensities.
        organ : (64, 64) bool
            Whether each pixel is the organ.
        rng : numpy.random.Generator
            Random generator.

        Returns
        -------
        image : (64, 64) float32
        labels : (64, 64) uint8
            0, or 1 + index of the frame's view after turning.
        """
        rows, columns = self.view
        flips = rng.integers(2, size=3).astype(bool)
        if flips[0]:
            image, organ, rows = image[::-1], organ[::-1], _OPPOSITE[rows]
        if flips[1]:
            image, organ, columns = image[:, ::-1], organ[:, ::-1], _OPPOSITE[columns]
        if flips[2]:
            image, organ, rows, columns = image.T, organ.T, columns, rows
        label = np.uint8(1 + VIEWS.index((rows, columns)))
        return image.copy(), np.where(organ, label, np.uint8(0))


def mean_of_points(values: np.ndarray) -> np.ndarray:
    """Return the mean of each pixel's points: (count, 128, 128) to (count, 64, 64) float32."""
    points = values.reshape(len(values), SIDE, POINTS, SIDE, POINTS)
    mean: np.ndarray = points.mean((2, 4), dtype=np.float32)
    return mean


def _field_of_view(
    rng: np.random.Generator, options: SynthesisOptions, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the extent of a volume along its axes, and its middle relative to the organ's, mm."""
    least = _FIELD * reach
    most = max(least, options.field)
    extent = np.exp(rng.uniform(np.log(least), np.log(most), 3))
    if rng.random() < 0.5:
        # Most scans have fields of view just around the organ.
        low, high = _AROUND
        extent = np.minimum(extent, rng.uniform(low * reach, high * reach, 3))
    room = np.maximum(extent / 2 - reach, 0) + _BEYOND
    return extent, rng.uniform(-1, 1, 3) * room


def _places(
    rng: np.random.Generator, count: int, extent: float, offset: float, reach: float
) -> np.ndarray:
    """Draw places of frames everywhere, more of them where the organ begins and ends."""
    places = rng.uniform(-0.5, 0.5, count) * extent
    near = rng.random(count) < 0.3
    ends = rng.choice((-reach, reach), near.sum())
    places[near] = ends + rng.normal(0, 0.2 * reach, near.sum()) - offset
    return np.clip(places, -extent / 2, extent / 2)


def _matrix(
    rng: np.random.Generator, options: SynthesisOptions, codes: tuple[str, str, str]
) -> np.ndarray:
    """Draw the transform from axes of the volume to those of points, (3, 3) float32."""
    turn = np.zeros((3, 3))
    for n, code in enumerate(codes):
        to, sign = _AXES[code]
        # Left and right look alike.
        turn[to, n] = sign if to else rng.choice((-1, 1))
    angles = np.deg2rad(rng.uniform(-1, 1, 3) * options.rotation)
    scale = np.diag(1 + rng.uniform(-1, 1, 3) * options.scaling)
    matrix: np.ndarray = (rotate(scale, angles) @ turn).astype(np.float32)
    return matrix


def _bend(points: np.ndarray, rng: np.random.Generator, strength: float) -> None:
    """Add a smooth displacement in place, of plane waves."""
    for axis in range(3):
        for _ in range(2):
            wave = rng.normal(0, 1, 3)
            wave *= 2 * np.pi / rng.uniform(60, 160) / np.linalg.norm(wave)
            phase = sum(np.float32(wave[n]) * points[n] for n in range(3))
            phase += np.float32(rng.uniform(0, 2 * np.pi))
            np.sin(phase, out=phase)
            phase *= np.float32(rng.uniform(0, strength))
            points[axis] += phase
