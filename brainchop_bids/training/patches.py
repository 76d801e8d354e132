"""Training cubes made one by one: each an image of its own, of the part that is trained on only.

After Billot et al. (2023), SynthSeg, doi:10.1016/j.media.2023.102789, as
`brainchop_bids.training.synthesis`; what a whole volume would decide (its range of intensities,
where the face is, where the head ends) is taken from a coarse overview of the same image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import SettingsError
from ..image.conform import window
from ..image.lookup import lookup
from ..image.normalise import Normalization, normaliser
from .atlas import STEP, WHITE, Atlas, prepare
from .fields import Scanner, along_axes, control_points
from .pose import Pose, Start, lengthen_neck
from .synthesis import (
    AROUND_BRAIN,
    FIRST_OUTSIDE,
    RIGHT_AS_LEFT,
    Gaussian,
    SynthesisOptions,
    draw_tissues,
    neck_like_brain,
    prior_without_outside,
)
from .vessels import add_lesions, add_vessels

__all__ = ['Atlas', 'draw_patch', 'prepare']

# Boxes drawn at most where the ones before hold too few labelled voxels.
_TRIES = 20
Prior = Mapping[int, Gaussian]


def draw_patch(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    side: int,
    *,
    centred: float,
    rule: Normalization,
    prior: Prior | None = None,
    groups: Mapping[int, int] | None = None,
    labelled: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Make a cube of an image and its labels.

    Parameters
    ----------
    atlas : Atlas
        The head, as `prepare` gives it.
    rng : numpy.random.Generator
        Decides everything.
    options : SynthesisOptions
        How far the image may stray.
    side : int
        Side of the cube, voxels of 1 mm.
    centred : float
        Probability of a cube around a voxel of the brain proper, which then lies within a
        quarter side of its middle wherever the field of view does not end.
    rule : Normalization
        How the whole volume would be scaled.
    prior : mapping of int to tuple, optional
        What `brainchop_bids.training.synthesis.t1_prior` returns; without it no contrast is
        T1-like.
    groups : mapping of int to int, optional
        Codes that share their intensity with another; by default right with left.
    labelled : float
        Least share of labelled voxels in the cube; others are drawn again, 20 times at most.

    Returns
    -------
    image : (side, side, side) float32
        Normalised.
    labels : (side, side, side) uint8
        Classes; 0 where nothing is left of the image.

    Raises
    ------
    SettingsError
        Where the map is smaller than the cube.
    """
    if atlas.side < side:
        raise SettingsError(f'cubes of {side} voxels do not fit a volume of {(atlas.side,) * 3}')
    pose = Pose.draw(atlas, rng, options)
    coarse, below = pose.overview()
    start = _start(pose, coarse, side, rng, centred, labelled)
    labels, under = pose.labels(start, side)
    if below is not None and under is not None:
        # Mostly fine ones: layers of muscle and fat are as thin as gyri.
        sizes = np.exp(rng.uniform(*np.log((2.5, 20)))), rng.uniform(12, 40)
        share = rng.uniform(-0.5, 1)
        lengthen_neck(coarse, below, atlas, rng, (sizes[0] / STEP, sizes[1] / STEP), share)
        lengthen_neck(labels, under, atlas, rng, sizes, share)
    means, deviations = _tissues(atlas, rng, options, prior, groups)
    shading = _Shading.draw(atlas.side, rng, options)
    scanner = Scanner.draw(
        rng,
        low_resolution=options.low_resolution,
        thickness=options.thickness,
        noise=options.noise,
        gamma=options.gamma,
    )
    gone, coarse_gone = _removed(pose, coarse, labels, start, rng, options)
    top, scale = _overview(
        coarse, coarse_gone, (means, deviations), shading, scanner, rng, options, rule
    )

    image = _painted(labels, means, deviations, rng)
    if rng.random() < options.lesions:
        add_lesions(image, atlas.among(WHITE)[labels], rng)
    if rng.random() < options.contrast_agent:
        add_vessels(image, labels > 0, atlas.outside[labels], rng)
    image *= shading.cube(start, side)
    air = (labels == 0).astype(np.float32) if rng.random() < options.air_noise else None
    low = scanner.develop(scanner.sample(image, rng, air), top)
    image = scale(scanner.restore(low, labels.shape), gone)
    classes = lookup(atlas.classes, labels)
    if gone is not None:
        classes[gone] = 0
    return image, classes


def _start(
    pose: Pose,
    coarse: np.ndarray,
    side: int,
    rng: np.random.Generator,
    centred: float,
    labelled: float,
) -> Start:
    """Draw where the cube begins."""
    seen = lookup(pose.atlas.classes, coarse) > 0
    best, most = None, -1.0
    for _ in range(_TRIES if labelled > 0 else 1):
        start = _draw_start(pose, coarse, side, rng, centred)
        box = tuple(slice(-(-low // STEP), -(-(low + side) // STEP)) for low in start)
        share = float(seen[box].mean()) if labelled > 0 else 1.0
        if share > most or best is None:
            best, most = start, share
        if share >= labelled:
            break
    assert best is not None
    return best


def _draw_start(
    pose: Pose, coarse: np.ndarray, side: int, rng: np.random.Generator, centred: float
) -> Start:
    atlas = pose.atlas
    if len(atlas.inside) and rng.random() < centred:
        chosen = atlas.inside[rng.integers(len(atlas.inside))]
        # The point of the image that is nearest; the jitter does the rest.
        distance = sum((pose.points[axis] - chosen[axis]) ** 2 for axis in range(3))
        middle = np.array(np.unravel_index(int(np.argmin(distance)), distance.shape)) * STEP
        middle += rng.integers(-(side // 4), side // 4 + 1, 3)
    else:
        middle = rng.integers(0, atlas.side, 3)
    x, y, z = np.clip(middle - side // 2, 0, atlas.side - side).tolist()
    return x, y, z


def _tissues(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    prior: Prior | None,
    groups: Mapping[int, int] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw how bright each place of the atlas' table is, and how much its voxels differ."""
    t1_like = rng.random() < options.t1
    groups = dict(RIGHT_AS_LEFT if groups is None else groups)
    if options.neck > 0 and rng.random() < 0.5:
        groups.update(neck_like_brain(rng))
    if rng.random() >= options.lesions:
        groups.update({25: 2, 57: 2})
    tissues = prior_without_outside(prior, rng) if prior and t1_like else None
    means, deviations = draw_tissues(atlas.codes, rng, groups, tissues, options.t1_spread)
    if t1_like and rng.random() < options.low_contrast:
        brain = (atlas.codes > 0) & (atlas.codes < FIRST_OUTSIDE)
        solid = brain & (means > means[atlas.among((AROUND_BRAIN, 4))].max(initial=0))
        kept = rng.uniform(-0.3, 0.8)
        middle = np.median(means[solid]) if solid.any() else 0
        means[solid] = middle + (means[solid] - middle) * kept
    if rng.random() < options.outlier:
        bright = rng.permutation(np.flatnonzero(atlas.codes >= FIRST_OUTSIDE))[:3]
        means[bright] = rng.uniform(0.8, 3.0)
    return np.abs(means), deviations


def _painted(
    labels: np.ndarray, means: np.ndarray, deviations: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    image: np.ndarray = rng.standard_normal(labels.shape, dtype=np.float32)
    image *= lookup(deviations.astype(np.float32), labels)
    image += lookup(means, labels)
    return np.clip(image, 0, None, out=image)


@dataclass(frozen=True, eq=False)
class _Shading:
    """A coil's shading of the whole field of view; any part of it can be had alone."""

    points: np.ndarray
    bases: list[np.ndarray]
    mean: np.float32

    @classmethod
    def draw(cls, side: int, rng: np.random.Generator, options: SynthesisOptions) -> '_Shading':
        strength = rng.uniform(0, options.bias)
        points, bases = control_points((side,) * 3, side / rng.uniform(2, 5), rng)
        whole = along_axes(points, [basis[::STEP] for basis in bases])
        points *= np.float32(strength / (whole.std() + 1e-9))
        return cls(points, bases, np.float32(0))

    def overview(self) -> np.ndarray:
        return np.exp(along_axes(self.points, [basis[::STEP] for basis in self.bases]))

    def cube(self, start: Start, side: int) -> np.ndarray:
        parts = [basis[low : low + side] for basis, low in zip(self.bases, start, strict=True)]
        field = along_axes(self.points, parts)
        return np.exp(field, out=field)


def _removed(
    pose: Pose,
    coarse: np.ndarray,
    labels: np.ndarray,
    start: Start,
    rng: np.random.Generator,
    options: SynthesisOptions,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Draw what is removed from the image: return where in the cube and in the overview."""
    atlas, side = pose.atlas, len(labels)
    steps = np.arange(coarse.shape[0]) * STEP
    views = [
        (labels, [low + np.arange(side) for low in start]),
        (coarse, [steps] * 3),
    ]
    tests: list[Callable[[int], np.ndarray]] = []
    if rng.random() < options.strip:
        fluid = rng.random() < 0.5
        lost = atlas.outside | (atlas.codes == AROUND_BRAIN) if fluid else atlas.outside
        if rng.random() < options.loose:
            points = pose.at_points(atlas.distance)
            from .fields import smooth_field

            rough = smooth_field(points.shape, rng.uniform(8, 30) / STEP, rng)
            points += rough * np.float32(rng.uniform(0, 4)) - np.float32(rng.uniform(0, 12))
            n = len(coarse)
            beyond = [pose.spread(points, start, side) > 0, points[:n, :n, :n] > 0]
            tests.append(lambda view: beyond[view] & lost[views[view][0]])
        else:
            tests.append(lambda view: lost[views[view][0]])
    elif rng.random() < options.deface:
        plane = _face(atlas, coarse, rng)
        if plane is not None:
            tests.append(
                lambda view: (
                    atlas.outside[views[view][0]]
                    & (
                        views[view][1][1][:, None] * plane[0] + views[view][1][2] * plane[1]
                        > plane[2]
                    )
                )
            )
    if rng.random() < options.crop:
        for axis, low, high in _ends(coarse, rng):
            shape = [1, 1, 1]
            shape[axis] = -1
            tests.append(
                lambda view, axis=axis, low=low, high=high, shape=shape: np.reshape(
                    (views[view][1][axis] < low) | (views[view][1][axis] > high), shape
                )
            )
    if not tests:
        return None, None
    masks = []
    for view in range(2):
        mask = np.zeros(views[view][0].shape, bool)
        for test in tests:
            mask |= test(view)
        masks.append(mask)
    return masks[0], masks[1]


def _face(
    atlas: Atlas, coarse: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """Return a slanted plane: what lies before and below it is face, if it is not brain."""
    brain = np.argwhere(~atlas.outside[coarse]) * STEP
    if not len(brain):
        return None
    # In LIA the second axis runs down, the third forward.
    low, front = np.quantile(brain[:, 1], 0.8), np.quantile(brain[:, 2], 0.75)
    slope = rng.uniform(0.6, 1.8)
    return 1.0, slope, low + slope * front + rng.uniform(-5, 25)


def _ends(coarse: np.ndarray, rng: np.random.Generator) -> list[tuple[int, float, float]]:
    """Return where a field of view ends along some axes, up to 15 mm inside the head."""
    found = []
    for axis in range(3):
        there = np.flatnonzero((coarse > 0).any(axis=tuple(k for k in range(3) if k != axis)))
        if not len(there) or rng.random() < 0.5:
            continue
        depth = float(rng.uniform(0, 16))
        low, high = there[0] * STEP + depth, there[-1] * STEP - depth
        found.append((axis, low, np.inf) if rng.random() < 0.5 else (axis, -np.inf, high))
    return found


Scale = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def _overview(
    coarse: np.ndarray,
    gone: np.ndarray | None,
    tissues: tuple[np.ndarray, np.ndarray],
    shading: _Shading,
    scanner: Scanner,
    rng: np.random.Generator,
    options: SynthesisOptions,
    rule: Normalization,
) -> tuple[float, Scale]:
    """Return what the whole volume decides: its brightest, and how it is normalised."""
    # Blur and interpolation average noise; whole matrices are cheap enough to ask.
    matrices = scanner.matrices((64, 64, 64))
    down = float(np.prod([np.sqrt((m**2).sum(1).mean()) for m, _ in matrices]))
    up = float(np.prod([np.sqrt((m**2).sum(1).mean()) for _, m in matrices]))
    means, deviations = tissues
    low = _painted(coarse, means, deviations * (down * up), rng)
    low *= shading.overview()
    low += rng.standard_normal(low.shape, dtype=np.float32) * np.float32(scanner.noise * up)
    np.clip(low, 0, None, out=low)
    top = float(np.quantile(low, 0.999))
    whole = np.clip(scanner.develop(low, top), 0, 1.2)
    if gone is not None:
        whole[gone] = 0
    least, factor = window(whole)
    if rng.random() < options.outlier / 2:
        factor *= np.float32(rng.uniform(0.35, 1))
    shift, change = rng.uniform(-1, 1, 2) * options.intensity_jitter

    def to_grey(values: np.ndarray) -> np.ndarray:
        return np.clip(np.rint((values - least) * factor), 0, 255)

    grey = np.arange(256, dtype=np.float32) * np.float32(1 + change) + np.float32(255 * shift)
    table = normaliser(to_grey(whole), rule)(grey)

    def scale(image: np.ndarray, removed: np.ndarray | None) -> np.ndarray:
        if removed is not None:
            image[removed] = 0
        return lookup(table, to_grey(image).astype(np.uint8))

    return top, scale
