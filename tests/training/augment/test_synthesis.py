"""Random images from label maps: what must stay true whatever is drawn."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brainchop_bids.training.augment import fields
from brainchop_bids.training.augment.synthesis import synthesise
from brainchop_bids.training.augment.tissues import (
    FIRST_OUTSIDE,
    NECK_CODES,
    RIGHT_AS_LEFT,
    SIDES,
    draw_tissues,
    t1_prior,
)
from brainchop_bids.training.options import SynthesisOptions

STILL = SynthesisOptions(
    rotation=0, scaling=0, shearing=0, translation=0, elastic=0, flip=0, bias=0, gamma=0,
    noise=0, low_resolution=0, strip=0, deface=0, crop=0, proportions=0, low_contrast=0,
    lesions=0, contrast_agent=0, air_noise=0, outlier=0, intensity_jitter=0,
)  # fmt: skip


def head() -> np.ndarray:
    """Return a small head: skull, and a left and a right half of brain."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing='ij'))
    radius = (grid**2).sum(0)
    labels = np.where(radius < 0.8, 507, 0).astype(np.uint16)
    # The first axis of LIA runs from right to left.
    labels[(radius < 0.5) & (grid[0] < 0)] = 41
    labels[(radius < 0.5) & (grid[0] >= 0)] = 2
    return labels


def test_nothing_moves_where_nothing_may() -> None:
    labels = head()
    image, moved = synthesise(labels, np.random.default_rng(0), STILL)
    np.testing.assert_array_equal(moved, labels)
    assert image.dtype == np.uint8
    assert image.shape == labels.shape


def test_the_seed_decides() -> None:
    labels = head()
    first, again, other = (synthesise(labels, np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_a_mirrored_head_has_its_sides_where_they_belong() -> None:
    # Sides of this head are each other's mirror images.
    labels = head()
    _, mirrored = synthesise(labels, np.random.default_rng(0), replace(STILL, flip=1.0))
    np.testing.assert_array_equal(mirrored, labels)
    labels[2, 24, 24] = 507
    _, mirrored = synthesise(labels, np.random.default_rng(0), replace(STILL, flip=1.0))
    assert mirrored[-3, 24, 24] == 507
    assert mirrored[2, 24, 24] == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_draw_gives_a_usable_pair(seed: int) -> None:
    labels = head()
    before = labels.copy()
    image, moved = synthesise(labels, np.random.default_rng(seed))
    np.testing.assert_array_equal(labels, before)
    assert set(np.unique(moved)) <= {0, 2, 41, 507}
    assert np.isin(moved, (2, 41)).any()
    assert image.dtype == np.uint8
    assert image.max() > image.min()


def test_both_sides_look_alike_unless_told_otherwise() -> None:
    codes = np.array([0, *SIDES, *SIDES.values()])
    codes.sort()
    place = {int(code): number for number, code in enumerate(codes)}
    for groups, alike in ((RIGHT_AS_LEFT, True), ({}, False)):
        means, _ = draw_tissues(codes, np.random.default_rng(3), groups)
        sides = [means[[place[code] for code in side]] for side in (SIDES, SIDES.values())]
        assert np.array_equal(*sides) == alike


def test_products_along_axes_are_scipys() -> None:
    rng = np.random.default_rng(0)
    volume = rng.random((5, 6, 7), dtype=np.float32)
    matrices = [rng.random((n + 1, n), dtype=np.float32) for n in volume.shape]
    expected = np.einsum('ijk,ai,bj,ck->abc', volume, *matrices)
    np.testing.assert_allclose(fields.along_axes(volume, matrices), expected, rtol=1e-5)


def test_blurring_at_one_millimetre_is_scipys_gaussian() -> None:
    down, up = fields.sampling(64, 1.0, 1.5)
    signal = np.zeros(64)
    signal[32] = 1
    expected = ndimage.gaussian_filter1d(signal, 1.5, truncate=10)
    np.testing.assert_allclose(up @ (down @ signal), expected, atol=1e-6)


def test_spline_fields_are_smooth_and_a_partition_of_unity() -> None:
    basis = fields.spline_basis(50, 12)
    np.testing.assert_allclose(basis.sum(1), 1, rtol=1e-6)
    field = fields.smooth_field((40, 40, 40), 12, np.random.default_rng(0))
    assert field.std() == pytest.approx(1, rel=1e-3)
    assert np.abs(np.diff(field, axis=0)).max() < 0.6


def test_a_whole_head(shared: Path) -> None:
    path = shared / 'data' / 'label_maps' / 'synthseg-20' / 'training_seg_01.nii.gz'
    labels = np.asarray(nib.load(path).dataobj).astype(np.uint16)
    image, moved = synthesise(labels, np.random.default_rng(5))
    assert image.shape == moved.shape == (256, 256, 256)
    brain = (moved > 0) & (moved < FIRST_OUTSIDE)
    assert 0.6e6 < brain.sum() < 3.5e6
    assert image[brain].std() > 3


def test_the_prior_orders_tissues_as_freesurfer_measured_them(shared: Path) -> None:
    prior = t1_prior()
    measured = {}
    stats = shared / 'data' / 't1w' / 'fnndsc-10yr-trio' / 'aseg.stats'
    for line in stats.read_text().splitlines():
        cells = line.split()
        if not line.startswith('#') and int(cells[1]) in prior:
            measured[int(cells[1])] = float(cells[5])
    # Left thalamus, putamen, pallidum, cerebellum, brainstem, hippocampus and ventricle.
    codes = [10, 12, 13, 7, 8, 16, 17, 4]
    pairs = [[prior[code][0] for code in codes], [measured[code] for code in codes]]
    assert np.corrcoef(pairs)[0, 1] > 0.9


def test_t1_like_images_have_bright_white_and_dark_fluid() -> None:
    codes = np.array([0, 2, 3, 24, 41, 502, 530])
    prior = t1_prior()
    assert set(codes) <= set(prior)
    for seed in range(5):
        means, _ = draw_tissues(codes, np.random.default_rng(seed), {41: 2}, prior, 0.5)
        assert means[1] > means[2] > means[3] > means[0]
        assert means[4] == means[1]


def test_a_stripped_head_keeps_no_label_where_its_image_is_gone() -> None:
    labels = head()
    labels[labels == 507] = 24
    kept = set()
    for seed in range(8):
        options = replace(STILL, strip=1.0, loose=0.0)
        image, moved = synthesise(labels, np.random.default_rng(seed), options)
        kept.add(bool((moved == 24).any()))
        assert not image[moved == 0].any()
        np.testing.assert_array_equal(moved[labels != 24], labels[labels != 24])
    assert kept == {True, False}


def test_a_loosely_stripped_head_keeps_a_shell_and_all_of_the_brain() -> None:
    labels = head()
    shells = set()
    for seed in range(8):
        options = replace(STILL, strip=1.0, loose=1.0)
        image, moved = synthesise(labels, np.random.default_rng(seed), options)
        brain = labels < FIRST_OUTSIDE
        np.testing.assert_array_equal(moved[brain], labels[brain])
        assert not image[(moved == 0) & (labels > 0)].any()
        shells.add(int((moved == 507).sum()))
    assert len(shells) > 4
    assert max(shells) > 100


def test_defacing_spares_the_brain_and_takes_what_is_before_and_below() -> None:
    labels = head()
    brain = (labels > 0) & (labels < FIRST_OUTSIDE)
    for seed in range(5, 8):
        options = replace(STILL, deface=1.0)
        image, moved = synthesise(labels, np.random.default_rng(seed), options)
        np.testing.assert_array_equal(moved[brain], labels[brain])
        gone = (moved == 0) & (labels > 0)
        assert not image[gone].any()
        # In LIA the second axis runs down, the third forward.
        assert (np.argwhere(gone).mean(0)[1:] > 30).all()


def test_a_neck_goes_on_below_the_map_and_is_no_brain() -> None:
    labels = head()
    # A spinal cord that runs out of the map.
    labels[18:30, 40:, 18:30] = 516
    labels[22:26, 24:, 22:26] = 16
    longer = 0
    for seed in range(5):
        _, moved = synthesise(labels, np.random.default_rng(seed), replace(STILL, neck=1.0))
        assert set(np.setdiff1d(moved, labels)) <= set(NECK_CODES)
        assert np.isin(moved, (2, 41)).sum() <= np.isin(labels, (2, 41)).sum()
        longer += bool(np.isin(moved[:, -1], NECK_CODES).any())
        # Below the map, the cord is neck like all else.
        assert not (moved[:, -1] == 16).any() or np.array_equal(moved == 16, labels == 16)
    assert longer >= 4
