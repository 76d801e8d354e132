"""One image that never was, of which any cube can be made without the rest.

What a whole volume decides (its range of intensities, where the face is, where the head ends) is
taken from an overview of every fourth voxel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...image.conform import window
from ...image.lookup import lookup
from ...image.normalise import Normalization, normaliser
from ..data.label_maps import STEP, Atlas
from ..options import SynthesisOptions
from .fields import Scanner, Shading
from .pose import Pose, Start
from .removal import Removal
from .tissues import (
    AROUND_BRAIN,
    FIRST_OUTSIDE,
    RIGHT_AS_LEFT,
    WHITE,
    Gaussian,
    draw_tissues,
    neck_like_brain,
    prior_without_outside,
)
from .vessels import add_lesions, add_vessels

Prior = Mapping[int, Gaussian]
# Bright spots of an outlier leave at least this share of the range to all else.
_LEFT = 0.35


@dataclass(frozen=True, eq=False)
class Scene:
    """What has been drawn of an image.

    Parameters
    ----------
    pose : Pose
        Where the head is.
    overview : (C, C, C) uint8
        Every fourth voxel of the labels, places of codes.
    means, deviations : (K,) float32
        Of each place.
    shading : Shading
        Of the field of view.
    scanner : Scanner
        What samples it.
    removal : Removal, optional
        What is missing.
    extras : frozenset of str
        ``'lesions'``, ``'vessels'`` and ``'air'``: which the image has.
    """

    pose: Pose
    overview: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    shading: Shading
    scanner: Scanner
    removal: Removal | None
    extras: frozenset[str]

    @classmethod
    def draw(
        cls,
        atlas: Atlas,
        rng: np.random.Generator,
        options: SynthesisOptions,
        prior: Prior | None = None,
        groups: Mapping[int, int] | None = None,
    ) -> 'Scene':
        """Draw a scene; its parameters are those of `draw_patch`."""
        pose = Pose.draw(atlas, rng, options)
        overview = pose.overview(rng)
        chances = {
            'lesions': options.lesions,
            'vessels': options.contrast_agent,
            'air': options.air_noise,
        }
        extras = frozenset(name for name, chance in chances.items() if rng.random() < chance)
        means, deviations = _tissues(atlas, rng, options, prior, groups, extras)
        strength, spacing = rng.uniform(0, options.bias), atlas.side / rng.uniform(2, 5)
        shading = Shading.draw(atlas.side, spacing, strength, rng)
        scanner = Scanner.draw(
            rng,
            low_resolution=options.low_resolution,
            thickness=options.thickness,
            noise=options.noise,
            gamma=options.gamma,
        )
        removal = Removal.draw(pose, overview, rng, options)
        return cls(pose, overview, means, deviations, shading, scanner, removal, extras)

    def look(self, rng: np.random.Generator) -> 'Look':
        """Return the overview as the scanner gives it."""
        down, up = self.scanner.averaging()
        # Blur and interpolation average what differs from voxel to voxel.
        low = self._painted(self.overview, rng, down * up)
        every = slice(None, None, STEP)
        low *= self.shading.part((every, every, every))
        low += rng.standard_normal(low.shape, np.float32) * np.float32(self.scanner.noise * up)
        np.clip(low, 0, None, out=low)
        if 'air' in self.extras:
            where = self.overview == 0
            low[where] = rng.random(int(where.sum()), np.float32)
        top = float(np.quantile(low, 0.999))
        whole = self.scanner.develop(low, top)
        if self.removal is not None:
            whole[self.removal.of_overview(self.overview)] = 0
        return Look(top, *window(whole), whole, self.removal is not None)

    def cube(
        self, start: Start, side: int, look: 'Look', rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make a cube.

        Parameters
        ----------
        start : tuple of 3 int
            Its first voxel.
        side : int
            Its side, voxels.
        look : Look
            What `look` returned.
        rng : numpy.random.Generator
            Decides what differs from voxel to voxel.

        Returns
        -------
        image : (side, side, side) uint8
            As the conform step would give it.
        labels : (side, side, side) uint8
            Places of codes; 0 where something has been removed.
        """
        atlas, removal = self.pose.atlas, self.removal
        labels = self.pose.labels(start, side, rng)
        image = self._painted(labels, rng)
        if 'lesions' in self.extras:
            add_lesions(image, lookup(atlas.among(WHITE), labels), rng)
        if 'vessels' in self.extras:
            add_vessels(image, labels > 0, lookup(atlas.outside, labels), rng)
        x, y, z = (slice(low, low + side) for low in start)
        image *= self.shading.part((x, y, z))
        air = (labels == 0).astype(np.float32) if 'air' in self.extras else None
        gone = removal.of_cube(self.pose, labels, start) if removal is not None else None
        if removal is not None and removal.early:
            image[gone] = 0
        low = self.scanner.sample(image, rng, air)
        image = self.scanner.restore(self.scanner.develop(low, look.top), labels.shape)
        if gone is not None:
            image[gone], labels[gone] = 0, 0
        return look.grey(image), labels

    def _painted(
        self, labels: np.ndarray, rng: np.random.Generator, averaged: float = 1.0
    ) -> np.ndarray:
        image: np.ndarray = rng.standard_normal(labels.shape, np.float32)
        image *= lookup(self.deviations * np.float32(averaged), labels)
        image += lookup(self.means, labels)
        return np.clip(image, 0, None, out=image)


@dataclass(frozen=True, eq=False)
class Look:
    """What a whole volume decides.

    Parameters
    ----------
    top : float
        The intensity that becomes 1 in the scanner.
    least, factor : float32
        How the conform step stretches the image.
    whole : (C, C, C) float32
        Every fourth voxel, before that.
    cut : bool
        Something has been removed from the image.
    """

    top: float
    least: np.float32
    factor: np.float32
    whole: np.ndarray
    cut: bool

    def grey(self, image: np.ndarray) -> np.ndarray:
        """Return intensities as the conform step would, uint8; ``image`` is spoilt."""
        image -= self.least
        image *= self.factor
        np.rint(image, out=image)
        return np.clip(image, 0, 255, out=image).astype(np.uint8)

    def table(
        self, rule: Normalization, rng: np.random.Generator, options: SynthesisOptions
    ) -> np.ndarray:
        """Return what each grey is normalised to, (256,) float32, more or less exactly."""
        seen = self.grey(self.whole.copy()).astype(np.float32)
        greys = np.arange(256, dtype=np.float32)
        if rng.random() < options.outlier / 2:
            # One spot takes the upper part of the range.
            left = np.float32(rng.uniform(_LEFT, 1))
            seen *= left
            greys *= left
            seen.flat[0] = 255
        shift, change = rng.uniform(-1, 1, 2) * options.intensity_jitter
        if self.cut:
            # What has been removed is as dark as anything can be.
            shift = 0.0
        greys = greys * np.float32(1 + change) + np.float32(255 * shift)
        return normaliser(seen, rule)(greys)


def _tissues(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    prior: Prior | None,
    groups: Mapping[int, int] | None,
    extras: frozenset[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw how bright each place of the atlas' table is, and how much its voxels differ."""
    t1_like = rng.random() < options.t1
    groups = dict(RIGHT_AS_LEFT if groups is None else groups)
    if options.neck > 0 and rng.random() < 0.5:
        groups.update(neck_like_brain(rng))
    if 'lesions' not in extras:
        groups.update({25: 2, 57: 2})
    tissues = prior_without_outside(prior, rng) if prior and t1_like else None
    means, deviations = draw_tissues(atlas.codes, rng, groups, tissues, options.t1_spread)
    if t1_like and rng.random() < options.low_contrast:
        _flatten(atlas, means, rng.uniform(-0.3, 0.8))
    if rng.random() < options.outlier:
        bright = rng.permutation(np.flatnonzero(atlas.codes >= FIRST_OUTSIDE))[:3]
        means[bright] = rng.uniform(0.8, 3.0)
    if 'vessels' in extras and rng.random() < 0.5:
        means[atlas.among(WHITE)] = means.max() * rng.uniform(0.9, 1.2)
    return means, deviations


def _flatten(atlas: Atlas, means: np.ndarray, kept: float) -> None:
    """Keep a share of the contrast of what is solid in the brain, in place; below 0 inverts it."""
    brain = (atlas.codes > 0) & (atlas.codes < FIRST_OUTSIDE)
    solid = brain & (means > means[atlas.among((AROUND_BRAIN, 4))].max(initial=0))
    if solid.any():
        middle = np.median(means[solid])
        means[solid] = middle + (means[solid] - middle) * kept
