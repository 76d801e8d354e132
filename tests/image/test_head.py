"""The box around the head, on real scans: what it holds, and that nothing in it changes."""

from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.image.conform import conform
from brainchop_bids.image.head import head_box
from brainchop_bids.image.io import read_volume
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.tiles import exact_tiles
from brainchop_bids.models.spec import load_spec

SCANS = (
    'ds000011/sub-02/anat/sub-02_T1w.nii.gz',
    'ds000011/sub-06/anat/sub-06_T1w.nii.gz',
    't1w/brainchop_t1_crop.nii.gz',
)


@pytest.mark.parametrize('scan', SCANS)
def test_labels_inside_are_those_of_the_whole(shared: Path, scan: str) -> None:
    """Not nearly: the same, but for ties that rounding decides; and no brain lies outside."""
    data = conform(read_volume(shared / 'data' / scan)).data
    box = head_box(data, (4, 4, 4))
    assert np.prod([side.stop - side.start for side in box]) < 0.65 * data.size
    spec = load_spec(shared / 'models' / 'brainchop' / 'model5_gw_ae')
    assert spec.reach is not None
    engine = OpenvinoEngine(spec, threads=2)
    whole = engine.segment(data)
    found = engine.segment(data, tiles=exact_tiles(data.shape, *spec.reach, box=box))
    assert np.count_nonzero(found[box] != whole[box]) <= 5
    # Specks of noise in the air at most.
    outside = whole.copy()
    outside[box] = 0
    assert np.count_nonzero(outside) < 1e-4 * np.count_nonzero(whole)


def test_without_a_head_it_is_everything() -> None:
    for data in (np.zeros((20, 20, 20), np.uint8), np.full((20, 20, 20), 9, np.uint8)):
        assert head_box(data, (0, 0, 0)) == (slice(0, 20),) * 3
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 32)).astype(np.uint8)
    assert head_box(noise, (0, 0, 0)) == (slice(0, 32),) * 3


def test_a_ball_its_margin_and_specks() -> None:
    data = np.zeros((64, 64, 64), np.uint8)
    data[20:40, 16:41, 24:48] = 200
    data[60, 60, 60] = 255
    assert head_box(data, (0, 0, 0), 1) == (slice(20, 40), slice(16, 41), slice(24, 48))
    x, y, z = head_box(data, (4, 30, 0), 8)
    assert (x, y, z) == (slice(16, 48), slice(0, 64), slice(24, 48))
