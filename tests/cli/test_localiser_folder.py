"""A localiser's folder in all commands: read, checked and converted, but never segmented with."""

import json
from pathlib import Path

import pytest

from brainchop_bids.cli import localise, models, run, segment
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.builders import DEMO
from tests.models.networks import write_localiser

load_tensorflow()

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_localiser(tmp_path_factory.mktemp('models') / 'finder')


def one_line(capsys: Captured, *parts: str) -> None:
    [line] = capsys.readouterr().err.splitlines()
    assert all(part in line for part in parts), line


def test_it_is_listed_checked_and_converted(
    tmp_path: Path, folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path / 'none'))
    assert models.main(['list', '--models-dir', str(folder.parent)]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith('finder')]
    name, task, classes, _, memory, seconds, *_ = row.split()
    assert (name, task, classes) == ('finder', 'localise', '2')
    # Not those of 256^3 voxels.
    assert float(memory) < 0.5
    assert float(seconds) <= 1
    assert models.main(['info', str(folder)]) == 0
    assert '64 x 64 x 1\n' in capsys.readouterr().out
    for form in ('tfjs', 'onnx'):
        out = tmp_path / form
        assert models.main(['convert', str(folder), form, str(out)]) == 0
        assert json.loads((out / 'brainchop.json').read_text())['task'] == 'localise'
    assert models.main(['verify', str(folder), *map(str, tmp_path.iterdir())]) == 0
    said = capsys.readouterr().out
    assert said.count('both engines compute test frames to') == 3


def test_segmenting_with_it_is_refused(tmp_path: Path, folder: Path, capsys: Captured) -> None:
    scan, out = str(tmp_path / 'scan.nii.gz'), str(tmp_path / 'out')
    (tmp_path / 'scan.nii.gz').touch()
    assert segment.main(['--model', str(folder), scan, f'{out}.nii.gz']) == 2
    one_line(capsys, 'brainchop-segment: error: ', str(folder), 'brainchop-localise')


def test_the_app_refuses_it(tmp_path: Path, folder: Path, capsys: Captured) -> None:
    command = [str(DEMO), str(tmp_path / 'out'), 'participant']
    code = run.main([*command, '--model', str(folder), '-w', str(tmp_path / 'work')])
    assert code == 2
    one_line(capsys, 'brainchop: error: ', str(folder), 'brainchop-localise')
    assert not (tmp_path / 'out').exists() or not any((tmp_path / 'out').iterdir())


def test_a_model_for_segmentation_is_no_localiser(tmp_path: Path, capsys: Captured) -> None:
    assert localise.main(['--model', 'tissue', str(tmp_path / 'scan.nii.gz')]) == 2
    one_line(capsys, 'brainchop-localise: error: ', 'tissue: is no localiser', 'expected localise')


def test_a_network_of_volumes_is_no_localiser(
    tmp_path: Path, folder: Path, capsys: Captured
) -> None:
    from tests.tfjs_folder import two_layers

    two_layers(tmp_path / 'net', classes=2)
    (tmp_path / 'net' / 'brainchop.json').write_text('{"task": "localise"}')
    assert localise.main(['--model', str(tmp_path / 'net'), 'scan.nii.gz']) == 2
    one_line(capsys, 'is no localiser; expected a network of images')
