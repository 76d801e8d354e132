"""Which engine is chosen, and that the commands use it."""

import json
from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.cli.segment import main
from brainchop_bids.errors import BrainchopError
from brainchop_bids.inference import choose
from brainchop_bids.inference.choose import choose_engine
from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.models.spec import load_spec
from tests.builders import write_model, write_scan

WHOLE = (256, 256, 256)


def test_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, '_has_gpu', lambda: False)
    few = load_spec(write_model(tmp_path / 'few'))
    many = load_spec(write_model(tmp_path / 'many', classes=40))
    assert choose_engine(few, 'auto', WHOLE, 8.0).name == 'openvino'
    small = choose_engine(few, 'auto', WHOLE, 0.5)
    assert small.name == 'tensorflow'
    assert '0.5 GB granted' in small.why
    tight = estimate_peak_gb(few, WHOLE, 'openvino') + 0.1
    assert choose_engine(few, 'auto', WHOLE, tight).name == 'openvino'
    assert choose_engine(few, 'auto', WHOLE, tight, probabilities=True).name == 'tensorflow'
    assert choose_engine(many, 'auto', WHOLE, 8.0).name == 'tensorflow'
    assert choose_engine(many, 'openvino', WHOLE, 8.0).name == 'openvino'
    monkeypatch.setattr(choose, 'find_spec', lambda name: None)
    assert 'not installed' in choose_engine(few, 'auto', WHOLE, 8.0).why
    monkeypatch.setattr(choose, '_has_gpu', lambda: True)
    assert choose_engine(few, 'auto', WHOLE, 8.0).why == 'there is a GPU'


@pytest.mark.parametrize('engine', ['tensorflow', 'openvino'])
def test_the_command_uses_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    scan, model = write_scan(tmp_path / 'T1w.nii.gz'), write_model(tmp_path / 'net')
    stats = tmp_path / 'stats.json'
    arguments = [scan, tmp_path / 'out.nii.gz', '--model', model, '--engine', engine, '-v']
    assert main([*map(str, arguments), '--stats', str(stats)]) == 0
    assert engine in json.loads(stats.read_text())['engine']
    assert f'engine {engine}: as asked for' in capsys.readouterr().err


def test_openvino_that_cannot_be_imported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise BrainchopError('OpenVINO cannot be imported (no module)')

    monkeypatch.setattr('brainchop_bids.inference.openvino_engine.load_openvino', absent)
    scan, model = write_scan(tmp_path / 'T1w.nii.gz'), write_model(tmp_path / 'net')
    arguments = [scan, tmp_path / 'out.nii.gz', '--model', model, '--engine', 'openvino']
    assert main(list(map(str, arguments))) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'cannot be imported' in error
    assert np.all([path.name != 'out.nii.gz' for path in tmp_path.iterdir()])
