"""Polite kills of a run: what is done stays whole, one line says so, and no process is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from traits.api import HasTraits, TraitType

from brainchop_bids.app.progress import Display, Watcher
from brainchop_bids.system import signals
from brainchop_bids.system.errors import Interrupted
from brainchop_bids.system.signals import end_processes, interruptible, stopped_by
from tests.builders import write_dataset, write_model, write_scan
from tests.processes import members, wait_for

APP = [sys.executable, '-m', 'brainchop_bids.cli.run']
SCANS = [f'sub-0{number}/anat/sub-0{number}_T1w.nii.gz' for number in range(1, 5)]
# Generous: the machines that run tests are busy.
SECONDS = 60


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., 'subprocess.Popen[str]']]:
    """Return what starts the App in a session of its own; what is left of it is killed."""
    write_dataset(tmp_path / 'bids', SCANS)
    # Enough work that a scan takes seconds.
    write_model(tmp_path / 'net', channels=8, dilations=(1, 2, 4, 2, 1))
    processes = []
    # Where tests run in a shell's background, Ctrl-C is ignored, and the App would leave it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*options: str) -> 'subprocess.Popen[str]':
        command = [*APP, 'bids', 'out', 'participant', '-w', 'work', '--model', 'net']
        command += ['--skip-bids-validation', *options]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in processes:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)


def segmenting(process: 'subprocess.Popen[str]') -> None:
    """Read what the App says until it says that a network runs."""
    assert process.stdout is not None
    for line in process.stdout:
        if 'segmenting' in line:
            return
    pytest.fail(f'it ended before: {process.stderr.read() if process.stderr else ""}')


def check_whole(out: Path, labels: int = 0) -> None:
    """Check that every file can be read, that none is hidden and that so many scans are done."""
    for path in out.rglob('*.nii.gz'):
        np.asarray(nib.load(path).dataobj)
    assert not list(out.rglob('.brainchop-*'))
    assert len(list(out.glob('sub-*/anat/sub-*_seg-*_dseg.nii.gz'))) >= labels


@pytest.mark.parametrize('everyone', [False, True], ids=['app', 'group'])
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_a_network_runs(
    started: Callable[..., 'subprocess.Popen[str]'], tmp_path: Path, number: int, everyone: bool
) -> None:
    process = started('-v')
    segmenting(process)
    begun = time.monotonic()
    # As SLURM does at the limit, and a terminal: every process hears it; and once more.
    for _ in range(2):
        (os.killpg if everyone else os.kill)(process.pid, number)
        time.sleep(0.2)
    _, said = process.communicate(timeout=SECONDS)
    assert time.monotonic() - begun < 20
    assert process.returncode == (1 if number == signal.SIGTERM else 130)
    lines = said.splitlines()
    assert len(lines) == 1, said
    line = lines[0]
    assert line.startswith(f'brainchop: error: stopped by {signal.Signals(number).name}: ')
    assert 'of 4 scans done' in line
    assert 'run again' in line
    check_whole(tmp_path / 'out')
    # Nipype's own reports of failures are for failures.
    assert not list((tmp_path / 'out' / 'logs').glob('crash-*'))
    wait_for(lambda: not members(process.pid), 20)


def test_what_is_done_is_told_and_the_rest_is_done_later(
    started: Callable[..., 'subprocess.Popen[str]'], tmp_path: Path
) -> None:
    process = started()
    assert process.stdout is not None
    for line in process.stdout:
        if ': done' in line:
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    done = len(list((tmp_path / 'out').glob('sub-*.html')))
    assert done >= 1
    assert f'{done} of 4 scans done, {4 - done} not done' in said
    first = tmp_path / 'out' / 'sub-01' / 'anat' / 'sub-01_seg-net_dseg.nii.gz'
    before = first.stat().st_mtime_ns
    check_whole(tmp_path / 'out', done)
    again = started()
    told, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    # A scan may have been written without the App having heard of it.
    assert any(f'{4 - count} scan' in told for count in (done, done + 1)), told
    assert first.stat().st_mtime_ns == before
    check_whole(tmp_path / 'out', 4)


@pytest.mark.parametrize(
    ('victim', 'fails'),
    [('brainchop_bids.inference.worker', True), ('multiprocessing.forkserver', False)],
)
def test_a_process_of_the_app_is_killed(
    started: Callable[..., 'subprocess.Popen[str]'], tmp_path: Path, victim: str, fails: bool
) -> None:
    process = started('-v')
    segmenting(process)
    # The server and its children have one command line; the first is the server.
    killed = min(members(process.pid, victim))
    if fails:
        # It goes to the step's folder with a scan; where it is gone before, others do its work.
        place = Path(f'/proc/{killed}/cwd')
        wait_for(lambda: place.readlink().is_relative_to(tmp_path / 'work'))
    else:
        time.sleep(0.5)
    os.kill(killed, signal.SIGKILL)
    begun = time.monotonic()
    told, said = process.communicate(timeout=300)
    assert time.monotonic() - begun < 280
    assert 'Traceback' not in told + said
    if fails:
        assert process.returncode == 1, told
        assert '3 scans done, 0 already done, 1 failed' in told
        assert 'the segmentation process was killed: most likely the memory ran out' in said
    else:
        # What ran is run once more.
        assert process.returncode == 0, told + said
        assert '4 scans done' in told
    check_whole(tmp_path / 'out', 3)


def test_workers_do_not_outlive_an_app_that_is_killed(
    started: Callable[..., 'subprocess.Popen[str]'],
) -> None:
    process = started('-v')
    segmenting(process)
    process.kill()
    wait_for(lambda: not members(process.pid), 30)


def test_a_segment_command_is_stopped(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii')
    write_model(tmp_path / 'net', channels=24, dilations=(1, 2, 4, 8, 16, 16, 8, 4, 2, 1))
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', scan, tmp_path / 'out.nii.gz']
    command += ['--model', tmp_path / 'net', '--mask', tmp_path / 'mask.nii.gz', '-v']
    command += ['--crop', 'none']
    before = sorted(tmp_path.rglob('*'))
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    # It says what it has done; the network is next.
    process.stderr.readline()
    process.terminate()
    process.terminate()
    said = process.stderr.read()
    assert process.wait(SECONDS) == 1
    assert said.splitlines()[-1] == (
        'brainchop-segment: error: stopped by SIGTERM: nothing was written'
    )
    assert sorted(tmp_path.rglob('*')) == before


def test_families_end(tmp_path: Path) -> None:
    stubborn = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)'
    parent = subprocess.Popen(
        ['sh', '-c', f'{sys.executable} -c "{stubborn}" & sleep 300 & wait'],
        start_new_session=True,
    )
    wait_for(lambda: len(members(parent.pid)) == 3)
    time.sleep(0.5)
    begun = time.monotonic()
    end_processes([parent.pid], grace=1)
    parent.wait(5)
    assert time.monotonic() - begun < 5
    wait_for(lambda: not members(parent.pid), 5)


def test_handlers_return_where_nothing_came() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert stopped_by() is None


def test_a_stop_that_a_library_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(TraitType):  # type: ignore[misc]
        def validate(self, owner: object, name: str, value: object) -> object:
            os.kill(os.getpid(), signal.SIGTERM)
            return value

    class Copied(HasTraits):  # type: ignore[misc]
        value = Stops(0)

    monkeypatch.setattr(signals, '_stopped_by', [])
    before = signal.getsignal(signal.SIGTERM)
    watcher = Watcher(Display(1, 0), {'one': ('sub-01_T1w', 1)}, lambda _: None)
    try:
        with interruptible():
            watcher.status('wf.one.conform', 'start')
            # As Nipype does with each node that it runs.
            Copied().copy_traits(Copied())
            for status in ('start', 'exception'):
                with pytest.raises(Interrupted, match='SIGTERM'):
                    watcher.status('wf.one.segment', status)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert watcher.failures == {}


def test_no_failure_of_a_scan() -> None:
    # Nipype stores exceptions of nodes as failures.
    assert not issubclass(Interrupted, Exception)
    assert str(Interrupted(signal.SIGTERM)) == 'stopped by SIGTERM'
