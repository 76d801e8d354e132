"""Processes that run networks for all scans of a run: real ones, asked, failed and killed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image.conform import ConformOptions
from brainchop_bids.image.normalise import Normalization
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.pool import (
    Request,
    segment_in_pool,
    segment_in_process,
    worker_pool,
)
from brainchop_bids.inference.scan_settings import ScanSettings
from brainchop_bids.interfaces import Segment
from brainchop_bids.system.errors import BrainchopError
from brainchop_bids.system.resources import Granted
from tests.builders import write_model, write_scan


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_model(tmp_path_factory.mktemp('models') / 'net'))


@pytest.fixture
def folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    example = ScanSettings(Path('T1w.nii'), Path('dseg.nii'))
    with worker_pool(1, Request(example, model, tmp_path), threads=1) as place:
        for _ in range(600):
            if (place / '0.socket').exists():
                break
            time.sleep(0.1)
        yield place


def waiting() -> list[int]:
    """Return the processes that wait for this one."""
    command = ['pgrep', '-P', str(os.getpid()), '-f', 'brainchop_bids.inference.worker']
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_one_process_labels_scans_as_a_process_each_would(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    for number, size in enumerate((64, 48)):
        scan = write_scan(
            tmp_path / f'{number}.nii.gz',
            np.random.default_rng(number).integers(1, 255, (size, 40, 52)).astype(np.uint8),
        )
        # Relative: it works in the folder of whoever asks.
        settings = ScanSettings(scan, Path('here.nii'), space='conform')
        pooled = segment_in_pool(folder, Request(settings, model, tmp_path))
        settings = ScanSettings(scan, tmp_path / 'alone.nii', space='conform')
        alone = segment_in_process(Request(settings, model, tmp_path))
        assert pooled is not None
        assert {key: pooled[key] for key in ('engine', 'normalization', 'model')} == {
            key: alone[key] for key in ('engine', 'normalization', 'model')
        }
        images = [np.asarray(nib.load(tmp_path / name).dataobj) for name in
                  ('here.nii', 'alone.nii')]  # fmt: skip
        np.testing.assert_array_equal(*images)
    missing = Request(ScanSettings(Path('none.nii'), Path('out.nii')), model, tmp_path)
    for segment in (lambda request: segment_in_pool(folder, request), segment_in_process):
        with pytest.raises(BrainchopError, match=r'none\.nii: no such file'):
            segment(missing)
    # And goes on.
    settings = ScanSettings(scan, Path('here.nii'))
    assert segment_in_pool(folder, Request(settings, model, tmp_path)) is not None


def test_a_request_survives_its_form_as_data(tmp_path: Path) -> None:
    settings = ScanSettings(
        tmp_path / 'T1w.nii',
        tmp_path / 'dseg.nii',
        inference=InferenceOptions(engine='openvino', crop='7.5', tta=True, subvolumes='64'),
        memory=Granted(1.25, 'SLURM'),
        channels=(tmp_path / 'T2w.nii',),
        components='largest+open:3',
        derived=(('tissue', tmp_path / 'tissue.nii'),),
        probseg=tmp_path / 'probseg.nii',
        uncertainty=tmp_path / 'entropy.nii.gz',
        normalization=Normalization.parse('quantile:0.02:0.98:clip'),
        frame=2,
        conform=ConformOptions(voxel_size=0.8, interpolation='cubic'),
        threads=3,
    )
    request = Request(settings, tmp_path / 'model', tmp_path)
    assert Request.from_json(request.to_json()) == request


def test_the_last_words_of_a_process_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that cannot start for another reason than memory.
    monkeypatch.setenv('PYTHONHOME', str(tmp_path))
    request = Request(ScanSettings(tmp_path / 'a.nii', tmp_path / 'b.nii'), tmp_path, tmp_path)
    with pytest.raises(BrainchopError, match='failed with exit code 1: ') as caught:
        segment_in_process(request)
    assert 'memory' not in str(caught.value)


@pytest.mark.parametrize(
    ('number', 'words'),
    [
        (signal.SIGKILL, 'killed: most likely the memory ran out; grant more with --mem'),
        (signal.SIGABRT, 'the segmentation process was stopped by SIGABRT$'),
    ],
)
def test_a_killed_process_fails_one_scan_and_the_next_has_its_own(
    folder: Path, model: Path, tmp_path: Path, number: int, words: str
) -> None:
    scan = write_scan(tmp_path / 'T1w.nii')
    segment = Segment(in_file=str(scan), model=str(model), pool=str(folder))
    segment.run()
    (tmp_path / 'dseg.nii').unlink()
    (pid,) = waiting()
    os.kill(pid, signal.SIGSTOP)
    subprocess.Popen(['sh', '-c', f'sleep 1; kill -{int(number)} {pid}; kill -CONT {pid}'])
    with pytest.raises(BrainchopError, match=words):
        segment.run()
    assert not (tmp_path / 'dseg.nii').exists()
    assert segment.run().outputs.peak_mb > 0
    assert (tmp_path / 'dseg.nii').exists()


def test_none_outlives_the_run(model: Path, tmp_path: Path) -> None:
    before = waiting()
    scan = ScanSettings(Path('a.nii'), Path('b.nii'))
    with worker_pool(2, Request(scan, tmp_path / 'none', tmp_path), threads=1) as place:
        assert len(waiting()) == len(before) + 2
    assert waiting() == before
    assert not place.exists()
