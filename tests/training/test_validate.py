"""Whole volumes scored by the product's own inference, written down, and used to stop early."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from brainchop_bids.evaluation.metrics import agreement
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_engine, make_plan
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.keras_model import network_of
from brainchop_bids.models.meshnet import build_meshnet
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import DatasetError, InputError, ModelError
from brainchop_bids.system.resources import Granted
from brainchop_bids.training.report.overlays import draw_overlay
from brainchop_bids.training.report.scores import (
    Patience,
    Scores,
    ValidationLog,
    best_step,
    list_pictures,
    read_pictures,
)
from brainchop_bids.training.validate import (
    ValidationScan,
    Validator,
    class_dice,
    preserve_state,
)

NAMES = ('BG', 'GM', 'WM')
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], np.uint8)


def write_model(folder: Path, *, channels: int = 1) -> Path:
    """Write a MeshNet whose classes follow brightness: dark, grey, bright."""
    model = build_meshnet(channels=4, dilations=(1, 2), classes=3, in_channels=channels)
    for layer in model.layers:
        weights = layer.get_weights()
        if weights:
            layer.set_weights([np.zeros_like(values) for values in weights])
    first, second, last = (layer for layer in model.layers if layer.get_weights())
    for layer in (first, second):
        kernel, bias = layer.get_weights()
        kernel[1, 1, 1, 0, 0] = 1
        layer.set_weights([kernel, bias])
    kernel, _ = last.get_weights()
    # Lines that cross at 0.25 and at 0.75 of the brightness.
    kernel[0, 0, 0, 0] = (0, 4, 8)
    last.set_weights([kernel, np.array([0, -1, -4], np.float32)])
    folder.mkdir(parents=True, exist_ok=True)
    save_tfjs(network_of(model), folder)
    labels = [
        {'index': i, 'name': name, 'color': '#{:02x}{:02x}{:02x}'.format(*COLORS[i].tolist())}
        for i, name in enumerate(NAMES)
    ]
    facts = {'name': folder.name, 'labels': labels, 'normalization': 'minmax'}
    if channels > 1:
        facts['inputs'] = ['T1w', 'T2w'][:channels]
    (folder / 'brainchop.json').write_text(json.dumps(facts))
    return folder


def make_scan(name: str, noise: float, seed: int, size: int = 40) -> ValidationScan:
    """Make a ball in a ball, and an image of it."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1.3, 1.3, size)] * 3, indexing='ij'))
    radius = np.sqrt((grid**2).sum(0))
    labels = ((radius < 1).astype(np.uint8) + (radius < 0.6)).astype(np.uint8)
    image = np.array([10.0, 128.0, 245.0])[labels] + rng.normal(0, noise, labels.shape)
    image[0, 0, 0], image[-1, -1, -1] = 0, 255
    return ValidationScan(name, np.clip(image, 0, 255).astype(np.uint8), labels)


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('models') / 'threshold')


@pytest.fixture(scope='module')
def scans() -> list[ValidationScan]:
    return [make_scan('quiet', 5, 0), make_scan('loud', 90, 1), make_scan('medium', 50, 2)]


@pytest.fixture(scope='module')
def scores(model: Path, scans: list[ValidationScan]) -> Scores:
    return Validator(scans, NAMES).score(model)


def test_dice_is_what_others_compute_of_the_apps_own_labels(
    model: Path, scans: list[ValidationScan], scores: Scores
) -> None:
    spec = load_spec(model)
    for scan, row in zip(scans, scores.dice, strict=True):
        # The whole volume, by TensorFlow: another way than the validator's.
        options = InferenceOptions(engine='tensorflow', device='cpu')
        plan = make_plan(spec, scan.image.shape, Granted(8.0, 'a test'), options)
        found = make_engine(plan, spec, 1, None).segment(scan.image)
        for label in (1, 2):
            ours = agreement(found == label, scan.labels == label, (1, 1, 1), surfaces=False)
            assert row[label] == pytest.approx(ours.dice)
    assert (scores.best, scores.worst) == ('quiet', 'loud')
    assert scores.ranked == ['loud', 'medium', 'quiet']
    assert scores.mean == pytest.approx(scores.dice[:, 1:].mean())
    assert scores.per_label['GM'] == pytest.approx(scores.dice[:, 1].mean())
    assert 0.3 < scores.per_scan['loud'] < scores.per_scan['quiet'] <= 1


def test_tensorflow_takes_over_where_openvino_is_missing(
    model: Path, scans: list[ValidationScan], scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'openvino', None)
    state = random.getstate()
    found = Validator(scans, NAMES).score(model)
    np.testing.assert_array_equal(found.dice, scores.dice)
    assert random.getstate() == state


def test_scans_of_two_channels_are_scored(tmp_path: Path) -> None:
    folder = write_model(tmp_path / 'two', channels=2)
    scan = make_scan('a', 5, 0)
    other = np.random.default_rng(0).integers(0, 255, scan.image.shape).astype(np.uint8)
    both = ValidationScan('a', np.stack([scan.image, other], -1), scan.labels)
    assert Validator([both], NAMES).score(folder).mean > 0.99
    with pytest.raises(ModelError, match='takes volumes of 2 channels'):
        Validator([scan], NAMES).score(folder)


def test_classes_that_are_nowhere_count_for_nothing() -> None:
    truth, found = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    truth[0], found[0, 0] = 1, 1
    found[3] = 2
    dice = class_dice([truth], [found], 4)
    assert dice[1] == pytest.approx(2 * 4 / (16 + 4))
    assert dice[2] == 0
    assert np.isnan(dice[3])
    # Over several volumes voxels are added up, as over the cubes of a batch.
    together = class_dice([truth, truth], [found, truth], 4)
    assert together[1] == pytest.approx(2 * 20 / (32 + 20))
    assert np.isnan(class_dice([], [], 2)).all()
    scores = Scores(('a', 'b'), ('BG', 'X', 'Y'), np.full((2, 3), np.nan), COLORS)
    assert np.isnan(scores.mean)
    assert (scores.best, scores.worst) == ('a', 'a')


def test_what_does_not_fit_is_one_line(model: Path) -> None:
    scan = make_scan('sub-01', 5, 0, size=32)
    for bad, said in (
        ([], 'no scan to score'),
        ([scan, scan], '2 scans are called sub-01'),
        ([ValidationScan('a', scan.image[1:], scan.labels)], 'does not fit its labels'),
        ([ValidationScan('a', scan.image, scan.labels * 2)], 'has the label 4'),
    ):
        with pytest.raises(InputError, match=said):
            Validator(bad, NAMES)
    with pytest.raises(ModelError, match='has 3 classes, the validation 4'):
        Validator([scan], (*NAMES, 'CSF')).score(model)


def test_pictures_show_scan_truth_and_labels(
    scans: list[ValidationScan], scores: Scores, model: Path
) -> None:
    assert list(scores.pictures) == ['quiet', 'loud', 'medium']
    picture = scores.pictures['quiet']
    assert picture.dtype == np.uint8
    light, truth, found = (
        part.astype(int) for part in np.split(picture, 3, axis=1)
    )  # fmt: skip
    assert (np.ptp(light, axis=2) == 0).all()
    # The ball of radius 1 and the inner one, in three cuts of their own area.
    for label, area in ((1, np.pi * (1 - 0.36)), (2, np.pi * 0.36)):
        voxels = 3 * area / (2.6 / 39) ** 2
        for panel in (truth, found):
            count = (panel == COLORS[label]).all(-1).sum()
            assert count == pytest.approx(voxels, rel=0.05)
    assert (truth == found).all(-1).mean() > 0.98


def test_sides_in_pictures_are_the_participants() -> None:
    """The first axis of LIA runs from right to left; left belongs on the left."""
    image = np.full((30, 30, 30), 100, np.uint8)
    truth = np.zeros_like(image)
    truth[8:22, 10:20, 10:20] = 1
    truth[20:22, 10:20, 10:20] = 2
    picture = draw_overlay(image, truth, np.zeros_like(truth), COLORS)
    for rows in np.split(picture, 3)[:2]:
        part = np.split(rows, 3, axis=1)[1]
        green = np.flatnonzero((part == COLORS[2]).all(-1).any(0))
        red = np.flatnonzero((part == COLORS[1]).all(-1).any(0))
        assert green.max() < red.min()
    assert draw_overlay(image, truth * 0, truth * 0, COLORS).shape == (90, 90, 3)


def test_small_paired_structures_are_not_cut_between() -> None:
    image = np.full((40, 40, 40), 100, np.uint8)
    truth = np.zeros_like(image)
    truth[5:10, 15:25, 15:25] = truth[30:35, 15:25, 15:25] = 1
    sagittal = np.split(draw_overlay(image, truth, truth, COLORS), [30, 60])[-1]
    assert (sagittal == COLORS[1]).all(-1).any()


def write_run(out: Path, scores: Scores, steps: tuple[int, ...], begin: int = 0) -> ValidationLog:
    from tensorboardX import SummaryWriter

    log = ValidationLog(out)
    log.resume(begin)
    with SummaryWriter(
        str(out / 'tensorboard'), purge_step=begin + 1 if begin else None
    ) as writer:
        for step in steps:
            dice = scores.dice - 0.5 * abs(step - 300) / 400
            log.add(
                step,
                Scores(scores.scans, scores.labels, dice, scores.colors, scores.pictures),
                writer,
            )
    return log


def test_a_resumed_run_ends_with_the_same_files(scores: Scores, tmp_path: Path) -> None:
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    log = write_run(whole, scores, (100, 200, 300, 400))
    write_run(killed, scores, (100, 200, 300))
    # Killed before a checkpoint at 300: what was written then is forgotten.
    write_run(killed, scores, (300, 400), begin=200)
    files = sorted(path.relative_to(whole) for path in whole.rglob('*') if path.is_file())
    files = [path for path in files if path.parts[0] != 'tensorboard']
    assert [path.name for path in files] == [
        'step-000300.npz',
        'step-000400.npz',
        'validation.csv',
    ]
    for path in files:
        assert (whole / path).read_bytes() == (killed / path).read_bytes()
    with (whole / 'validation.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3 * 2
    last = [row for row in rows if row['step'] == '400' and row['scan'] == 'loud']
    assert [row['label'] for row in last] == ['GM', 'WM']
    expected = [scores.dice[1, i] - 0.125 for i in (1, 2)]
    np.testing.assert_allclose([float(row['dice']) for row in last], expected, atol=1e-6)
    assert best_step(log.means) == 300
    assert log.means[300] == pytest.approx(scores.mean, abs=1e-6)
    kept = [read_pictures(path) for _, path in list_pictures(whole / 'validation')]
    assert kept[0] is not None
    np.testing.assert_array_equal(kept[0].pictures['loud'], scores.pictures['loud'])
    # From the beginning again: nothing stays.
    ValidationLog(whole).resume(0)
    assert not (whole / 'validation.csv').exists()
    assert not list_pictures(whole / 'validation')


def test_tensorboards_own_reader_lists_validations(scores: Scores, tmp_path: Path) -> None:
    write_run(tmp_path, scores, (100, 200))
    events = EventAccumulator(str(tmp_path / 'tensorboard'))
    events.Reload()
    assert events.Tags()['scalars'] == [
        'validation/dice', 'validation/dice/GM', 'validation/dice/WM'
    ]  # fmt: skip
    assert events.Tags()['images'] == ['validation/best', 'validation/worst']
    assert [event.step for event in events.Scalars('validation/dice')] == [100, 200]
    value = events.Scalars('validation/dice/WM')[1].value
    assert value == pytest.approx(scores.dice[:, 2].mean() - 0.125)
    picture = events.Images('validation/worst')[0]
    assert (picture.height, picture.width) == scores.pictures['loud'].shape[:2]


def test_names_of_files_survive_the_table(scores: Scores, tmp_path: Path) -> None:
    name = 'a,"b"\n<script>;é'
    scan = make_scan(name, 5, 0, size=32)
    (kept,) = Validator([scan], NAMES).scans
    assert kept.name == 'a,"b" <script>;é'
    log = ValidationLog(tmp_path)
    log.add(1, Scores((kept.name,), NAMES, scores.dice[:1], COLORS, {kept.name: COLORS[None]}))
    again = ValidationLog(tmp_path)
    again.resume(1)
    assert [row.scan for row in again.rows] == [kept.name] * 2
    assert again.rows == log.rows


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / 'validation.csv').write_text('step,scan\n1,a\n')
    with pytest.raises(DatasetError, match=r'validation\.csv: is not a table of step, scan'):
        ValidationLog(tmp_path).resume(5)


def test_patience_ends_alike_when_it_is_read_again() -> None:
    means = {100: 0.5, 200: 0.6, 300: float('nan'), 400: 0.6, 500: 0.61, 600: 0.2, 700: 0.1}
    live = Patience(2)
    stopped = []
    for step, dice in means.items():
        live.add(step, dice)
        upto = {k: v for k, v in means.items() if k <= step}
        read = Patience.of(2, upto)
        assert (read.over, read.best_step, read.without_progress) == (
            live.over,
            live.best_step,
            live.without_progress,
        )
        stopped.append(live.over)
    assert stopped == [False, False, False, True, False, False, True]
    assert (live.best_step, live.best) == (500, 0.61)
    # A stage begins anew, and ends with its last step.
    assert not Patience.of(2, means, begin=500, end=600).over
    assert Patience.of(2, means, begin=100, end=400).best_step == 200
    assert not Patience.of(0, dict.fromkeys(range(50), 0.0)).over


def test_what_is_computed_inside_leaves_training_as_it_was() -> None:
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy('mixed_bfloat16')
    try:
        state = random.getstate()
        with preserve_state():
            layer = keras.layers.Dense(3)
            layer.build((None, 2))
            np.random.random()
            assert layer.compute_dtype == 'float32'
            assert random.getstate() != state
        assert random.getstate() == state
        assert keras.config.dtype_policy().name == 'mixed_bfloat16'
        first = np.random.random()
    finally:
        keras.config.set_dtype_policy('float32')
    keras.utils.set_random_seed(3)
    assert np.random.random() == first


def test_many_validations_hold_no_memory(model: Path) -> None:
    validator = Validator([make_scan('a', 5, 0, 96)], NAMES)
    sizes = []
    for _ in range(10):
        validator.score(model)
        resident = int(Path('/proc/self/statm').read_text().split()[1])
        sizes.append(resident * os.sysconf('SC_PAGE_SIZE') / 1e6)
    # Features of one scan have 14 MB; had each call kept them, 98 MB would have come together.
    assert sizes[-1] - sizes[2] < 30, sizes


def test_without_an_engine_it_says_what_to_install() -> None:
    pytest.importorskip('torch')
    script = """
import os, sys
os.environ['KERAS_BACKEND'] = 'torch'
for name in ('openvino', 'tensorflow', 'cc3d', 'jinja2'):
    sys.modules[name] = None
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.validate import Validator
try:
    Validator([], ['BG', 'GM'])
except SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'OpenVINO, which is not installed; pip install openvino' in done.stdout
    assert 'validation.every' in done.stdout
