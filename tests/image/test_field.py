"""The conformed field around an organ, against the places of its voxels in millimetres."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.conform import ConformOptions, conform, conformed_grid, grid_around
from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.io import Volume

# Directions that are all along the axes, and oblique ones.
SWAPPED = np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]])
TURNED = nib.eulerangles.euler2mat(0.3, -0.2, 0.4)


def scan_with_ball(
    length: int, first: int, zoom: float = 2.0, cosines: np.ndarray = SWAPPED
) -> tuple[Volume, Geometry]:
    """Return a scan of this many voxels along its first axis, and the box of a ball in it."""
    shape, box = (length, 80, 90), (first, 10, 20)
    grid = Geometry(shape, np.full(3, zoom), cosines, np.array([20.0, -7, 3]))
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing='ij'), -1)
    inside = ((places - np.array(box) - 29.5) ** 2).sum(-1) < 30**2
    # Bright all around, far from it even brighter.
    data = np.where(inside, 300, 100 + 400 * (np.abs(places[..., 0] - first) > 120))
    return Volume(data.astype(np.int16), grid), grid.part(box, (60, 60, 60))


@settings(max_examples=40, deadline=None)
@given(
    field=st.tuples(*[st.integers(90, 300)] * 3),
    middle=st.tuples(*[st.floats(0.2, 0.8)] * 3),
    half=st.tuples(*[st.integers(20, 70)] * 3),
    cosines=st.sampled_from([np.eye(3), SWAPPED, TURNED]),
    options=st.sampled_from(
        [ConformOptions(), ConformOptions(0.7), ConformOptions(smallest=True)]
    ),
)
def test_an_organ_is_within_reach_afterwards(field, middle, half, cosines, options) -> None:
    source = Geometry(field, np.ones(3), cosines, np.array([5.0, 6, -7]))
    first = np.rint(np.array(middle) * field - half).astype(int)
    organ = source.part(first.tolist(), (2 * np.array(half)).tolist())
    usual, _ = conformed_grid(source, options)
    around = grid_around(organ, source, options)
    used = around or usual
    points = np.random.default_rng(0).normal(size=(500, 3))
    points *= (np.array(half) + 9) / np.linalg.norm(points, axis=1, keepdims=True)
    onto = np.linalg.inv(used.affine) @ organ.affine
    seen = (points + np.array(half) - 0.5) @ onto[:3, :3].T + onto[:3, 3]
    assert (seen > -0.5).all()
    assert (seen < np.array(used.shape) - 0.5).all()
    if around is None:
        return
    assert max(around.shape) * around.zooms[0] < 257
    steps = (around.c_ras - usual.c_ras) / around.zooms
    np.testing.assert_allclose(steps, np.rint(steps / 8) * 8, atol=1e-3)
    assert np.abs(seen.mean(0) - (np.array(around.shape) - 1) / 2).max() < 4 + 20


def test_nothing_changes_where_nothing_is_out_of_reach() -> None:
    volume, organ = scan_with_ball(120, 30)
    plain, got = conform(volume), conform(volume, organ=organ)
    assert got.moved_mm is None
    assert got.warnings == plain.warnings
    np.testing.assert_array_equal(got.data, plain.data)
    assert got.geometry.matches(plain.geometry, 0)


@pytest.mark.parametrize('cosines', [SWAPPED, TURNED])
def test_a_long_scan_is_seen_as_its_part_around_the_organ(cosines: np.ndarray) -> None:
    volume, organ = scan_with_ball(250, 180, cosines=cosines)
    assert max(conform(volume).data.shape) == 500
    got = conform(volume, organ=organ)
    assert got.data.shape == (256,) * 3
    assert got.moved_mm is not None
    moved = got.geometry.c_ras - volume.geometry.c_ras
    np.testing.assert_allclose(got.moved_mm, moved, atol=2e-3)
    assert 'is centred on what was located' in got.warnings[-1]
    # A scan that ends where the field does, in the same grid.
    start = 250 - 66 - 90
    part = Volume(volume.data[start:], volume.geometry.part((start, 0, 0), (156, 80, 90)))
    alone = conform(part, grid=got.geometry)
    middle = (slice(60, 196),) * 3
    difference = np.abs(got.data[middle].astype(int) - alone.data[middle])
    assert difference.max() <= 1
    # The ball is where its voxels are, by the affine of the result.
    bright = np.argwhere((got.data > 110) & (got.data < 200))
    places = bright.mean(0) @ got.affine[:3, :3].T + got.affine[:3, 3]
    ball = organ.affine @ np.array([29.5, 29.5, 29.5, 1])
    np.testing.assert_allclose(places, ball[:3], atol=3)


def test_ten_millimetres_around_a_brain_are_out_of_reach_or_not() -> None:
    # 16 mm lie between the end of the scan and that of the usual field.
    volume, organ = scan_with_ball(112, 0)
    assert conform(volume, organ=organ).moved_mm is None
    grid = Geometry((256, 80, 90), np.ones(3), np.eye(3), np.zeros(3))
    # LIA counts the first axis backwards, from a voxel beyond the last one.
    for first in (1, 5, 9):
        around = grid_around(grid.part((first, 10, 20), (60, 60, 60)), grid)
        assert around is not None
        assert abs(around.c_ras[0] - (first + 29.5 - 127.5)) <= 4
    for first in (11, 100, 186):
        assert grid_around(grid.part((first, 10, 20), (60, 60, 60)), grid) is None
