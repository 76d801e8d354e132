"""Chunked histograms and tables against the plain NumPy way."""

import numpy as np
import pytest

from brainchop_bids.image.lookup import histogram, lookup

codes = np.random.default_rng(1).integers(0, 1000, (70, 60, 50)).astype(np.uint16)


@pytest.mark.parametrize('array', [codes, codes.T, codes[::2, :, ::3]])
def test_same_as_numpy(array):
    np.testing.assert_array_equal(histogram(array, 1200), np.bincount(array.ravel(), None, 1200))
    table = np.random.default_rng(2).random(1000).astype(np.float32)
    np.testing.assert_array_equal(lookup(table, array), table[array])


def test_empty():
    assert histogram(codes[:0], 5).tolist() == [0] * 5
    assert lookup(np.arange(3.0), codes[:0]).shape == (0, 60, 50)
