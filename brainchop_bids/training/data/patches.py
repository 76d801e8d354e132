"""Synthetic training patches, of which each is part of an image of its own."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...image.lookup import lookup
from ...image.normalise import Normalization
from ...system.errors import SettingsError
from ..augment.pose import Start
from ..augment.scene import Prior, Scene
from ..options import SynthesisOptions
from .label_maps import STEP, Atlas

# Patches drawn at most if the earlier ones contain too few labelled voxels.
_TRIES = 20


def draw_patch(
    atlas: Atlas,
    rng: np.random.Generator,
    options: SynthesisOptions,
    sides: Sequence[int],
    *,
    centred: float,
    rule: Normalization,
    prior: Prior | None = None,
    groups: Mapping[int, int] | None = None,
    labelled: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a patch of a synthetic image and its labels.

    Parameters
    ----------
    atlas : Atlas
        Label map, from `build_atlas`.
    rng : numpy.random.Generator
        Random generator.
    options : SynthesisOptions
        Ranges of all random changes.
    sides : sequence of 3 int
        Shape of the patch, voxels of 1 mm. It is the middle of a cube of its longest side.
    centred : float
        Probability that the patch is centred on a brain voxel (not fluid around the brain),
        up to a quarter of its side and the end of the field of view.
    rule : Normalization
        Normalisation of the whole volume.
    prior : mapping of int to tuple, optional
        From `brainchop_bids.training.augment.tissues.t1_prior`; without it no contrast is
        T1-like.
    groups : mapping of int to int, optional
        Codes that have the intensity of another code; by default those of the right side.
    labelled : float
        Minimum share of labelled voxels. Up to 20 patches are drawn; if none has so many, the
        one with most is taken.

    Returns
    -------
    image : (X, Y, Z) float32
        Normalised.
    labels : (X, Y, Z) uint8
        Classes; 0 where the image was removed.

    Raises
    ------
    SettingsError
        If the map is smaller than the patch.
    """
    side = max(sides)
    if atlas.side < side:
        raise SettingsError(f'cubes of {side} voxels do not fit a volume of {(atlas.side,) * 3}')
    scene = Scene.draw(atlas, rng, options, prior, groups)
    start = draw_start(scene, side, rng, centred, labelled)
    scale = scene.intensity_scale(rng)
    image, labels = scene.cube(start, side, scale, rng)
    x, y, z = (slice((side - n) // 2, (side - n) // 2 + n) for n in sides)
    table = scale.table(rule, rng, options)
    return lookup(table, image)[x, y, z], lookup(atlas.classes, labels)[x, y, z]


def draw_start(
    scene: Scene, side: int, rng: np.random.Generator, centred: float, labelled: float = 0.0
) -> Start:
    """Draw the first voxel of a patch within the field of view; see `draw_patch`."""
    if labelled <= 0:
        return _start(scene, side, rng, centred)
    seen = lookup(scene.pose.atlas.classes > 0, scene.overview)
    starts: list[Start] = []
    shares: list[float] = []
    while len(starts) < _TRIES and max(shares, default=-1.0) < labelled:
        starts.append(_start(scene, side, rng, centred))
        x, y, z = (slice(-(-low // STEP), (low + side - 1) // STEP + 1) for low in starts[-1])
        shares.append(float(seen[x, y, z].mean()))
    return starts[int(np.argmax(shares))]


def _start(scene: Scene, side: int, rng: np.random.Generator, centred: float) -> Start:
    atlas, points = scene.pose.atlas, scene.pose.points
    if len(atlas.inside) and rng.random() < centred:
        voxel = atlas.inside[rng.integers(len(atlas.inside))].astype(np.float32)
        distance = ((points - voxel[:, None, None, None]) ** 2).sum(0)
        nearest = np.array(np.unravel_index(int(distance.argmin()), distance.shape))
        middle = nearest * STEP + rng.integers(-(side // 4), side // 4 + 1, 3)
    else:
        middle = rng.integers(0, atlas.side, 3)
    x, y, z = np.clip(middle - side // 2, 0, atlas.side - side).tolist()
    return x, y, z
