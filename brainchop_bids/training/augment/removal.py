"""Removal of skull or face, and fields of view that end within the head."""

from dataclasses import dataclass

import numpy as np

from ...image.lookup import lookup
from ..data.label_maps import STEP, Atlas
from ..options import SynthesisOptions
from .fields import smooth_field
from .pose import Pose, Start
from .tissues import AROUND_BRAIN

# Largest mean width of the shell around a loosely stripped brain, and of its variation, mm.
_SHELL, _ROUGH = 12.0, 4.0


@dataclass(frozen=True, eq=False)
class Removal:
    """Voxels that are removed from an image.

    Parameters
    ----------
    lost : (K,) bool
        Entries of the atlas' table that are removed, as far as the following conditions hold.
    beyond : (P, P, P) float32, optional
        At the points of a pose; voxels are removed where it is above 0.
    face : tuple of 2 float, optional
        Slope and intercept, on the second axis, of the plane below which voxels are removed.
    ends : tuple of 3 (float, float)
        First and last voxel of the field of view along each axis.
    early : bool
        Whether voxels are removed before the image is sampled, too, so that the border is
        blurred.
    """

    lost: np.ndarray
    beyond: np.ndarray | None
    face: tuple[float, float] | None
    ends: tuple[tuple[float, float], ...]
    early: bool

    @classmethod
    def draw(
        cls, pose: Pose, overview: np.ndarray, rng: np.random.Generator, options: SynthesisOptions
    ) -> 'Removal | None':
        """Draw what is removed from an image with this overview; None for nothing."""
        atlas = pose.atlas
        lost = np.zeros(len(atlas.codes), bool)
        beyond = face = None
        if rng.random() < options.strip:
            lost = atlas.outside
            # Some tools keep the fluid around the brain, others remove it with the skull.
            if rng.random() < 0.5:
                lost = lost | (atlas.codes == AROUND_BRAIN)
            if rng.random() < options.loose:
                beyond = _shell(pose, rng)
        elif rng.random() < options.deface:
            lost, face = atlas.outside, _face(atlas, overview, rng)
        cut = rng.random() < options.crop
        ends = _ends(overview, rng) if cut else ((-np.inf, np.inf),) * 3
        if not (lost.any() or cut):
            return None
        return cls(lost, beyond, face, ends, rng.random() < 0.5)

    def of_cube(self, pose: Pose, labels: np.ndarray, start: Start) -> np.ndarray:
        """Return which voxels of a cube are removed, bool."""
        side = len(labels)
        beyond = None if self.beyond is None else pose.spread(self.beyond, start, side)
        return self._mask(labels, [low + np.arange(side) for low in start], beyond)

    def of_overview(self, labels: np.ndarray) -> np.ndarray:
        """Return which voxels of the overview are removed, bool."""
        count = len(labels)
        beyond = None if self.beyond is None else self.beyond[:count, :count, :count]
        return self._mask(labels, [np.arange(count) * STEP] * 3, beyond)

    def _mask(
        self, labels: np.ndarray, places: list[np.ndarray], beyond: np.ndarray | None
    ) -> np.ndarray:
        removed = lookup(self.lost, labels)
        if beyond is not None:
            removed &= beyond > 0
        if self.face is not None:
            slope, limit = self.face
            # In LIA the second axis runs down, the third forward.
            removed &= places[1][:, None] + slope * places[2] > limit
        for axis, (low, high) in enumerate(self.ends):
            out = (places[axis] < low) | (places[axis] > high)
            np.moveaxis(removed, axis, 0)[out] = True
        return removed


def _shell(pose: Pose, rng: np.random.Generator) -> np.ndarray:
    """Return the distance of each point beyond a shell around the brain, mm."""
    beyond = pose.at_points(pose.atlas.distance)
    rough = smooth_field(beyond.shape, rng.uniform(8, 30) / STEP, rng)
    beyond += rough * np.float32(rng.uniform(0, _ROUGH)) - np.float32(rng.uniform(0, _SHELL))
    return beyond


def _face(
    atlas: Atlas, overview: np.ndarray, rng: np.random.Generator
) -> tuple[float, float] | None:
    brain = np.argwhere(~atlas.outside[overview]) * STEP
    if not len(brain):
        return None
    low, front = np.quantile(brain[:, 1], 0.8), np.quantile(brain[:, 2], 0.75)
    slope = rng.uniform(0.6, 1.8)
    return slope, float(low + slope * front + rng.uniform(-5, 25))


def _ends(overview: np.ndarray, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Return the ends of a field of view, along some axes up to 16 mm inside the head."""
    limits = []
    for axis in range(3):
        ends = [-np.inf, np.inf]
        filled = np.flatnonzero((overview > 0).any(axis=tuple(k for k in range(3) if k != axis)))
        if len(filled) and rng.random() < 0.5:
            depth = rng.uniform(0, 16)
            if rng.random() < 0.5:
                ends[0] = filled[0] * STEP + depth
            else:
                ends[1] = filled[-1] * STEP - depth
        limits.append((float(ends[0]), float(ends[1])))
    return tuple(limits)
