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
from ...inference.localise.frames import SIDE
from ..data.label_maps import Atlas
from ..options import SynthesisOptions
from .fields import smooth_field
from .frame_pose import FramePose, mean_of_points
from .scene import Prior, draw_contrast
from .tissues import NECK_CODES

# Half of the length of a brain, mm.
_REACH = 72.0
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
    pose = FramePose.draw(rng, options, count, _REACH)
    middle = atlas.inside.mean(0) if len(atlas.inside) else np.full(3, atlas.side / 2)
    points = pose.points + middle.astype(np.float32)[:, None, None, None]
    body = Body.draw(atlas, rng) if rng.random() < options.neck else None
    labels = look_up(atlas, points, body)
    means, deviations = draw_contrast(atlas, rng, options, prior, groups)
    organ = mean_of_points(lookup(atlas.classes > 0, labels)) > 0.5
    if rng.random() < options.strip:
        labels[lookup(atlas.outside, labels)] = 0
    image = rng.standard_normal(labels.shape, np.float32)
    image *= lookup(deviations, labels)
    image += lookup(means, labels)
    image = np.clip(mean_of_points(image), 0, None)
    return finished(image, organ, pose, rng, options)


def finished(
    image: np.ndarray,
    organ: np.ndarray,
    pose: FramePose,
    rng: np.random.Generator,
    options: SynthesisOptions,
    top: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate the acquisition of frames, and turn each in its plane.

    Parameters
    ----------
    image : (count, 64, 64) float32
        Intensities.
    organ : (count, 64, 64) bool
        Whether each pixel is the organ.
    pose : FramePose
        Of these frames.
    rng : numpy.random.Generator
        Random generator.
    options : SynthesisOptions
        Ranges of all random changes.
    top : float
        Intensity that becomes 1 in the contrast curve; by default nearly the highest.

    Returns
    -------
    images : (count, 64, 64) float32
    labels : (count, 64, 64) uint8
        See `draw_frames`.
    """
    image = _acquired(image, rng, options, pose.pixel, top)
    labels = np.zeros(image.shape, np.uint8)
    for number in range(len(image)):
        image[number], labels[number] = pose.turned(image[number], organ[number], rng)
    return image, labels


def look_up(atlas: Atlas, points: np.ndarray, body: Body | None) -> np.ndarray:
    """Return the labels at points of a label map, with a body below it.

    Parameters
    ----------
    atlas : Atlas
        The label map.
    points : (3, ...) float32
        Voxels of the map, fractions too; NaN is nothing. Overwritten.
    body : Body, optional
        What is below the map.

    Returns
    -------
    (...) uint8
        Indices of codes.
    """
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
    image: np.ndarray,
    rng: np.random.Generator,
    options: SynthesisOptions,
    pixel: float,
    top: float,
) -> np.ndarray:
    """Return frames after bias field, blur, noise and contrast curve."""
    if options.bias > 0:
        spacing = max(2.0, rng.uniform(60, 250) / pixel)
        field = smooth_field((1, SIDE, SIDE), spacing, rng)
        image *= np.exp(field * np.float32(rng.uniform(0, options.bias)))
    blur = rng.uniform(0, 3.0) / pixel
    if blur > 0.2:
        image = ndimage.gaussian_filter(image, (0, blur, blur), truncate=2.5)
    top = top or max(float(np.quantile(image, 0.999)), 1e-6)
    image = np.clip(image / top, 0, None) ** np.float32(np.exp(rng.normal(0, options.gamma)))
    if rng.random() < options.air_noise:
        # As strong as the tissue itself.
        air = rng.random(image.shape, np.float32) * np.float32(rng.uniform(0.1, 1))
        image = np.maximum(image, air)
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(rng.uniform(0, options.noise))
    return np.abs(image + noise)
