"""Scans that never were: random images from label maps (domain randomisation).

After Billot et al. (2023), SynthSeg, doi:10.1016/j.media.2023.102789: deform a label map, draw
an intensity for each label, and spoil the image as scanners do. A network that has seen only
such images has seen every contrast, so it needs none of its own. Ends as the product's own
conform step does, so that training and inference see the same numbers.

All maps are whole heads in the conformed grid: cubic LIA volumes of 1 mm. `synthesise` makes
whole volumes; `brainchop_bids.training.data.patches` makes cubes to train on.
"""

from collections.abc import Mapping

import numpy as np

from ...image.lookup import histogram, lookup
from ...models.mapping import LabelMapping
from ..data.label_maps import prepare
from ..options import SynthesisOptions
from .scene import Prior, Scene
from .tissues import t1_prior

__all__ = ['SynthesisOptions', 'synthesise', 't1_prior']

_DEFAULTS = SynthesisOptions()


def synthesise(
    labels: np.ndarray,
    rng: np.random.Generator,
    options: SynthesisOptions = _DEFAULTS,
    *,
    groups: Mapping[int, int] | None = None,
    prior: Prior | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make an image and its labels from a label map.

    Parameters
    ----------
    labels : (W, W, W) unsigned integers
        aseg codes of a whole head, LIA, 1 mm; from 500 up whatever is outside the brain.
    rng : numpy.random.Generator
        Decides everything.
    options : SynthesisOptions
        How far the image may stray.
    groups : mapping of int to int, optional
        Codes that share their intensity with another; by default right with left.
    prior : mapping of int to tuple, optional
        What `t1_prior` returns; without it no contrast is T1-like.

    Returns
    -------
    image : (W, W, W) uint8
        As the conform step would give it.
    labels : (W, W, W) uint16
        Codes of the deformed map, zero where something has been removed.
    """
    codes = np.flatnonzero(histogram(labels)).tolist()
    atlas = prepare(labels, LabelMapping('the map itself', {code: code > 0 for code in codes}))
    scene = Scene.draw(atlas, rng, options, prior, groups)
    look = scene.look(rng)
    image, places = scene.cube((0, 0, 0), atlas.side, look, rng)
    return image, lookup(atlas.codes, places)
