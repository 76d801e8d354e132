"""Whole runs on scans with labels: from another project's folder to a model that segments."""

import csv
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from brainchop_bids.cli.train import main
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.spec import load_spec
from brainchop_bids.training.checkpoints import list_states
from tests.training.iseg import write_iseg
from tests.training.maps import write_maps
from tests.training.runs import command, kill_after, run

FILES = ('model.json', 'group1-shard1of1.bin', 'brainchop.json', 'README.md')
# Two channels, a sum of losses, averaged weights: as little as possible is what it is by default.
CONFIG = """
seed = 5
workers = 1
checkpoint_every = 10
validation_cubes = 1
[data]
folder = "{folder}"
layout = "iseg2017"
channels = ["T1w", "T2w"]
mapping = "iseg_to_tissue"
normalization = "zscore"
hold_out = ["2"]
cache = "{cache}"
[model]
architecture = "{architecture}"
channels = 8
levels = 2
dilations = [1, 2, 1]
[[loss.terms]]
kind = "jaccard"
[[loss.terms]]
kind = "focal"
weight = 2.0
options = {{ gamma = 1.0 }}
[optimizer]
name = "adamw"
schedule = "cosine"
weight_decay = 1e-4
ema = 0.5
[validation]
every = {every}
[augmentation]
elastic = 0.0
[card]
name = "infant"
[[stages]]
steps = {steps}
cube = 32
batch = 2
learning_rate = 1e-2
cubes_per_volume = 8
centred = 0.6
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_iseg(tmp_path_factory.mktemp('iseg') / 'data', 2, (36, 48, 64))


def write_config(folder: Path, to: Path, **changes: object) -> Path:
    values = {'architecture': 'meshnet', 'steps': 80, 'every': 20, 'cache': to / 'cache'}
    path = to / 'infant.toml'
    path.write_text(CONFIG.format(**{**values, 'folder': folder, **changes}))
    return path


@pytest.fixture(scope='module')
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp('infant')
    result = run(write_config(folder, place), place / 'run')
    assert result.returncode == 0, result.stderr
    assert 'whole scans: mean Dice' in result.stdout
    return place / 'run'


def means(out: Path) -> dict[int, float]:
    """Return the mean Dice of each validation."""
    with (out / 'validation.csv').open() as file:
        rows = list(csv.DictReader(file))
    steps = sorted({int(row['step']) for row in rows})
    found = {step: [float(r['dice']) for r in rows if int(r['step']) == step] for step in steps}
    return {step: float(np.mean(values)) for step, values in found.items()}


def test_whole_scans_get_better_and_are_written_down(finished: Path) -> None:
    course = means(finished)
    assert list(course) == [20, 40, 60, 80]
    assert max(course.values()) > 0.8
    events = EventAccumulator(str(finished / 'tensorboard'))
    events.Reload()
    assert {'loss', 'validation/dice', 'validation/dice/GM'} <= set(events.Tags()['scalars'])
    assert {'validation/best', 'validation/worst'} <= set(events.Tags()['images'])
    losses = [event.value for event in events.Scalars('loss')]
    assert losses[-1] < losses[0] / 2
    logged = {event.step: event.value for event in events.Scalars('validation/dice')}
    assert logged == pytest.approx(course, abs=1e-5)


def test_it_ends_with_a_page_and_a_card(finished: Path) -> None:
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            seen.append(data)

    Reader().feed((finished / 'report.html').read_text())
    text = ' '.join(seen)
    assert 'Training of infant' in text
    assert 'sub-2' in text
    card = (finished / 'infant' / 'README.md').read_text()
    assert 'meshnet, 8 channels, dilations 1, 2, 1' in card
    assert '1 labelled scans of `data`' in card
    assert '1 jaccard + 2 focal' in card
    assert re.search(r'The weights are those of step \d+: mean Dice 0\.\d+ over 1 held-out', card)


def test_what_was_trained_labels_a_new_scan(finished: Path, folder: Path, tmp_path: Path) -> None:
    spec = load_spec(finished / 'infant')
    assert spec.inputs == ('T1w', 'T2w')
    assert [label.name for label in spec.labels] == ['BG', 'GM', 'WM', 'CSF']
    # A scan that it has not seen.
    scan, other = (folder / f'subject-2-{name}.hdr' for name in ('T1', 'T2'))
    done = subprocess.run(
        [
            sys.executable, '-m', 'brainchop_bids.cli.segment', scan,
            tmp_path / 'labels.nii.gz', '--channel', other, '--model', finished / 'infant',
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.asarray(nib.load(tmp_path / 'labels.nii.gz').dataobj)
    truth = np.asarray(nib.load(folder / 'subject-2-label.hdr').dataobj)[..., 0]
    for index, code in ((1, 150), (2, 250), (3, 10)):
        both = 2 * ((found == index) & (truth == code)).sum()
        assert both / ((found == index).sum() + (truth == code).sum()) > 0.5, code


@pytest.mark.slow
def test_a_killed_run_of_a_u_net_ends_the_same(folder: Path, tmp_path: Path) -> None:
    config = write_config(folder, tmp_path, architecture='unet', steps=40, every=20)
    more = ['stages.0.norm="batch"', 'model.dropout=0.1', 'optimizer.accumulate=2']
    changes = [*more, 'stages.0.labelled=0.1']
    whole, out = tmp_path / 'whole', tmp_path / 'run'
    result = run(config, whole, *changes)
    assert result.returncode == 0, result.stderr
    # Between two validations, with gradients gathered and averages begun.
    kill_after(1, config, out, *changes)
    assert list_states(out / 'checkpoints')[-1][1] < 40
    result = run(config, out, *changes)
    assert result.returncode == 0, result.stderr
    assert 'resuming at step' in result.stdout
    for name in ('validation.csv', 'log.csv', *(f'infant/{name}' for name in FILES)):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert load_spec(out / 'infant').block == (32, 32, 32)


@pytest.mark.slow
def test_a_stage_that_gets_no_better_ends_early(folder: Path, tmp_path: Path) -> None:
    changes = ['validation.every=10', 'validation.patience=1', 'stages.0.learning_rate=1e-9']
    config = write_config(folder, tmp_path)
    result = run(config, tmp_path / 'run', *changes)
    assert result.returncode == 0, result.stderr
    assert 'mean Dice has not improved after step 10' in result.stdout
    assert list(means(tmp_path / 'run')) == [10, 20]
    # Nothing is left to do.
    again = run(config, tmp_path / 'run', *changes)
    assert again.returncode == 0, again.stderr
    assert list(means(tmp_path / 'run')) == [10, 20]


def test_tissue_learns_two_labels_with_its_first_layers_frozen(tmp_path: Path) -> None:
    """Fine-tuning takes less than two minutes on a processor."""
    table = tmp_path / 'brain.tsv'
    codes = {0: 0, 2: 1, 3: 1, 4: 1, 24: 1, 41: 1, 42: 1, 43: 1, 516: 0}
    lines = [f'{code}\t{index}\t{"brain" if index else "BG"}' for code, index in codes.items()]
    table.write_text('code\tindex\tlabel\n' + '\n'.join(lines) + '\n')
    config = tmp_path / 'brain.toml'
    config.write_text(f"""
workers = 1
checkpoint_every = 20
validation_cubes = 2
[data]
label_maps = "{write_maps(tmp_path / 'maps', 2)}"
hold_out = ["map_1"]
mapping = "{table}"
[model]
dilations = [1, 2, 4, 8, 16, 8, 4, 2]
[synthesis]
t1 = 1.0
crop = 0.0
[card]
name = "brain"
[[stages]]
steps = 40
cube = 64
stride = 2
learning_rate = 5e-3
cubes_per_volume = 10
""")
    start = ['--init', 'tissue', '--freeze', '0-5']
    arguments = [*command(config, tmp_path / 'run'), *start]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r'^conv3d_0 +3x3x3x1x16 +448 +reused +frozen', done.stdout, re.MULTILINE)
    assert re.search(r'^conv3d_7 +3x3x3x16x16 +6,928 +reused +trained', done.stdout, re.MULTILINE)
    assert re.search(r'^output +1x1x1x16x2 +34 +new +trained', done.stdout, re.MULTILINE)
    packaged = Path(__file__).parents[3] / 'brainchop_bids' / 'data' / 'models' / 'tissue'
    before, after = (read_network(path)[0] for path in (packaged, tmp_path / 'run' / 'brain'))
    for i in range(8):
        kept = np.array_equal(
            before[f'conv3d_{i}'].weights['kernel'], after[f'conv3d_{i}'].weights['kernel']
        )
        assert kept == (i <= 5), i
    with (tmp_path / 'run' / 'log.csv').open() as file:
        scores = [float(list(row.values())[-1]) for row in csv.DictReader(file)]
    assert scores[-1] > 0.8


@pytest.mark.parametrize(
    ('change', 'code', 'said'),
    [
        ('data.layout="iseg"', 2, 'expected one of iseg2017'),
        ('data.channels=["T1w", "FLAIR"]', 2, 'has no FLAIR'),
        ('data.mapping="mrbrains_to_tissue"', 1, 'is not in the table'),
        ('data.hold_out=["7"]', 2, 'no subject 7'),
        ('data.hold_out=[]', 2, 'set data.hold_out or data.folds'),
        ('init.model="nothing"', 1, 'nothing'),
        ('model.architecture="unett"', 2, 'did you mean'),
        ('model={architecture="unet", levels=7}', 2, 'multiple'),
        ('loss.terms=[{kind="focal", options={gama=1}}]', 2, 'gamma'),
        ('stages.0.learning_rate=1e30', 1, 'subject-1-T1.hdr'),
        ('devices=2', 2, '--backend jax'),
    ],
)
def test_what_goes_wrong_is_one_line(
    folder: Path,
    finished: Path,
    tmp_path: Path,
    change: str,
    code: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # What was conformed before is taken from where it is kept.
    config = write_config(folder, tmp_path, cache=finished.parent / 'cache')
    assert main([str(config), '--out', str(tmp_path / 'run'), '--set', change]) == code
    told = capfd.readouterr().err
    errors = [line for line in told.splitlines() if 'brainchop-train: error' in line]
    assert len(errors) == 1, told
    assert said in errors[0]
    assert 'Traceback' not in told
    assert not (tmp_path / 'run' / 'infant').exists()
