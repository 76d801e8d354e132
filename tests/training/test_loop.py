"""Whole small runs: killed and resumed, written down, and stopped by what goes wrong."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from brainchop_bids.cli.train import main
from brainchop_bids.models.formats.tfjs import read_tfjs
from brainchop_bids.models.keras_model import build_model
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import BrainchopError, OutputError
from brainchop_bids.training.checkpoints import list_states
from tests.processes import gone, wait_for
from tests.training.maps import write_maps
from tests.training.runs import command, kill_after, run

CONFIG = """
seed = 3
workers = 2
checkpoint_every = 4
validation_cubes = 1
[data]
label_maps = "{maps}"
hold_out = ["map_1"]
[model]
channels = 3
dilations = [1, 2, 1]
[card]
name = "tiny"
status = "experimental"
labels = [{{ name = "BG" }}, {{ name = "GM" }}, {{ name = "WM" }}, {{ name = "CSF" }}]
[[stages]]
steps = 10
cube = 24
stride = 2
batch = 2
learning_rate = 1e-2
cubes_per_volume = 16
[[stages]]
steps = 6
cube = 16
learning_rate = 1e-3
cubes_per_volume = 16
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('training')
    maps = write_maps(folder / 'maps', 2)
    path = folder / 'tiny.toml'
    path.write_text(CONFIG.format(maps=maps))
    return path


@pytest.fixture(scope='module')
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('whole') / 'run'
    result = run(config, out)
    assert result.returncode == 0, result.stderr
    assert 'done; try it' in result.stderr
    assert '16/16' in result.stdout
    return out


def states(out: Path) -> list[str]:
    return [path.name for _, _, path in list_states(out / 'checkpoints')]


def test_it_ends_with_a_model_that_runs(finished: Path) -> None:
    spec = load_spec(finished / 'tiny')
    assert [label.name for label in spec.labels] == ['BG', 'GM', 'WM', 'CSF']
    assert str(spec.normalization) == 'quantile:0.02:0.98'
    assert not spec.warnings
    logits = build_model(read_tfjs(finished / 'tiny'))(np.zeros((1, 8, 8, 8, 1), np.float32))
    assert logits.shape == (1, 8, 8, 8, 4)
    card = (finished / 'tiny' / 'README.md').read_text()
    assert 'experimental' in card
    assert '| 0 | 10 | 2 x 24^3 | 2 |' in card
    assert states(finished) == ['stage-1_step-000004.npz', 'stage-1_step-000006.npz']


def test_a_killed_run_ends_with_the_same_weights(
    config: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'run'
    children = kill_after(2, config, out)
    first = states(out)
    # Workers must not outlive the run that they work for.
    assert len(children) >= 2
    assert gone(children, 30)
    assert first[-1] < 'stage-1_step-000006.npz'
    # As a machine that loses its power leaves it.
    newest = out / 'checkpoints' / first[-1]
    os.truncate(newest, newest.stat().st_size // 2)
    result = run(config, out)
    assert result.returncode == 0, result.stderr
    assert f'{newest}: checkpoint cannot be used (' in result.stdout
    assert f'; going on from the one before, {first[-2]}' in result.stdout
    assert 'resuming at step' in result.stdout
    for name in ('model.json', 'group1-shard1of1.bin', 'log.csv'):
        assert (out / 'tiny' / name).read_bytes() == (finished / 'tiny' / name).read_bytes()


@pytest.mark.slow
def test_a_run_stopped_politely_goes_on(config: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / 'run'
    with subprocess.Popen(
        command(config, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: states(out), 300)
        process.send_signal(signal.SIGTERM)
        assert 'stopped before the end' in process.communicate()[1]
    assert process.returncode == 75
    assert not (out / 'tiny').exists()
    assert run(config, out).returncode == 0
    name = 'group1-shard1of1.bin'
    assert (out / 'tiny' / name).read_bytes() == (finished / 'tiny' / name).read_bytes()


def test_tensorboards_own_reader_lists_scalars_and_images(finished: Path) -> None:
    events = EventAccumulator(str(finished / 'tensorboard'))
    events.Reload()
    scalars = events.Tags()['scalars']
    assert {'loss', 'learning_rate', 'dice/GM', 'validation_dice/WM'} <= set(scalars)
    assert [event.step for event in events.Scalars('loss')] == [4, 8, 10, 14, 16]
    assert events.Tags()['images'] == ['validation/0']
    picture = events.Images('validation/0')[0]
    # Image, truth and prediction of every second voxel of a cube of 24, side by side.
    assert (picture.height, picture.width) == (12, 36)
    with (finished / 'log.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row['step']) for row in rows] == [4, 8, 10, 14, 16]
    logged = [event.value for event in events.Scalars('loss')]
    np.testing.assert_allclose([float(row['loss']) for row in rows], logged, atol=1e-4)


def test_a_folder_of_another_run_is_refused(
    config: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), '--out', str(finished), '--set', 'seed=4']) == 2
    told = capfd.readouterr().err
    assert 'holds a run with another config' in told
    assert 'Traceback' not in told


@pytest.mark.parametrize(
    ('more', 'code', 'said'),
    [
        (('--set', 'stages.0.stps=1'), 2, 'did you mean stages[0].steps?'),
        (('--set', 'data.label_maps=nowhere'), 1, 'cannot be read'),
        (('--set', 'data.mapping=nothing.tsv'), 1, 'label table cannot be read'),
        (('--set', 'model.dilations=[1, 2, 1, 2]'), 2, 'need even dilations'),
        (('--set', 'loss.class_weights=[1.0]'), 2, 'class_weights'),
        (('--set', 'card.name=checkpoints'), 2, 'choose another'),
        (('--init', 'tissue', '--set', 'stages.0.stride=1'), 2, 'its layers are wider'),
        (('--init', 'tissue'), 2, 'would be lost; set stride = 1'),
        (('--set', 'card.derived={tissue = "no"}'), 1, 'one of the tables'),
        (('--set', 'card.derived={tissue = "aseg_to_tissue"}'), 1, 'has no place for GM'),
        (('--set', 'stages.0.learning_rate=1e30'), 1, 'lower the learning rate'),
    ],
)
def test_what_goes_wrong_is_one_line(
    config: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    code: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main([str(config), '--out', str(tmp_path / 'run'), *more]) == code
    told = capfd.readouterr().err
    errors = [line for line in told.splitlines() if line.startswith('brainchop-train: error:')]
    assert len(errors) == 1, told
    assert said in errors[0]
    assert 'Traceback' not in told
    # Only of a run that has begun something is left.
    assert (tmp_path / 'run').exists() == ('learning rate' in said)


def test_a_backend_that_is_missing_is_one_line(
    config: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'jax', None)
    assert main([str(config), '--out', str(tmp_path / 'run'), '--backend', 'jax']) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert said.endswith("jax is not installed here: pip install 'brainchop-bids[jax]'")
    assert not (tmp_path / 'run').exists()


def test_a_full_disk_keeps_the_last_good_checkpoint(config: Path, tmp_path: Path) -> None:
    out = tmp_path / 'run'
    # Checkpoints of the first stage have 9 kB, those of the second, with one layer more, 13 kB.
    limited = ['bash', '-c', 'ulimit -f 11; exec "$@"', 'bash', *command(config, out)]
    result = subprocess.run(limited, capture_output=True, text=True)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if 'brainchop-train: error' in line]
    assert len(errors) == 1
    assert 'stage-1_step-000004.npz: cannot be written' in errors[0]
    assert 'Traceback' not in result.stderr
    assert states(out) == ['stage-0_step-000008.npz', 'stage-0_step-000010.npz']
    assert len(list((out / 'checkpoints').iterdir())) == 2


def test_checkpoints_that_cannot_be_used(tmp_path: Path) -> None:
    from brainchop_bids.training import checkpoints
    from brainchop_bids.training.options import NetworkOptions, Stage
    from brainchop_bids.training.stages import build_stage

    model = build_stage(NetworkOptions(channels=2, dilations=(1,)), Stage(cube=8), 3)
    other = build_stage(NetworkOptions(channels=3, dilations=(1,)), Stage(cube=8), 3)
    for network in (model, other):
        network.compile('adam', 'mse')
    good = checkpoints.save_state(tmp_path, 0, 5, model)
    checkpoints.load_state(good, model)
    with pytest.raises(OutputError, match='those of another network'):
        checkpoints.load_state(good, other)
    newer = checkpoints.save_state(tmp_path, 0, 10, model)
    whole, said = newer.read_bytes(), []
    for length in (len(whole), *range(0, len(whole), 400), len(whole) - 1):
        newer.write_bytes(whole[:length])
        stage, step, path = checkpoints.newest_state(tmp_path, said.append)
        assert (stage, step, path) == ((0, 10, newer) if length == len(whole) else (0, 5, good))
        assert newer.exists() == (length == len(whole))
    assert len(set(said)) >= 1
    for line in said:
        assert line.startswith(f'{newer}: checkpoint cannot be used (')
        assert line.endswith(f'; going on from the one before, {good.name}')
    assert newer.with_name(f'{newer.name}.damaged').read_bytes() == whole[:-1]
    good.write_bytes(good.read_bytes()[:100])
    with pytest.raises(BrainchopError, match='checkpoint cannot be used'):
        checkpoints.load_state(good, model)
    with pytest.raises(OutputError, match='nor can one before it; remove them to begin again'):
        checkpoints.newest_state(tmp_path, said.append)
    good.unlink()
    assert checkpoints.newest_state(tmp_path, said.append) == (0, 0, None)
