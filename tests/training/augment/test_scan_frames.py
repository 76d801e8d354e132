"""Frames of scans with the mask of an organ."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.normalise import Normalization
from brainchop_bids.training.augment.scan_frames import OrganScan, draw_scan_frames
from tests.training.augment.test_frames import FRONT, HEAD, ORGAN, PRIOR, STILL, TOP, require_views

CODES = np.array([0, ORGAN, FRONT, TOP])


def scan_of(axes: str, factor: int = 1) -> OrganScan:
    """Return the balls of `HEAD` as a scan whose axes run in other directions."""
    labels = HEAD.codes[HEAD.dense].astype(np.uint8)
    image = np.zeros(labels.shape, np.float32)
    for code, (mean, *_) in PRIOR.items():
        image[labels == code] = mean
    lia = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    orient = nib.orientations
    turn = orient.ornt_transform(orient.axcodes2ornt('LIA'), orient.axcodes2ornt(axes))
    affine = lia @ orient.inv_ornt_aff(turn, image.shape)
    turned = [orient.apply_orientation(array, turn) for array in (image, labels == ORGAN)]
    return OrganScan.of(*turned, Geometry.from_affine(affine, turned[0].shape))


@settings(max_examples=12, deadline=None)
@given(
    st.permutations('xyz'),
    st.tuples(*[st.sampled_from(pair) for pair in ('LR', 'PA', 'IS')]),
)
def test_any_orientation_gives_the_same_scan(order: list[str], signs: tuple[str, ...]) -> None:
    axes = ''.join(signs['xyz'.index(axis)] for axis in order)
    expected, found = scan_of('LIA'), scan_of(axes)
    np.testing.assert_array_equal(found.zooms, expected.zooms)
    np.testing.assert_allclose(found.reach, expected.reach, atol=2)
    # Blocks of two voxels begin at the other end of a flipped axis.
    assert np.abs(np.subtract(found.organ.shape, expected.organ.shape)).max() <= 1
    for bright in (0.55, 0.85):
        middles = [np.argwhere(scan.image > bright).mean(0) for scan in (found, expected)]
        np.testing.assert_allclose(*middles, atol=1)


@pytest.mark.parametrize('seed', range(12))
def test_views_are_named_by_where_front_and_top_are(seed: int) -> None:
    axes = ('RAS', 'LIA', 'PSR', 'IPL')[seed % 4]
    rng = np.random.default_rng(seed)
    rule = Normalization.parse('window:0:1')
    images, labels = draw_scan_frames(scan_of(axes), rng, STILL, 40, rule)
    assert images.shape == labels.shape == (40, 64, 64)
    require_views(images, labels)


def test_blocks_are_averaged() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(0, 100, (8, 9, 6)).astype(np.float32)
    organ = data > 50
    affine = np.diag([-0.5, -1.0, 3.0, 1])
    scan = OrganScan.of(data, organ, Geometry.from_affine(affine, data.shape))
    # Left, back and up becomes left, down and forward.
    np.testing.assert_allclose(scan.zooms, (2.0, 3.0, 2.0))
    assert scan.image.shape == (2, 6, 4)
    block = data[:4, 7:9, 5]
    np.testing.assert_allclose(scan.image[0, 0, 0], block.mean(), rtol=1e-5)
