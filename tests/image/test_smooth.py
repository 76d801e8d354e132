"""Smoothed labels against scipy.ndimage on whole volumes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from brainchop_bids.image.smooth import Smoothing, smooth_labels
from brainchop_bids.system.errors import SettingsError

sparse = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9),
    elements=st.sampled_from([0, 0, 0, 1, 1, 3, 200]),
)


def shares(labels, sigma):
    """Return the values there are, and of each the weights around every voxel."""
    values = np.unique(np.append(labels, 0))
    each = [
        ndimage.gaussian_filter(
            (labels == value).astype(np.float64), sigma, mode='constant', truncate=3
        )
        for value in values
    ]
    return values, np.array(each)


def agrees(labels, smoothing):
    """Check each voxel; where two labels have the same weights, either may be taken."""
    result = smooth_labels(labels, smoothing, threads=2)
    assert result.dtype == labels.dtype
    values, found = shares(labels, smoothing.voxels)
    own = np.take_along_axis(found, np.searchsorted(values, labels)[None], 0)[0]
    won = np.take_along_axis(found, np.searchsorted(values, result)[None], 0)[0]
    close = 1e-5
    assert (won >= found.max(0) - close)[own < smoothing.below - close].all()
    kept = own > smoothing.below + close
    np.testing.assert_array_equal(result[kept], labels[kept])


@settings(deadline=None)
@given(sparse, st.sampled_from([0.5, 0.9, 1.7]), st.sampled_from([0.2, 0.3, 1.0]))
def test_the_label_with_the_largest_share_wins(labels, sigma, below):
    agrees(labels, Smoothing(sigma, below))


@pytest.mark.parametrize('order', ['C', 'F'])
def test_it_is_the_same_over_slabs_and_threads(order):
    noise = np.random.default_rng(0).random((75, 20, 22))
    labels = np.asarray(np.digitize(noise, [0.6, 0.8, 0.95]), dtype=np.uint16, order=order)
    labels[:4] = labels[:, :, -5:] = 0
    agrees(labels, Smoothing(0.9))
    one = smooth_labels(labels, Smoothing(0.9, 0.3))
    np.testing.assert_array_equal(one, smooth_labels(labels, Smoothing(0.9, 0.3), threads=3))


def test_single_voxels_go_and_sheets_stay():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:18, 2:18, 2:10] = 1
    labels[6, 6, 6] = 2
    labels[10, 2:18, 2:10] = 3
    kept = smooth_labels(labels, Smoothing(0.9, below=0.3))
    assert kept[6, 6, 6] == 1
    np.testing.assert_array_equal(kept[10, 4:16, 4:8], 3)
    assert not (smooth_labels(labels, Smoothing(0.9)) == 3).any()


def test_nothing_to_do():
    labels = np.eye(4, dtype=np.uint8)[None]
    assert smooth_labels(labels, Smoothing()) is labels
    empty = np.zeros((3, 4, 5), np.uint8)
    assert smooth_labels(empty, Smoothing(1.0)) is empty


@pytest.mark.parametrize(
    'content',
    [None, [0.9], {'mm': 1}, {'voxels': '1'}, {'voxels': True}, {'voxels': -1}, {'voxels': 6},
     {'voxels': 1, 'below': 0}, {'voxels': 1, 'below': 1.1}, {'voxels': float('nan')}],
)  # fmt: skip
def test_what_is_no_smoothing(content):
    with pytest.raises(SettingsError, match=r'smooth.*expected'):
        Smoothing.from_dict(content)


def test_it_is_read_as_it_was_written():
    assert Smoothing.from_dict(Smoothing(0.9, 0.3).to_dict()) == Smoothing(0.9, 0.3)
