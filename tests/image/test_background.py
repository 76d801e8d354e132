"""Voxels without a signal have no label."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.background import void_value, without_empty
from brainchop_bids.inference.stages import remove_from_void
from tests.builders import head


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, -1000, 5]))
def test_only_they_lose_their_labels(seed: int, empty: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(empty, 3000, (12, 13, 14)).astype(np.int16)
    data[:6] = empty
    labels = rng.integers(0, 4, data.shape).astype(np.uint8)
    found = without_empty(labels, data)
    # A positive padding is taken for a signal, since nothing tells it from one.
    value = 0 if empty >= 0 else empty
    assert void_value(data) == value
    np.testing.assert_array_equal(found, np.where(data == value, 0, labels))


def test_much_in_empty_background_is_told() -> None:
    conformed = head().astype(np.float32)
    conformed = (conformed * (255 / conformed.max())).astype(np.uint8)
    conformed[conformed < 60] = 0
    labels = (conformed > 0).astype(np.uint8)
    same, notes = remove_from_void(labels, conformed)
    np.testing.assert_array_equal(same, labels)
    assert notes == []
    # A dark voxel inside is no background, where conforming has rounded it to 0.
    place = tuple(n // 2 for n in labels.shape)
    conformed[place] = 0
    assert remove_from_void(labels, conformed)[0][place] == 1
    everywhere = np.ones_like(labels)
    found, notes = remove_from_void(everywhere, conformed)
    assert not found[conformed == 0][:100].any()
    share = 1 - np.count_nonzero(found) / found.size
    assert notes == [
        f'{share:.0%} of the labels lay in empty background, where the scan is 0, and were '
        'removed; is it a T1w scan of a head?'
    ]
