"""Cross-validation of an iSeg-like dataset of five subjects in one command, and an ensemble."""

import csv
import os
import statistics
from pathlib import Path

import keras
import numpy as np
import pytest

from brainchop_bids.cli.train import main
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.keras_model import build_model
from brainchop_bids.models.spec import load_spec
from brainchop_bids.training.report.scores import read_scores
from tests.training.iseg import write_iseg

CONFIG = """
workers = 1
checkpoint_every = 60
validation_cubes = 1
[data]
folder = "{folder}"
layout = "iseg2017"
mapping = "iseg_to_tissue"
cache = "{cache}"
folds = {folds}
[model]
channels = 4
dilations = [1, 2]
[augmentation]
rigid = 0
zoom = 0
elastic = 0
crop = 0
bias = 0
blur = 0
noise = 0
anisotropy = 0
gamma = 0
[card]
name = "tiny"
[[stages]]
steps = 60
cube = [16, 24, 16]
batch = 2
learning_rate = 2e-2
cubes_per_volume = 64
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('iseg')
    write_iseg(folder / 'data', 5, (24, 32, 42))
    path = folder / 'tiny.toml'
    path.write_text(CONFIG.format(folder=folder / 'data', cache=folder / 'cache', folds=2))
    return path


def test_all_folds_and_one_table(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    command = [str(config), '--out', str(out), '--cross-validate', '--ensemble']
    assert main(command) == 0
    said = capfd.readouterr()
    assert 'Dice of 5 held-out scans in 2 folds' in said.out
    folds = [read_scores(out / f'fold-{i}' / 'held_out.csv') for i in range(2)]
    # Each subject is held out once.
    assert sorted({row.scan for fold in folds for row in fold}) == [
        f'sub-{i}' for i in range(1, 6)
    ]
    with (out / 'cross_validation.tsv').open() as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    assert [row['label'] for row in rows] == ['GM', 'WM', 'CSF', 'mean']
    for row in rows[:3]:
        values = [
            statistics.mean(line.dice for line in fold if line.label == row['label'])
            for fold in folds
        ]
        assert float(row['mean']) == pytest.approx(statistics.mean(values), abs=1e-4)
        assert float(row['sd']) == pytest.approx(statistics.stdev(values), abs=1e-4)
    # Shells of other intensities are learnt in a few steps, at least the largest one.
    assert max(float(row['mean']) for row in rows) > 0.2

    # The ensemble's logits are the mean of the folds', in the engines' own form.
    networks = [read_network(out / f'fold-{i}' / 'tiny')[0] for i in range(2)]
    image = np.random.default_rng(0).random((1, 12, 12, 12, 1), np.float32)
    networks.append(read_network(out / 'ensemble')[0])
    *logits, found = (
        keras.ops.convert_to_numpy(build_model(network)(image)) for network in networks
    )
    np.testing.assert_allclose(found, np.mean(logits, 0), rtol=1e-4, atol=1e-4)
    # Of MeshNets it is a MeshNet, for whole volumes.
    assert load_spec(out / 'ensemble').block is None

    # Again: nothing is trained, and a fold that is lost is trained to the same scores.
    times = [os.stat(out / f'fold-{i}' / 'held_out.csv').st_mtime_ns for i in range(2)]
    table = (out / 'cross_validation.tsv').read_bytes()
    (out / 'fold-1' / 'held_out.csv').unlink()
    assert main(command[:-1]) == 0
    again = [os.stat(out / f'fold-{i}' / 'held_out.csv').st_mtime_ns for i in range(2)]
    assert [i for i in range(2) if times[i] != again[i]] == [1]
    assert (out / 'cross_validation.tsv').read_bytes() == table
    assert main([*command[:-1], '--set', 'seed=9']) == 2
    assert 'holds a run with another config' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('more', 'code', 'said'),
    [
        (('--ensemble',), 2, '--ensemble averages the networks of --cross-validate; give both'),
        (('--cross-validate', '--set', 'data.folds=7'), 2, '5 subjects; expected no more folds'),
        (('--cross-validate', '--set', 'data.hold_out=["1"]'), 2, 'both say what is held out'),
    ],
)
def test_what_cannot_be_cross_validated(
    config: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    code: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main([str(config), '--out', str(tmp_path / 'out'), *more]) == code
    assert said in capfd.readouterr().err
