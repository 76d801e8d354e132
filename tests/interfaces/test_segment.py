"""The process that runs the network: how its end is told."""

import signal
from pathlib import Path

import pytest

from brainchop_bids.interfaces import Conform, Segment
from brainchop_bids.interfaces.segment import _what_failed
from brainchop_bids.system.errors import BrainchopError
from tests.builders import write_model, write_scan


def test_an_error_is_one_line_and_the_folder_has_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / 'conformed.nii'
    scan.write_text('this is no image')
    monkeypatch.chdir(tmp_path)
    segment = Segment(in_file=str(scan), model=str(write_model(tmp_path / 'model')))
    with pytest.raises(BrainchopError, match=r'conformed\.nii') as caught:
        segment.run()
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'dseg.nii').exists()


@pytest.mark.parametrize('code', [-signal.SIGKILL, 128 + signal.SIGKILL])
def test_a_kill_is_taken_for_want_of_memory(code: int) -> None:
    assert 'memory' in _what_failed(code, '')


def test_what_the_process_said_last_is_told() -> None:
    text = 'brainchop-segment: warning: x\nbrainchop-segment: error: y.nii: empty\n'
    assert _what_failed(1, text) == 'y.nii: empty'
    assert _what_failed(3, 'Traceback\nValueError: odd\n').endswith('exit code 3: ValueError: odd')


def test_a_changed_model_changes_the_hash(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii')
    model = str(write_model(tmp_path / 'model'))
    first, other = (
        Segment(in_file=str(scan), model=model, model_sha256=checksum).inputs.get_hashval()[1]
        for checksum in ('a', 'b')
    )
    threads = Segment(in_file=str(scan), model=model, model_sha256='a', num_threads=7)
    assert first != other
    assert threads.inputs.get_hashval()[1] == first


def test_conform_passes_warnings_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nibabel as nib
    import numpy as np

    data = np.random.default_rng(0).normal(500, 90, (16, 16, 16)).astype(np.float32)
    data[0, 0, :3] = np.nan
    scan = write_scan(tmp_path / 'T1w.nii', data, 12.0)
    monkeypatch.chdir(tmp_path)
    outputs = Conform(in_file=str(scan)).run().outputs
    assert any('3 values that are not finite' in warning for warning in outputs.warnings)
    assert nib.load(outputs.out_file).get_data_dtype() == np.uint8
    assert outputs.seconds >= 0
