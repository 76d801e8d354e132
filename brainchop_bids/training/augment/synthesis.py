"""Synthetic images from label maps with random contrasts (domain randomisation).

After Billot et al. (2023), SynthSeg, doi:10.1016/j.media.2023.102789: deform a label map, draw
an intensity for each label, and simulate the acquisition. A network that is trained on such images
works on scans of any contrast. Intensities are scaled as in conforming, so that training and
inference see the same values.

All maps are whole heads on the conformed grid, cubic LIA volumes of 1 mm. `synthesise` makes whole
volumes, `brainchop_bids.training.data.patches` makes training patches.
"""

from collections.abc import Mapping

import numpy as np

from ...image.lookup import histogram, lookup
from ...models.mapping import LabelMapping
from ..data.label_maps import build_atlas
from ..options import SynthesisOptions
from .scene import Prior, Scene

_DEFAULTS = SynthesisOptions()


def synthesise(
    labels: np.ndarray,
    rng: np.random.Generator,
    options: SynthesisOptions = _DEFAULTS,
    *,
    groups: Mapping[int, int] | None = None,
    prior: Prior | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Synthesise an image and its labels from a label map.

    Parameters
    ----------
    labels : (W, W, W) unsigned integers
        aseg codes of a whole head, LIA, 1 mm; codes of 500 or more are outside the brain.
    rng : numpy.random.Generator
        Random generator.
    options : SynthesisOptions
        Ranges of all random changes.
    groups : mapping of int to int, optional
        Codes that have the intensity of another code; by default those of the right side.
    prior : mapping of int to tuple, optional
        From `brainchop_bids.training.augment.tissues.t1_prior`; without it no contrast is
        T1-like.

    Returns
    -------
    image : (W, W, W) uint8
        As after conforming.
    labels : (W, W, W) uint16
        Codes of the deformed map; 0 where the image was removed.
    """
    codes = np.flatnonzero(histogram(labels)).tolist()
    atlas = build_atlas(labels, LabelMapping('synthesis', {code: code > 0 for code in codes}))
    scene = Scene.draw(atlas, rng, options, prior, groups)
    scale = scene.intensity_scale(rng)
    image, indices = scene.cube((0, 0, 0), atlas.side, scale, rng)
    return image, lookup(atlas.codes, indices)
