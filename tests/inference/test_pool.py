"""Processes that run networks for all scans of a run: real ones, asked, failed and killed."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.segment import main
from brainchop_bids.inference.pool import ask, staying_processes
from brainchop_bids.interfaces import Segment
from brainchop_bids.system.errors import BrainchopError
from tests.builders import write_model, write_scan


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_model(tmp_path_factory.mktemp('models') / 'net'))


@pytest.fixture
def folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    example = ['T1w.nii', 'dseg.nii', '--model', str(model), '--omp-nthreads', '1']
    with staying_processes(1, example, {'OMP_NUM_THREADS': '1'}) as place:
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
        options = ['--model', str(model), '--omp-nthreads', '1', '--space', 'conform']
        # Relative: it works in the folder of whoever asks.
        code, said = ask(folder, [str(scan), 'here.nii', *options]) or (1, '')
        assert code == 0
        assert 'error' not in said
        assert main([str(scan), str(tmp_path / 'alone.nii'), *options]) == 0
        here, alone = (
            np.asarray(nib.load(tmp_path / name).dataobj) for name in ('here.nii', 'alone.nii')
        )
        np.testing.assert_array_equal(here, alone)
    code, said = ask(folder, ['none.nii', 'out.nii', *options]) or (0, '')
    assert code == 1
    assert said.count('\n') == 1
    assert 'none.nii' in said
    assert (ask(folder, ['--nonsense']) or (0, ''))[0] == 2
    # And goes on.
    assert (ask(folder, [str(scan), 'here.nii', *options]) or (1, ''))[0] == 0


def test_a_killed_process_fails_one_scan_and_the_next_has_its_own(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / 'T1w.nii')
    segment = Segment(in_file=str(scan), model=str(model), processes=str(folder))
    segment.run()
    (tmp_path / 'dseg.nii').unlink()
    (number,) = waiting()
    os.kill(number, signal.SIGSTOP)
    with contextlib.suppress(ProcessLookupError):
        subprocess.Popen(['sh', '-c', f'sleep 1; kill -9 {number}'])
    with pytest.raises(BrainchopError, match='killed: most likely the memory ran out'):
        segment.run()
    assert not (tmp_path / 'dseg.nii').exists()
    assert segment.run().outputs.peak_mb > 0
    assert (tmp_path / 'dseg.nii').exists()


def test_none_outlives_the_run(model: Path, tmp_path: Path) -> None:
    before = waiting()
    with staying_processes(2, ['a.nii', 'b.nii', '--model', str(tmp_path / 'none')], {}) as place:
        assert len(waiting()) == len(before) + 2
    assert waiting() == before
    assert not place.exists()
