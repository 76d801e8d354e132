"""The sector of an organ whose shape is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.inference.localise.frames import shrink
from brainchop_bids.inference.localise.sector import Sector, find_sector

ZOOMS = st.tuples(*[st.floats(1.0, 4.0)] * 3)


def ellipsoid(
    shape: tuple[int, ...], zooms: tuple[float, ...], middle: np.ndarray, radii: np.ndarray
) -> np.ndarray:
    grids = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, zooms, strict=True)],
        indexing='ij',
    )
    places = zip(grids, middle, radii, strict=True)
    inside: np.ndarray = sum(((grid - m) / r) ** 2 for grid, m, r in places) < 1
    return inside


def sector_of(masks: dict[int, np.ndarray], zooms: tuple[float, ...]) -> Sector | None:
    """Return the sector if the network answered with these masks along these axes."""
    frames = [shrink(mask, zooms, axis) for axis, mask in masks.items()]
    return find_sector([(one, one.images) for one in frames], masks[0].shape, zooms)


@given(zooms=ZOOMS, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_box_of_a_mask(zooms: tuple[float, float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = rng.uniform(180, 300, 3)
    shape = tuple(int(n) for n in field / zooms)
    middle, radii = rng.uniform(-25, 25, 3), rng.uniform(45, 75, 3)
    mask = ellipsoid(shape, zooms, middle, radii)
    sector = sector_of({axis: mask for axis in range(3)}, zooms)
    assert sector is not None
    for axis, extent in enumerate(sector.extents):
        true = np.flatnonzero(mask.any(tuple(n for n in range(3) if n != axis)))
        # A tip is left out, and cells of up to 3 mm reach beyond the ends.
        assert -4 <= (extent.first - true[0]) * zooms[axis] <= 2 + zooms[axis]
        assert -4 <= (true[-1] - extent.last) * zooms[axis] <= 2 + zooms[axis]
        cut = true[0] == 0 or true[-1] == shape[axis] - 1
        assert cut or min(extent.certainties) > 0.6
    assert sector.volume == pytest.approx(mask.sum() * np.prod(zooms) / 1000, rel=0.05)


def test_one_axis_that_is_wrong_is_outvoted() -> None:
    zooms = (1.0, 1.0, 1.0)
    mask = ellipsoid((200, 200, 200), zooms, np.zeros(3), np.array([60, 70, 50]))
    elsewhere = ellipsoid((200, 200, 200), zooms, np.array([0, 0, -85]), np.array([80, 80, 12]))
    beside = ellipsoid((200, 200, 200), zooms, np.array([0, 30, -60]), np.array([20, 20, 50]))
    expected = sector_of({axis: mask for axis in range(3)}, zooms)
    assert expected is not None
    for wrong in (mask | elsewhere, mask | beside):
        found = sector_of({0: mask, 1: mask, 2: wrong}, zooms)
        assert found is not None
        for one, other in zip(found.extents, expected.extents, strict=True):
            assert (one.first, one.last) == (other.first, other.last)


def test_what_only_touches_the_organ_is_left_out() -> None:
    zooms = (1.0, 1.0, 1.0)
    mask = ellipsoid((200, 200, 260), zooms, np.array([0, 0, 40.0]), np.array([60, 70, 50]))
    cord = ellipsoid((200, 200, 260), zooms, np.array([0, 0, -60.0]), np.array([6, 6, 70]))
    neck = ellipsoid((200, 200, 260), zooms, np.array([0, 0, -80.0]), np.array([45, 45, 40]))
    expected, found = (
        sector_of(dict.fromkeys(range(3), one), zooms) for one in (mask, mask | cord | neck)
    )
    assert expected is not None
    assert found is not None
    for one, other in zip(found.extents, expected.extents, strict=True):
        assert abs(one.first - other.first) <= 9
        assert abs(one.last - other.last) <= 9


def test_an_organ_that_is_smaller_than_the_opening_is_found() -> None:
    zooms = (1.0, 1.0, 1.0)
    mask = ellipsoid((200,) * 3, zooms, np.array([0, 30, -40.0]), np.array([6.0, 9.0, 12.0]))
    sector = sector_of(dict.fromkeys(range(3), mask), zooms)
    assert sector is not None
    for axis, extent in enumerate(sector.extents):
        true = np.flatnonzero(mask.any(tuple(n for n in range(3) if n != axis)))
        assert abs(extent.first - true[0]) <= 4
        assert abs(true[-1] - extent.last) <= 4


@pytest.mark.parametrize('seen', [(), (1,)])
def test_nothing_is_found_by_chance(seen: tuple[int, ...]) -> None:
    mask = ellipsoid((200, 200, 200), (1.0, 1.0, 1.0), np.zeros(3), np.array([60, 70, 50]))
    masks = {axis: mask if axis in seen else np.zeros_like(mask) for axis in range(3)}
    assert sector_of(masks, (1.0, 1.0, 1.0)) is None
