"""Cubes lie within the volume, and hold what was asked for wherever that can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.data.sampling import draw_box, labelled_share

shapes = st.tuples(*[st.integers(4, 14)] * 3)
seeds = st.integers(0, 2**32 - 1)


@given(shapes, st.data(), seeds)
def test_a_cube_is_whole_and_within_the_volume(shape, data, seed) -> None:
    sides = tuple(data.draw(st.integers(1, n)) for n in shape)
    centred, labelled = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(rng.random(shape) < data.draw(st.sampled_from([0, 0.01, 0.5])))
    box = draw_box(shape, sides, inside, rng, centred, labelled)
    assert np.zeros(shape)[box].shape == sides
    assert all(part.start >= 0 and part.stop <= n for part, n in zip(box, shape, strict=True))


@given(shapes, st.data(), seeds)
def test_the_share_is_that_of_the_mask(shape, data, seed) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < data.draw(st.floats(0, 1))
    sides = tuple(data.draw(st.integers(1, n)) for n in shape)
    box = draw_box(shape, sides, np.flatnonzero(mask), rng, 0.5)
    assert labelled_share(shape, box, np.flatnonzero(mask)) == pytest.approx(mask[box].mean())


@given(seeds)
def test_a_cube_around_a_labelled_voxel_holds_it(seed) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((16, 20, 18), bool)
    mask[tuple(rng.integers(0, mask.shape))] = True
    assert mask[draw_box(mask.shape, (8,) * 3, np.flatnonzero(mask), rng, 1.0)].any()


@given(seeds, st.floats(0.01, 0.5))
def test_a_share_that_is_common_is_reached(seed, labelled) -> None:
    mask = np.zeros((32, 32, 32), bool)
    mask[4:28, 4:28, 4:28] = True
    rng = np.random.default_rng(seed)
    box = draw_box(mask.shape, (12,) * 3, np.flatnonzero(mask), rng, 0.9, labelled)
    assert mask[box].mean() >= labelled


def test_the_first_cube_that_holds_enough_is_taken() -> None:
    mask = np.zeros((32, 32, 32), bool)
    mask[4:28, 4:28, 4:28] = True
    inside = np.flatnonzero(mask)
    for seed in range(20):
        any_cube, enough = (
            draw_box(mask.shape, (12,) * 3, inside, np.random.default_rng(seed), 1.0, labelled)
            for labelled in (0.0, 0.01)
        )
        assert any_cube == enough


def test_a_share_that_nothing_reaches_gives_the_best_of_what_was_drawn() -> None:
    mask = np.zeros((32, 32, 32), bool)
    mask[10:14, 10:14, 10:14] = True
    inside = np.flatnonzero(mask)

    def shares(labelled: float) -> np.ndarray:
        boxes = (
            draw_box(mask.shape, (8,) * 3, inside, np.random.default_rng(seed), 0.0, labelled)
            for seed in range(100)
        )
        return np.array([mask[box].mean() for box in boxes])

    best, first = shares(0.9), shares(0.0)
    assert (best >= first).all()
    assert best.mean() > 5 * first.mean()


def test_a_seed_gives_the_cubes_it_always_gave() -> None:
    mask = np.zeros((24, 30, 28), bool)
    mask[8:14, 10:20, 5:9] = True
    rng = np.random.default_rng(7)
    starts = [
        tuple(
            part.start for part in draw_box(mask.shape, (12,) * 3, np.flatnonzero(mask), rng, 0.9)
        )
        for _ in range(6)
    ]
    # Those of the first version of this function, which runs that go on depend on.
    assert starts == [(9, 6, 1), (1, 5, 3), (6, 10, 4), (5, 11, 0), (7, 13, 0), (8, 6, 3)]


def test_a_cube_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'cubes of 9x9x9 voxels .* \(12, 8, 12\)'):
        draw_box((12, 8, 12), (9,) * 3, np.array([], int), np.random.default_rng(0), 0.5)
