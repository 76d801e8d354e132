"""Cubes of images that are made without the rest: they are what the whole image would have."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.models.mapping import LabelMapping
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.augment.pose import Pose
from brainchop_bids.training.augment.scene import Scene
from brainchop_bids.training.augment.tissues import NECK_CODES
from brainchop_bids.training.data.label_maps import build_atlas
from brainchop_bids.training.data.patches import draw_patch, draw_start
from brainchop_bids.training.options import SynthesisOptions
from tests.training.augment.test_synthesis import STILL, head

MAPPING = LabelMapping('sides', {0: 0, 2: 1, 41: 2, 24: 3, 507: 0})
RULE = Normalization('quantile')
WILD = SynthesisOptions(
    rotation=30, neck=0.4, thickness=6.5, bias=0.6, lesions=0.5, contrast_agent=0.5,
    air_noise=0.5, outlier=0.5, strip=0.4, loose=0.5, deface=0.5, crop=0.5,
)  # fmt: skip


def other(seed: int = 0) -> np.ndarray:
    """Return a head that differs from side to side and row to row."""
    labels = head()
    rng = np.random.default_rng(seed)
    for code in (24, 2, 41, 507):
        spots = rng.integers(8, 40, (300, 3))
        labels[tuple(spots.T)] = code
    return labels


ATLAS = build_atlas(other(), MAPPING)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 48), st.tuples(*[st.floats(0, 1)] * 3), st.booleans())
def test_labels_that_do_not_move_are_the_maps(
    side: int, place: tuple[float, float, float], mirrored: bool
) -> None:
    x, y, z = (round(share * (48 - side)) for share in place)
    pose = Pose.draw(ATLAS, np.random.default_rng(0), replace(STILL, flip=float(mirrored)))
    expected = other()
    if mirrored:
        expected = expected[::-1]
        left, right = expected == 2, expected == 41
        expected = np.where(left, 41, np.where(right, 2, expected))
    found = ATLAS.codes[pose.labels((x, y, z), side, np.random.default_rng(0))]
    np.testing.assert_array_equal(found, expected[x : x + side, y : y + side, z : z + side])
    np.testing.assert_array_equal(
        ATLAS.codes[pose.overview(np.random.default_rng(0))], expected[::4, ::4, ::4]
    )


def test_a_cube_is_cut_out_of_the_whole_wherever_the_head_is_moved_to() -> None:
    for seed in range(4):
        pose = Pose.draw(ATLAS, np.random.default_rng(seed), replace(WILD, neck=0.0))
        whole, part = (
            pose.labels(start, side, np.random.default_rng(0))
            for start, side in (((0, 0, 0), 48), ((5, 13, 26), 19))
        )
        # Halves are rounded up here and down there.
        assert (part == whole[5:24, 13:32, 26:45]).mean() > 0.9999


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(5, 48)] * 3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_draw_gives_a_usable_cube(seed: int, sides: tuple[int, ...], centred: float) -> None:
    first, again = (
        draw_patch(ATLAS, np.random.default_rng(seed), WILD, sides, centred=centred, rule=RULE)
        for _ in range(2)
    )
    image, labels = first
    assert image.shape == labels.shape == sides
    assert (image.dtype, labels.dtype) == (np.float32, np.uint8)
    assert np.isfinite(image).all()
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    for mine, others in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine, others)


@pytest.mark.parametrize('rule', ['quantile:0.02:0.98:clip', 'minmax', 'zscore-whole', 'none'])
def test_a_cube_is_normalised_as_the_whole_volume(rule: str) -> None:
    # Without noise, what differs is what every fourth voxel knows of all: of 96^3 voxels few, and
    # less than of 256^3, so that a single draw may be further off.
    assert np.median([_normalisation_error(rule, seed) for seed in range(5)]) < 0.1


def _normalisation_error(rule: str, seed: int) -> float:
    """Return by how much a cube and the volume differ, as a share of the volume's deviation."""
    options = replace(STILL, t1=1.0, bias=0.3)
    prior = {code: (mean, 0, 0, 0) for code, mean in ((0, 0), (2, 0.7), (41, 0.5), (24, 0.2))}
    labels = np.kron(np.where(head() == 507, 24, head()), np.ones((2, 2, 2)))
    atlas = build_atlas(labels.astype(np.uint16), MAPPING)
    rng = np.random.default_rng(seed)
    scene = Scene.draw(atlas, rng, options, prior, {})
    scale = scene.intensity_scale(rng)
    whole, _ = scene.cube((0, 0, 0), 96, scale, np.random.default_rng(0))
    expected = normalise(whole, Normalization.parse(rule))
    start = draw_start(scene, 50, rng, 1.0)
    part, _ = scene.cube(start, 50, scale, rng)
    found = scale.table(Normalization.parse(rule), rng, options)[part]
    x, y, z = (slice(low, low + 50) for low in start)
    # Beyond the border of a cube the blur sees nothing.
    inner = (slice(4, -4),) * 3
    difference = np.abs(found - expected[x, y, z])[inner]
    return float(np.quantile(difference, 0.95) / expected.std())


def test_a_stripped_cube_is_zero_outside() -> None:
    options = replace(WILD, strip=1.0, loose=0.0, crop=0.0, flip=0.0, neck=0.0)
    empty = LabelMapping('brain', {0: 0, 2: 1, 41: 1, 24: 1, 507: 0})
    atlas = build_atlas(other(), empty)
    for seed in range(6):
        image, labels = draw_patch(
            atlas, np.random.default_rng(seed), options, (32,) * 3, centred=1.0, rule=RULE
        )
        assert not image[labels == 0].any()
        assert image[labels == 1].any()


def test_cubes_are_where_they_are_asked_for() -> None:
    scene = Scene.draw(ATLAS, np.random.default_rng(0), STILL)
    rng = np.random.default_rng(1)
    middles = [np.array(draw_start(scene, 16, rng, 1.0)) + 8 for _ in range(50)]
    # A quarter side around a voxel of the brain, which is found to two voxels.
    brain = np.argwhere(np.isin(other(), (2, 41)))
    assert max(np.abs(brain - m).max(1).min() for m in middles) <= 4 + 2
    seen = other() % 507 > 0

    def least(labelled: float) -> float:
        starts = [draw_start(scene, 16, rng, 0.0, labelled) for _ in range(20)]
        return min(float(seen[x : x + 16, y : y + 16, z : z + 16].mean()) for x, y, z in starts)

    assert least(0.5) > 0.35 > least(0.0)


def test_proportions_change_by_about_what_is_asked_for() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(96) - 47.5] * 3, indexing='ij'))
    radius = np.sqrt((grid**2).sum(0))
    codes = np.select([radius < 12, radius < 35, radius < 40], [4, 2, 24], 0).astype(np.uint16)
    atlas = build_atlas(codes, LabelMapping('rings', {0: 0, 4: 1, 2: 2, 24: 3}))
    radii = []
    for seed in range(12):
        pose = Pose.draw(atlas, np.random.default_rng(seed), replace(STILL, proportions=3.0))
        moved = atlas.codes[pose.labels((0, 0, 0), 96, np.random.default_rng(0))]
        radii.append(((moved == 4).sum() / (4 / 3 * np.pi)) ** (1 / 3))
        # Nothing tears: a ball stays one.
        assert (moved[48, 48, 40:56] == 4).sum() >= 8
    assert min(radii) < 11
    assert 13 < max(radii) < 17


def test_a_longer_neck_is_there_in_the_cube() -> None:
    codes = other()
    codes[18:30, 40:, 18:30] = 507
    atlas = build_atlas(codes, MAPPING)
    found = set()
    for seed in range(4):
        pose = Pose.draw(atlas, np.random.default_rng(seed), replace(STILL, neck=1.0))
        labels = pose.labels((12, 24, 12), 24, np.random.default_rng(0))
        found |= set(atlas.codes[labels].ravel().tolist())
    assert set(NECK_CODES) <= found


def test_cubes_larger_than_the_map_are_refused() -> None:
    with pytest.raises(SettingsError, match='do not fit'):
        draw_patch(ATLAS, np.random.default_rng(0), STILL, (49,) * 3, centred=1.0, rule=RULE)
