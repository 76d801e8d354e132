"""Cubes that overlap, and the flipped scan, against sums made here."""

from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_plan
from brainchop_bids.inference.run import run_network
from brainchop_bids.inference.subvolumes import Subvolumes
from brainchop_bids.models.labels import LabelTable
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import ModelError, SettingsError
from brainchop_bids.system.resources import Granted
from tests.tfjs_folder import two_layers

SHAPE = (20, 17, 23)
DATA = np.random.default_rng(2).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.mark.parametrize('text', ['64', '64+overlap:32', '38+overlap:4+random:9+vote', '16+mean'])
def test_rules_are_read_and_written(text: str) -> None:
    assert str(Subvolumes.parse(text)) == text


@pytest.mark.parametrize(
    'text',
    ['', 'big', '4', '64+overlap:64', '64+overlap', '64+mean+vote', '64+x:1', '64+random:-1'],
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        Subvolumes.parse(text)


@pytest.mark.parametrize('size', [8, 16, 32])
@pytest.mark.parametrize('more', ['', '+overlap:3', '+overlap:5+random:4+mean', '+random:7+vote'])
def test_cubes_reach_every_voxel(size: int, more: str) -> None:
    seen = np.zeros(SHAPE, int)
    tiles = Subvolumes.parse(f'{size}{more}').tiles(SHAPE)
    for tile in tiles:
        seen[tile.own] += 1
    assert seen.min() >= 1
    if more:
        starts = [tile.own[2].start for tile in tiles]
        assert starts == sorted(starts)


@pytest.mark.parametrize('combine', ['mean', 'vote', 'gaussian'])
def test_cubes_are_combined(tmp_path: Path, combine: str) -> None:
    """Each cube by itself through the engine, added up over the whole volume in NumPy."""
    rule = Subvolumes.parse(f'8+overlap:3+random:5+{combine}')
    engine = OpenvinoEngine(load_spec(two_layers(tmp_path / 'net')), threads=2)
    found = np.zeros((*SHAPE, 3), np.float32)
    labels = engine.segment(DATA, probabilities=found, subvolumes=rule)
    sums, weights = np.zeros((*SHAPE, 3)), np.zeros(SHAPE)
    line = np.exp(-(((np.arange(8) - 3.5) / 1.0) ** 2) / 2)
    weight = np.ones((8, 8, 8))
    if combine == 'gaussian':
        weight = np.maximum(line[:, None, None] * line[:, None] * line, 1e-6)
    low, high = DATA.min(), DATA.max()
    for tile in rule.tiles(SHAPE):
        # The extremes of the whole volume, so that the cube is scaled as it is there.
        cube = np.zeros((8, 8, 16), np.uint8)
        cube[:, :, :8] = DATA[tile.own]
        cube[0, 0, 12:14] = low, high
        part = np.zeros((8, 8, 16, 3), np.float32)
        one = Subvolumes(8)
        engine.probabilities(cube, part, subvolumes=one)
        values = part[:, :, :8]
        if combine == 'vote':
            values = np.eye(3)[values.argmax(-1)]
        sums[tile.own] += weight[..., None] * values
        weights[tile.own] += weight
    expected = sums / weights[..., None]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    best = np.sort(expected, -1)
    clear = best[..., -1] - best[..., -2] > 1e-5
    np.testing.assert_array_equal(labels[clear], expected.argmax(-1)[clear])


@pytest.mark.parametrize('wanted', [True, False])
def test_the_flipped_scan_counts_as_much(tmp_path: Path, wanted: bool) -> None:
    folder = two_layers(tmp_path / 'net')
    (folder / 'labels.json').write_text('{"0": "x", "1": "Left-Thalamus", "2": "Right-Thalamus"}')
    spec = load_spec(folder)
    engine = OpenvinoEngine(spec, threads=2)
    plan = make_plan(spec, SHAPE, Granted(4.0, 'a test'), InferenceOptions(device='cpu', tta=True))
    there, back = (np.zeros((*SHAPE, 3), np.float32) for _ in range(2))
    engine.probabilities(DATA, there)
    engine.probabilities(np.ascontiguousarray(DATA[::-1]), back)
    expected = (there + back[::-1][..., [0, 2, 1]]) / 2
    names = iter('abc')
    found = np.zeros((*SHAPE, 3), np.float32) if wanted else None
    labels = run_network(engine, plan, DATA, lambda: tmp_path / next(names), probabilities=found)
    if found is not None:
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, expected.argmax(-1))


def test_labels_change_sides() -> None:
    names = ['Unknown', 'ctx-lh-cuneus', 'Brain-Stem', 'ctx-rh-cuneus', 'leftAmygdala']
    table = LabelTable.from_names([*names, 'rightAmygdala', 'Hippocampus L', 'Hippocampus R'])
    assert table.mirrored() == (0, 3, 2, 1, 5, 4, 7, 6)
    with pytest.raises(ModelError, match='no counterpart'):
        LabelTable.from_names(['x', 'Left-Caudate']).mirrored()


def test_upstreams_parcellation_changes_sides(shared: Path) -> None:
    table = load_spec(shared / 'models' / 'brainchop' / 'model21_104class').labels
    sides = table.mirrored()
    assert sorted(sides) == list(range(104))
    codes = table.values('freesurfer')
    pairs = {codes[i]: codes[j] for i, j in enumerate(sides)}
    assert pairs[10] == 49
    assert pairs[2] == 41
    assert pairs[1022] == 2022
    assert pairs[16] == 16
    assert sum(a == b for a, b in pairs.items()) == 104 - 2 * 34 - 2 * 13
