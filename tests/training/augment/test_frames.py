"""Synthetic frames for localisers: what they show must agree with what they are labelled."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from brainchop_bids.inference.localise.orientation import VIEWS
from brainchop_bids.models.mapping import LabelMapping
from brainchop_bids.training.augment.frames import draw_frames
from brainchop_bids.training.data.label_maps import Atlas, build_atlas
from brainchop_bids.training.options import SynthesisOptions

STILL = SynthesisOptions(
    rotation=0, scaling=0, shearing=0, translation=0, elastic=0, flip=0, bias=0, gamma=0,
    noise=0, low_resolution=0, strip=0, deface=0, crop=0, proportions=0, low_contrast=0,
    lesions=0, contrast_agent=0, air_noise=0, outlier=0, intensity_jitter=0, t1=1,
    t1_spread=0,
)  # fmt: skip
ORGAN, FRONT, TOP = 2, 3, 4
# Mean intensity of each code, without any spread.
PRIOR = {ORGAN: (0.3, 0, 0, 0), FRONT: (0.6, 0, 0, 0), TOP: (0.9, 0, 0, 0)}


def atlas() -> Atlas:
    """Return a ball, LIA, with a smaller one in front of it and another one on top."""
    grid = np.stack(np.meshgrid(*[np.arange(-80.0, 80.0)] * 3, indexing='ij'))
    labels = np.zeros(grid.shape[1:], np.uint16)
    for code, middle, radius in (
        (ORGAN, (0, 0, 0), 50),
        (FRONT, (0, 0, 60), 15),
        (TOP, (0, -60, 0), 15),
    ):
        distance = sum((grid[n] - middle[n]) ** 2 for n in range(3))
        labels[distance < radius**2] = code
    return build_atlas(labels, LabelMapping('organ', {0: 0, ORGAN: 1, FRONT: 0, TOP: 0}))


HEAD = atlas()


def require_views(images: np.ndarray, labels: np.ndarray) -> None:
    """Check that the two smaller balls lie where the view of each frame says."""
    # The pixels of each tissue that have no other beside them; without all there is no scale.
    flat = ndimage.maximum_filter(images, (1, 3, 3)) - ndimage.minimum_filter(images, (1, 3, 3))
    inner = images[(flat < 0.01) & (images > 0.2)]
    levels = np.unique(inner.round(1))
    if len(levels) < 3:
        return
    kept = flat < 0.01
    for image, classes, whole in zip(images, labels, kept, strict=True):
        if not classes.any():
            continue
        view = VIEWS[int(classes.max()) - 1]
        middle = np.argwhere(classes > 0).mean(0)
        for level, forward, backward in ((levels[1], 'A', 'P'), (levels[2], 'S', 'I')):
            axis = next((n for n in range(2) if view[n] in (forward, backward)), None)
            places = np.argwhere(whole & (np.abs(image - level) < 0.06))
            if axis is not None and len(places):
                place = places[:, axis].mean()
                assert (place > middle[axis]) == (view[axis] == forward)


@pytest.mark.parametrize('seed', range(40))
def test_views_are_named_by_where_front_and_top_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, labels = draw_frames(HEAD, rng, STILL, 40, prior=PRIOR, groups={})
    assert images.shape == labels.shape == (40, 64, 64)
    require_views(images, labels)


def test_the_seed_decides() -> None:
    options = replace(STILL, noise=0.1, neck=1.0, strip=0.5)
    first, again, other = (
        draw_frames(HEAD, np.random.default_rng(seed), options, 4) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_volumes_without_the_organ_occur() -> None:
    rng = np.random.default_rng(0)
    options = replace(STILL, neck=1.0)
    empty = [not draw_frames(HEAD, rng, options, 8)[1].any() for _ in range(60)]
    assert 2 <= sum(empty) <= 30
