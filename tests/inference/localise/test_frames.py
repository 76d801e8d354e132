"""Frames against SciPy's and NumPy's means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.inference.localise.frames import SIDE, shrink


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('order', ['C', 'F'])
def test_pixels_are_means_of_voxels(axis: int, order: str) -> None:
    rng = np.random.default_rng(axis)
    shape = [3 * SIDE, 3 * SIDE, 3 * SIDE]
    shape[axis] = 5
    data = np.array(rng.integers(-1000, 2000, shape), np.int16, order=order)
    blocks = np.moveaxis(data, axis, 0).reshape(5, SIDE, 3, SIDE, 3)
    for threads in (1, 2):
        images = shrink(data, (0.5, 0.5, 0.5), axis, threads).images
        np.testing.assert_allclose(images, blocks.mean((2, 4)), rtol=1e-5, atol=1e-2)


@given(
    shape=st.tuples(*[st.integers(1, 90)] * 3),
    zooms=st.tuples(*[st.floats(0.3, 6)] * 3),
    axis=st.integers(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_pixels_lie_where_voxels_lie(
    shape: tuple[int, int, int], zooms: tuple[float, float, float], axis: int
) -> None:
    """A ramp in mm along rows is the same ramp in the frame, except for pixels at its edge."""
    others = [n for n in range(3) if n != axis]
    ramp = (np.arange(shape[others[0]]) - (shape[others[0]] - 1) / 2) * zooms[others[0]]
    data = np.broadcast_to(np.expand_dims(ramp, [axis, others[1]]), shape).astype(np.float32)
    frames = shrink(data, zooms, axis)
    rows = frames.rows
    covered = shrink(np.ones(shape, np.float32), zooms, axis).images
    assert covered.max() <= 1 + 1e-5
    whole = covered[0].max(1) > 0.999
    whole &= np.abs(rows.to_voxel(np.arange(SIDE)) - (rows.length - 1) / 2) < (rows.length - 1) / 2
    mm = (np.arange(SIDE) + 0.5 - SIDE / 2) * rows.pixel
    column = int(covered[0].max(0).argmax())
    found = frames.images[0, :, column]
    # Half a voxel where they are larger than pixels.
    assert np.all(np.abs(found[whole] - mm[whole]) <= max(rows.size, rows.pixel) / 2 + 1e-3)


def test_values_that_are_no_numbers_count_as_zero() -> None:
    data = np.ones((64, 64, 3), np.float32)
    data[:32, :, 1] = np.nan
    data[32:, :, 1] = np.inf
    images = shrink(data, (1.0, 1.0, 1.0), 2).images
    assert images.mean((1, 2)).tolist() == [1, 0, 1]


@given(count=st.integers(1, 300), zoom=st.floats(0.3, 6))
@settings(max_examples=60, deadline=None)
def test_frames_closer_than_two_mm_are_averaged(count: int, zoom: float) -> None:
    """A ramp in mm across frames stays that ramp, but for its ends, with fewer frames."""
    ramp = (np.arange(count) - (count - 1) / 2) * zoom
    data = np.broadcast_to(ramp.astype(np.float32), (4, 4, count))
    frames = shrink(data, (1.0, 1.0, zoom), 2)
    fewer = frames.spaced(zoom)
    number = len(fewer.images)
    spacing = count * zoom / number
    assert spacing >= min(zoom, 1.3) - 1e-9
    assert spacing <= max(zoom, 2.7) + 1e-9 or number == 1
    found = fewer.images[:, SIDE // 2, SIDE // 2]
    mm = (np.arange(number) - (number - 1) / 2) * spacing
    np.testing.assert_allclose(found[1:-1], mm[1:-1], rtol=1e-4, atol=zoom / 4 + 1e-3)
