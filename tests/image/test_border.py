"""Growing and shrinking of masks, against SciPy's distances of the whole volume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from brainchop_bids.image.border import move_border
from brainchop_bids.system.errors import SettingsError

masks = st.tuples(*[st.integers(1, 9)] * 3).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)
# Exact in binary, so that ties are ties.
sizes = st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 2.5])] * 3)


@given(masks, sizes, st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.3, 5.0, 40.0]))
def test_each_voxel_is_decided_by_its_distance(
    mask: np.ndarray, zooms: tuple[float, float, float], border: float
) -> None:
    inside = mask > 0
    # The sentinel outside is too far away to count.
    far = np.full(mask.shape, np.inf)
    outwards = ndimage.distance_transform_edt(~inside, sampling=zooms) if inside.any() else far
    inwards = ndimage.distance_transform_edt(inside, sampling=zooms) if not inside.all() else far
    np.testing.assert_array_equal(move_border(mask, zooms, border), outwards <= border)
    np.testing.assert_array_equal(move_border(mask, zooms, -border), inwards > border)


@given(masks, sizes)
def test_no_border_is_the_mask(mask: np.ndarray, zooms: tuple[float, float, float]) -> None:
    np.testing.assert_array_equal(move_border(mask, zooms, 0.0), mask)


def test_sizes_of_32_bits_are_as_meant() -> None:
    """Five voxels of 0.8 mm are 4 mm, although 0.8 in 32 bits is a little more."""
    line = np.zeros((1, 1, 15), np.uint8)
    line[..., 7] = 1
    grown = move_border(line, np.full(3, np.float32(0.8)), 4.0)
    assert np.flatnonzero(grown).tolist() == list(range(2, 13))


def test_what_is_no_distance_is_refused() -> None:
    from brainchop_bids.image.border import check_border

    for border in (float('nan'), 51.0, float('-inf')):
        with pytest.raises(SettingsError, match='expected -50 to 50 mm'):
            check_border(border)
