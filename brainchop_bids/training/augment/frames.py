"""Synthetic frames for localisers: any plane through a head, small, with much around it.

Frames have the few pixels that a localiser sees, each the mean of some points. Points are looked
up in a label map (after Billot et al. 2023, SynthSeg, doi:10.1016/j.media.2023.102789), so that no
whole volume is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...image.lookup import lookup
from ...inference.localise.orientation import ORIENTATIONS, VIEWS, view_of
from ..data.label_maps import Atlas
from ..options import SynthesisOptions
from .fields import rotate, smooth_field
from .scene import Prior, draw_contrast
from .tissues import NECK_CODES

# Pixels of a frame along each axis, and points of a pixel along each axis.
SIDE, POINTS = 64, 2
# Axes of a label map, LIA, by the codes of `ORIENTATIONS`.
_AXES = {'R': (0, 1), 'I': (1, 1), 'S': (1, -1), 'A': (2, 1), 'P': (2, -1)}
_OPPOSITE = {'R': 'R', 'A': 'P', 'P': 'A', 'S': 'I', 'I': 'S'}
# Least field of view, and how far the centre of the brain may lie outside of it, mm.
_FIELD, _BEYOND = 130.0, 20.0
# Share of volumes of the body below the head, or of nothing.
_WITHOUT = 0.08
# Size of the lattice of random tissue, which is repeated.
_LATTICE = 48


@dataclass(frozen=True)
class Body:
    """Neck and shoulders below a label map, of random tissue.

    Parameters
    ----------
    neck : float
        Length of the neck below the map, mm.
    widths : tuple of 2 float
        Width of the shoulders relative to the neck, left to right and front to back.
    lattice : (N, N, N) uint8
        Random tissue, as indices of an atlas' codes.
    spacing : float
        Distance of the points of the lattice, mm.
    """

    neck: float
    widths: tuple[float, float]
    lattice: np.ndarray
    spacing: float

    @classmethod
    def draw(cls, atlas: Atlas, rng: np.random.Generator) -> 'Body':
        """Draw a body."""
        field = smooth_field((_LATTICE,) * 3, 3.0, rng)
        tissues = atlas.indices(NECK_CODES)
        steps = np.digitize(field, np.sort(rng.normal(0, 1, len(tissues) - 1)))
        lattice = tissues[steps]
        if rng.random() < 0.5:
            # Lungs and airways.
            lattice[smooth_field((_LATTICE,) * 3, 8.0, rng) > rng.uniform(0.5, 2)] = 0
        widths = (rng.uniform(1.0, 3.2), rng.uniform(1.0, 1.8))
        spacing = float(np.exp(rng.uniform(*np.log((2.0, 10.0)))))
        return cls(rng.uniform(0, 80), widths, lattice, spacing)

    def narrow(self, points: np.ndarray, depth: np.ndarray, middle: np.ndarray) -> None:
        """Move points below the map, in place, to where the map's last plane has the same part."""
        share = np.clip((depth - self.neck) / 60, 0, 1)
        for axis, width in zip((0, 2), self.widths, strict=True):
            points[axis] -= middle[axis]
            points[axis] /= 1 + (np.float32(width) - 1) * share
            points[axis] += middle[axis]

    def tissue(self, points: np.ndarray) -> np.ndarray:
        """Return random tissue at points (3, n), as indices of codes."""
        x, y, z = (np.rint(points / np.float32(self.spacing)).astype(np.int32)) % _LATTICE
        found: np.ndarray = self.lattice[x, y, z]
        return found


def draw_frames(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    count: int,
    *,
    prior: Prior | None = None,
    groups: Mapping[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames of one synthetic volume, all along the same axis, each turned in its plane.

    Parameters
    ----------
    atlas : Atlas
        Label map, from `build_atlas`, whose classes above 0 are the organ.
    rng : numpy.random.Generator
        Random generator.
    options : SynthesisOptions
        Ranges of all random changes.
    count : int
        Number of frames.
    prior : mapping of int to tuple, optional
        From `brainchop_bids.training.augment.tissues.t1_prior`; without it no contrast is
        T1-like.
    groups : mapping of int to int, optional
        Codes that have the intensity of another code; by default those of the right side.

    Returns
    -------
    images : (count, 64, 64) float32
        Intensities, not yet normalised.
    labels : (count, 64, 64) uint8
        0, or 1 + index of the frame's view, see
        `brainchop_bids.inference.localise.orientation.VIEWS`.
    """
    codes = ORIENTATIONS[rng.integers(len(ORIENTATIONS))]
    axis = int(rng.integers(3))
    points, pixel = _points(atlas, rng, options, codes, axis, count)
    body = Body.draw(atlas, rng) if rng.random() < options.neck else None
    labels = _look_up(atlas, points, body)
    means, deviations = draw_contrast(atlas, rng, options, prior, groups)
    organ = lookup(atlas.classes > 0, labels).reshape(count, SIDE, POINTS, SIDE, POINTS)
    organ = organ.mean((2, 4), dtype=np.float32) > 0.5
    shape = labels.shape
    if rng.random() < options.strip:
        labels[lookup(atlas.outside, labels)] = 0
    image = rng.standard_normal(shape, np.float32)
    image *= lookup(deviations, labels)
    image += lookup(means, labels)
    image = image.reshape(count, SIDE, POINTS, SIDE, POINTS).mean((2, 4))
    image = _acquired(image, rng, options, pixel)
    classes = np.zeros(image.shape, np.uint8)
    for number in range(count):
        turned = _turned(VIEWS[view_of(codes, axis)], image[number], organ[number], rng)
        image[number], classes[number] = turned
    return image, classes


def _turned(
    view: tuple[str, str], image: np.ndarray, organ: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip and transpose a frame at random; return it with the class of its view."""
    rows, columns = view
    flips = rng.integers(2, size=3).astype(bool)
    if flips[0]:
        image, organ, rows = image[::-1], organ[::-1], _OPPOSITE[rows]
    if flips[1]:
        image, organ, columns = image[:, ::-1], organ[:, ::-1], _OPPOSITE[columns]
    if flips[2]:
        image, organ, rows, columns = image.T, organ.T, columns, rows
    return image.copy(), np.where(organ, np.uint8(1 + VIEWS.index((rows, columns))), np.uint8(0))


def _points(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    codes: tuple[str, str, str],
    axis: int,
    count: int,
) -> tuple[np.ndarray, float]:
    """Draw coordinates in the map, (3, count, 128, 128), and the size of a pixel, mm."""
    low, high = np.log((_FIELD, max(_FIELD, options.field)))
    extent = np.exp(rng.uniform(low, high, 3))
    if rng.random() < 0.5:
        # Most scans have fields of view just around the head.
        extent = np.minimum(extent, rng.uniform(180, 280, 3))
    others = [n for n in range(3) if n != axis]
    pixel = float(extent[others].max() / SIDE)
    room = np.maximum(extent / 2 - 70, 0) + _BEYOND
    offset = rng.uniform(-1, 1, 3) * room
    steps = [np.empty(0)] * 3
    # Frames everywhere, more of them where the brain begins and ends.
    places = rng.uniform(-0.5, 0.5, count) * extent[axis]
    near = rng.random(count) < 0.3
    places[near] = rng.choice((-75, 75), near.sum()) + rng.normal(0, 15, near.sum()) - offset[axis]
    limit = extent[axis] / 2
    steps[axis] = np.clip(places, -limit, limit)
    for n in others:
        steps[n] = (np.arange(SIDE * POINTS) + 0.5) / POINTS * pixel - pixel * SIDE / 2
    # From axes of the volume to axes of the map.
    turn = np.zeros((3, 3))
    for n, code in enumerate(codes):
        to, sign = _AXES[code]
        # Left and right look alike.
        turn[to, n] = sign if to else rng.choice((-1, 1))
    angles = np.deg2rad(rng.uniform(-1, 1, 3) * options.rotation)
    scale = np.diag(1 + rng.uniform(-1, 1, 3) * options.scaling)
    matrix = (rotate(scale, angles) @ turn).astype(np.float32)
    middle = atlas.inside.mean(0) if len(atlas.inside) else np.full(3, atlas.side / 2)
    if rng.random() < _WITHOUT:
        middle[1] += rng.uniform(180, 400)
    grids: list[np.ndarray] = []
    for n in range(3):
        shape = [1, 1, 1]
        # The axis across the frames comes first.
        shape[0 if n == axis else 1 + others.index(n)] = -1
        inside = np.where(np.abs(steps[n]) > extent[n] / 2, np.nan, steps[n] + offset[n])
        grids.append(inside.astype(np.float32).reshape(shape))
    points = np.stack([sum(matrix[to, n] * grids[n] for n in range(3)) for to in range(3)])
    points += middle.astype(np.float32)[:, None, None, None]
    _bend(points, rng, options.elastic)
    return points, pixel


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


def _look_up(atlas: Atlas, points: np.ndarray, body: Body | None) -> np.ndarray:
    """Return the labels at points, (count, 128, 128) uint8; coordinates are overwritten."""
    shape = points.shape[1:]
    points = points.reshape(3, -1)
    known = ~np.isnan(points[0])
    np.nan_to_num(points, copy=False, nan=-1e4)
    depth = points[1] - np.float32(atlas.end)
    below = depth > 0
    tissue = None
    if body is not None:
        tissue = body.tissue(points[:, below])
        part = points[:, below]
        body.narrow(part, depth[below], atlas.inside.mean(0))
        part[1] = atlas.end
        points[:, below] = part
    index = np.zeros(points.shape[1], np.intp)
    for axis, (length, corner) in enumerate(zip(atlas.dense.shape, atlas.corner, strict=True)):
        # Outside the box of the head the border of zeros is repeated.
        place = np.rint(points[axis] - np.float32(corner))
        index *= length
        index += np.clip(place, 0, length - 1).astype(np.intp)
    labels = atlas.dense.reshape(-1)[index]
    if tissue is not None:
        tissue[labels[below] == 0] = 0
        labels[below] = tissue
    labels[~known] = 0
    return labels.reshape(shape)


def _acquired(
    image: np.ndarray, rng: np.random.Generator, options: SynthesisOptions, pixel: float
) -> np.ndarray:
    """Return frames after bias field, blur, noise and contrast curve."""
    image = np.clip(image, 0, None)
    if options.bias > 0:
        spacing = max(2.0, rng.uniform(60, 250) / pixel)
        field = smooth_field((1, SIDE, SIDE), spacing, rng)
        image *= np.exp(field * np.float32(rng.uniform(0, options.bias)))
    blur = rng.uniform(0, 3.0) / pixel
    if blur > 0.2:
        image = ndimage.gaussian_filter(image, (0, blur, blur), truncate=2.5)
    top = max(float(np.quantile(image, 0.999)), 1e-6)
    image = np.clip(image / top, 0, None) ** np.float32(np.exp(rng.normal(0, options.gamma)))
    if rng.random() < options.air_noise:
        # As strong as the tissue itself.
        air = rng.random(image.shape, np.float32) * np.float32(rng.uniform(0.1, 1))
        image = np.maximum(image, air)
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(rng.uniform(0, options.noise))
    return np.abs(image + noise)
