"""A synthetic image, of which any cube can be computed without the rest.

Properties of the whole volume (its range of intensities, the face, the ends of the head) are taken
from an overview of every fourth voxel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...image.lookup import lookup
from ...image.normalise import Normalization, normaliser
from ...image.window import window
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
# Least share of the intensity range that a bright outlier leaves to all other voxels.
_LEAST_RANGE = 0.35


@dataclass(frozen=True, eq=False)
class Scene:
    """Random parameters of a synthetic image.

    Parameters
    ----------
    pose : Pose
        Spatial transform.
    overview : (C, C, C) uint8
        Labels of every fourth voxel, as indices of codes.
    means, deviations : (K,) float32
        Intensities of each code.
    shading : Shading
        Bias field.
    scanner : Scanner
        Sampling and contrast curve.
    removal : Removal, optional
        Voxels that are removed.
    extras : frozenset of str
        Some of ``'lesions'``, ``'vessels'`` and ``'air'``.
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
        """Draw a scene; parameters are those of `draw_patch`."""
        pose = Pose.draw(atlas, rng, options)
        overview = pose.overview(rng)
        chances = {
            'lesions': options.lesions,
            'vessels': options.contrast_agent,
            'air': options.air_noise,
        }
        extras = frozenset(name for name, chance in chances.items() if rng.random() < chance)
        means, deviations = draw_contrast(atlas, rng, options, prior, groups, extras)
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

    def intensity_scale(self, rng: np.random.Generator) -> 'IntensityScale':
        """Simulate the overview, and return the intensity scale of the whole volume."""
        down, up = self.scanner.averaging()
        # Blur and interpolation reduce differences between neighbouring voxels.
        low = self._paint(self.overview, rng, down * up)
        every = slice(None, None, STEP)
        low *= self.shading.part((every, every, every))
        low += rng.standard_normal(low.shape, np.float32) * np.float32(self.scanner.noise * up)
        np.clip(low, 0, None, out=low)
        if 'air' in self.extras:
            air = self.overview == 0
            low[air] = rng.random(int(air.sum()), np.float32)
        top = float(np.quantile(low, 0.999))
        whole = self.scanner.develop(low, top)
        if self.removal is not None:
            whole[self.removal.of_overview(self.overview)] = 0
        return IntensityScale(top, *window(whole), whole, self.removal is not None)

    def cube(
        self, start: Start, side: int, scale: 'IntensityScale', rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute a cube of the image.

        Parameters
        ----------
        start : tuple of 3 int
            First voxel.
        side : int
            Side, voxels.
        scale : IntensityScale
            From `intensity_scale`.
        rng : numpy.random.Generator
            Random generator, for voxelwise differences.

        Returns
        -------
        image : (side, side, side) uint8
            As after conforming.
        labels : (side, side, side) uint8
            Indices of codes; 0 where the image was removed.
        """
        atlas, removal = self.pose.atlas, self.removal
        labels = self.pose.labels(start, side, rng)
        image = self._paint(labels, rng)
        if 'lesions' in self.extras:
            add_lesions(image, lookup(atlas.matches(WHITE), labels), rng)
        if 'vessels' in self.extras:
            add_vessels(image, labels > 0, lookup(atlas.outside, labels), rng)
        x, y, z = (slice(low, low + side) for low in start)
        image *= self.shading.part((x, y, z))
        air = (labels == 0).astype(np.float32) if 'air' in self.extras else None
        removed = removal.of_cube(self.pose, labels, start) if removal is not None else None
        if removal is not None and removal.early:
            image[removed] = 0
        low = self.scanner.sample(image, rng, air)
        image = self.scanner.restore(self.scanner.develop(low, scale.top), labels.shape)
        if removed is not None:
            image[removed], labels[removed] = 0, 0
        return scale.apply(image), labels

    def _paint(
        self, labels: np.ndarray, rng: np.random.Generator, noise_factor: float = 1.0
    ) -> np.ndarray:
        image: np.ndarray = rng.standard_normal(labels.shape, np.float32)
        image *= lookup(self.deviations * np.float32(noise_factor), labels)
        image += lookup(self.means, labels)
        return np.clip(image, 0, None, out=image)


@dataclass(frozen=True, eq=False)
class IntensityScale:
    """Intensity scale of a whole volume.

    Parameters
    ----------
    top : float
        Intensity that becomes 1 in the contrast curve.
    least, factor : float32
        Offset and factor of conforming.
    whole : (C, C, C) float32
        Every fourth voxel, before conforming.
    cut : bool
        Whether voxels were removed from the image.
    """

    top: float
    least: np.float32
    factor: np.float32
    whole: np.ndarray
    cut: bool

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return intensities as after conforming, uint8; ``image`` is overwritten."""
        image -= self.least
        image *= self.factor
        np.rint(image, out=image)
        return np.clip(image, 0, 255, out=image).astype(np.uint8)

    def table(
        self, rule: Normalization, rng: np.random.Generator, options: SynthesisOptions
    ) -> np.ndarray:
        """Return the normalised value of each intensity, with random errors, (256,) float32."""
        seen = self.apply(self.whole.copy()).astype(np.float32)
        values = np.arange(256, dtype=np.float32)
        if rng.random() < options.outlier / 2:
            # A single bright spot takes the upper part of the range.
            share = np.float32(rng.uniform(_LEAST_RANGE, 1))
            seen *= share
            values *= share
            seen.flat[0] = 255
        shift, change = rng.uniform(-1, 1, 2) * options.intensity_jitter
        if self.cut:
            # Removed voxels stay at the lowest intensity.
            shift = 0.0
        values = values * np.float32(1 + change) + np.float32(255 * shift)
        return normaliser(seen, rule)(values)


def draw_contrast(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    prior: Prior | None,
    groups: Mapping[int, int] | None,
    extras: frozenset[str] = frozenset(),
) -> tuple[np.ndarray, np.ndarray]:
    """Draw mean and standard deviation of the intensities of each code of an atlas."""
    t1_like = rng.random() < options.t1
    groups = dict(RIGHT_AS_LEFT if groups is None else groups)
    if options.neck > 0 and rng.random() < 0.5:
        groups.update(neck_like_brain(rng))
    if 'lesions' not in extras:
        groups.update({25: 2, 57: 2})
    tissues = prior_without_outside(prior, rng) if prior and t1_like else None
    means, deviations = draw_tissues(atlas.codes, rng, groups, tissues, options.t1_spread)
    if t1_like and rng.random() < options.low_contrast:
        _scale_contrast(atlas, means, rng.uniform(-0.3, 0.8))
    if rng.random() < options.outlier:
        bright = rng.permutation(np.flatnonzero(atlas.codes >= FIRST_OUTSIDE))[:3]
        means[bright] = rng.uniform(0.8, 3.0)
    if 'vessels' in extras and rng.random() < 0.5:
        means[atlas.matches(WHITE)] = means.max() * rng.uniform(0.9, 1.2)
    return means, deviations


def _scale_contrast(atlas: Atlas, means: np.ndarray, factor: float) -> None:
    """Scale the contrast of solid brain tissue in place; a negative factor inverts it."""
    brain = (atlas.codes > 0) & (atlas.codes < FIRST_OUTSIDE)
    solid = brain & (means > means[atlas.matches((AROUND_BRAIN, 4))].max(initial=0))
    if solid.any():
        middle = np.median(means[solid])
        means[solid] = middle + (means[solid] - middle) * factor
