"""Asymmetry: what is symmetric stays so wherever it is turned, and half of it is not."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from brainchop_bids.quality.symmetry import mirror_asymmetry

STEP = 4.0
AFFINE = np.diag([STEP, STEP, STEP, 1.0])
ANGLES = st.floats(-25, 25)


def blob(turn: Rotation, *, half: bool = False, bump: float = 0.0) -> np.ndarray:
    """Return a brain-like shape, long and flat-bottomed, smooth at its border."""
    axis = np.arange(-28, 29) * STEP
    places = np.stack(np.meshgrid(axis, axis, axis, indexing='ij'), axis=-1)
    x, y, z = np.moveaxis(turn.inv().apply(places.reshape(-1, 3)).reshape(places.shape), -1, 0)
    level = np.sqrt((x / 66) ** 2 + (y / 82) ** 2 + (z / np.where(z > 0, 66, 45)) ** 2)
    shape = np.clip(0.5 - (level - 1) * 8, 0, 1)
    shape[(x - 45) ** 2 + y**2 + z**2 < bump**2] = 0
    return shape * (x < 0) if half else shape


@settings(max_examples=15)
@given(ANGLES, ANGLES, ANGLES)
def test_turning_makes_nothing_asymmetric(pitch: float, roll: float, yaw: float) -> None:
    turn = Rotation.from_euler('xyz', [pitch, roll, yaw], degrees=True)
    assert mirror_asymmetry(blob(turn), AFFINE) < 0.02
    assert mirror_asymmetry(blob(turn, half=True), AFFINE) > 0.15


@settings(max_examples=15)
@given(ANGLES, st.floats(5, 40))
@example(12.0, 28.0)
@example(0.0, 40.0)
def test_the_mirror_image_is_as_asymmetric(roll: float, bump: float) -> None:
    shape = blob(Rotation.from_euler('y', roll, degrees=True), bump=bump)
    found = mirror_asymmetry(shape, AFFINE)
    assert mirror_asymmetry(shape[::-1], AFFINE) == pytest.approx(found, abs=0.02)
    # Another order of the axes, another side first: the affine says where is left.
    turned = np.array([[0, 0, -STEP, 30], [0, STEP, 0, -9], [STEP, 0, 0, 1], [0, 0, 0, 1.0]])
    other = shape[::-1].transpose(2, 1, 0)
    assert mirror_asymmetry(other, turned) == pytest.approx(found, abs=0.02)


def test_more_missing_is_more_asymmetric() -> None:
    found = [
        mirror_asymmetry(blob(Rotation.identity(), bump=size), AFFINE) for size in (0, 25, 45)
    ]
    assert found == sorted(found)
    assert found[2] > found[0] + 0.05


def test_nothing_and_one_block() -> None:
    assert mirror_asymmetry(np.zeros((4, 4, 4)), AFFINE) == 1
    one = np.zeros((4, 4, 4))
    one[2, 2, 2] = 1
    assert mirror_asymmetry(one, AFFINE) == 1
