"""The window of intensities: FreeSurfer's, unless a few voxels far from all others stretch it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.conform import ConformOptions, conform
from brainchop_bids.image.io import read_volume
from brainchop_bids.image.window import to_uint8
from tests.builders import head, write_scan

HEAD = head((40, 44, 40))


def both(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    exact, none = to_uint8(data)
    robust, notes = to_uint8(data, robust=True)
    assert none == []
    return exact, robust, notes


@pytest.mark.parametrize('dtype', [np.int16, np.int32, np.float32])
def test_one_voxel_does_not_stretch_it(dtype: type) -> None:
    expected, _ = to_uint8(HEAD.astype(dtype))
    data = HEAD.astype(dtype)
    data[3, 4, 5] = -32768
    _, robust, notes = both(data)
    others = np.ones(data.shape, bool)
    others[3, 4, 5] = False
    # Only the bins of the histogram lie a little elsewhere.
    assert np.abs(robust[others].astype(int) - expected[others]).max() <= 1
    assert robust[3, 4, 5] == 0
    assert notes[0].startswith('1 voxel at -32768 lies far below all others, whose lowest is ')


@pytest.mark.parametrize(
    ('low', 'high', 'lines'), [(-1e30, 3e38, 2), (-3e38, 3e38, 2), (0.0, 1e30, 1), (-1e6, 9e2, 1)]
)
def test_values_beyond_all_reason(low: float, high: float, lines: int) -> None:
    data = HEAD.astype(np.float32)
    expected, _ = to_uint8(data)
    data[0, 0, 0], data[0, 0, 1] = low, high
    found, notes = to_uint8(data, robust=True)
    assert len(notes) == lines
    assert np.abs(found.ravel()[2:].astype(int) - expected.ravel()[2:]).max() <= 1


def test_wrapped_values_of_16_bits() -> None:
    scaled = (HEAD * (32767 / np.quantile(HEAD, 0.996))).astype(np.int32)
    wrapped = scaled.astype(np.int16)
    share = float((scaled > 32767).mean())
    assert 0.003 < share < 0.005
    exact, robust, notes = both(wrapped)
    assert notes[0].startswith(f'{int((scaled > 32767).sum())} voxels with values down to -32')
    expected, _ = to_uint8(scaled)
    assert np.abs(robust.astype(int) - expected).max() <= 1
    assert np.abs(exact.astype(int) - expected).max() > 100


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 3), st.floats(-500, 500), st.booleans())
def test_it_is_freesurfers_without_outliers(
    seed: int, spread: float, shift: float, whole: bool
) -> None:
    """Signed, shifted and skewed intensities whose tails have no gap."""
    rng = np.random.default_rng(seed)
    data = shift + 100 * rng.lognormal(0, spread, (30, 30, 30)) * rng.choice([-1, 1])
    data = np.rint(data).clip(-32768, 32767).astype(np.int16) if whole else data
    tail = np.sort(data.ravel())
    if np.diff(tail).max() > 0.4 * np.ptp(np.quantile(tail, [0.01, 0.99])):
        return
    exact, robust, notes = both(data if whole else data.astype(np.float32))
    np.testing.assert_array_equal(robust, exact)
    assert notes == []


def test_the_rule_can_be_had_as_it_is(tmp_path: Path) -> None:
    data = HEAD.copy()
    data[3, 4, 5] = -32768
    volume = read_volume(write_scan(tmp_path / 'T1w.nii', data))
    exact = conform(volume, ConformOptions(window='freesurfer'))
    assert not any('far below' in line for line in exact.warnings)
    robust = conform(volume)
    assert any('1 voxel at -32768 lies far below' in line for line in robust.warnings)
    # In FreeSurfer's window air is as bright as the brain.
    bright = [float((one.data[one.data > 0] > 127).mean()) for one in (exact, robust)]
    assert bright[0] > bright[1] + 0.3


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.float32])
def test_of_ct_only_brain_and_fluid_count(dtype: type, tmp_path: Path) -> None:
    """Bone and air, however bright and dark, change nothing in between."""
    brain = np.clip(HEAD // 12, 1, 79)
    brain[0, 0, :2] = 0, 80
    expected = conform(read_volume(write_scan(tmp_path / 'clipped.nii', brain.astype(dtype))))
    low, high = (0, 255) if dtype == np.uint8 else (-1024, 3071)
    data = np.select([brain == 0, brain == 80], [low, high], brain).astype(dtype)
    volume = read_volume(write_scan(tmp_path / 'ct.nii', data))
    got = conform(volume, ConformOptions(ct=True))
    np.testing.assert_array_equal(got.data, expected.data)
    assert (got.data != conform(volume).data).any()
    assert not got.unchanged
