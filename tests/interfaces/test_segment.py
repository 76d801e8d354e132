"""The process that runs the network: how its end is told."""

from pathlib import Path

import pytest

from brainchop_bids.interfaces import Conform, Segment
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


def test_too_little_memory_names_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_scan(tmp_path / 'T1w.nii')
    monkeypatch.chdir(tmp_path)
    model = str(write_model(tmp_path / 'model'))
    with pytest.raises(BrainchopError, match=r'granted are 0\.1 GB \(memory_gb\)'):
        Segment(in_file=str(scan), model=model, memory_gb=0.1).run()


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
