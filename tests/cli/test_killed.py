"""Runs that are killed, and runs beside each other: every file is whole, and nothing hangs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.builders import write_dataset, write_model
from tests.cli.test_run import check_valid
from tests.processes import children_of, gone


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', *map(str, arguments)]
    command += ['--skip-bids-validation']
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def contents(root: Path) -> dict[str, object]:
    """Return what a run wrote, without seconds, megabytes and what is named after a run."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob('*')):
        name = path.relative_to(root).as_posix()
        # A hidden name is that of a file that is being written.
        if not path.is_file() or path.name.startswith('.brainchop-'):
            continue
        if re.fullmatch(r'logs/(run|crash)-.*', name):
            continue
        if path.suffix == '.json':
            record = json.loads(path.read_text())
            for key in ('Seconds', 'PeakMemoryMB'):
                record.pop(key, None)
            found[name] = record
        elif path.suffix == '.html':
            text = path.read_text()
            assert text.endswith('</html>')
            # The table of seconds and megabytes.
            found[name] = re.sub(r'<td class="number">[\d.,–]+</td>', '', text)
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('models') / 'tiny_model')


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ('moments', 'chosen'), [(3, None), pytest.param(20, 'tissue', marks=pytest.mark.slow)]
)
def test_a_run_killed_at_any_moment_is_finished_by_the_next(
    shared: Path, model: Path, tmp_path: Path, moments: int, chosen: str | None
) -> None:
    """Kill runs over one real scan again and again, each where the last one stopped."""
    dataset = shared / 'data' / 'pumi-minitest'

    def begin(out: Path, work: Path) -> subprocess.Popen[str]:
        name = chosen or model
        return start(dataset, out, 'participant', '--model', name, '-w', work, cwd=tmp_path)

    begun = time.monotonic()
    first = begin(tmp_path / 'whole', tmp_path / 'work-whole')
    assert first.wait(300) == 0, first.communicate()
    length = time.monotonic() - begun
    expected = contents(tmp_path / 'whole')
    rng = np.random.default_rng(moments)
    out, work = tmp_path / 'out', tmp_path / 'work'
    kills = 0
    while kills < moments:
        process = begin(out, work)
        try:
            process.wait(rng.uniform(0, length))
        except subprocess.TimeoutExpired:
            family = children_of(process.pid)
            process.kill()
            process.wait(10)
            kills += 1
            # Nothing goes on by itself, so nothing is written into the next run's folders.
            assert gone(family, 10)
        # What is there to be seen is what the preserve_state run wrote, byte for byte.
        for name, content in contents(out).items():
            if not name.endswith('.html'):
                assert content == expected[name], name
        if process.returncode == 0:
            assert contents(out) == expected
            shutil.rmtree(out)
            shutil.rmtree(work)
    last = begin(out, work)
    assert last.wait(300) == 0, last.communicate()
    assert contents(out) == expected
    check_valid(out)


@pytest.mark.timeout(600)
@pytest.mark.parametrize('scans', [2, pytest.param(6, marks=pytest.mark.slow)])
def test_two_runs_at_once_into_one_folder(model: Path, tmp_path: Path, scans: int) -> None:
    labels = [f'sub-{number:02d}' for number in range(1, scans + 1)]
    names = [f'{label}/anat/{label}_T1w.nii.gz' for label in labels]
    dataset = write_dataset(tmp_path / 'bids', names)

    def begin(out: str, work: str) -> subprocess.Popen[str]:
        return start(
            dataset, tmp_path / out, 'participant', '--model', model, '-w', tmp_path / work,
            cwd=tmp_path,
        )  # fmt: skip

    alone = begin('alone', 'work-alone')
    assert alone.wait(300) == 0, alone.communicate()
    # In one work folder, too: whoever does not choose one shares it.
    both = [begin('out', 'work'), begin('out', 'work')]
    for process in both:
        said = process.communicate(timeout=400)[0]
        assert process.returncode == 0, said
        assert ' 0 failed' in said
    assert contents(tmp_path / 'out') == contents(tmp_path / 'alone')
    assert not list((tmp_path / 'out').rglob('.brainchop-*'))
    assert not list((tmp_path / 'work').glob('beside-*'))
    check_valid(tmp_path / 'out')


def test_work_of_a_finished_scan_is_removed_where_that_is_asked(
    model: Path, tmp_path: Path
) -> None:
    names = ['sub-01/anat/sub-01_T1w.nii.gz', 'sub-02/anat/sub-02_T1w.nii.gz']
    dataset = write_dataset(tmp_path / 'bids', names)
    (dataset / names[1]).write_bytes(b'no image')
    work = tmp_path / 'work'
    arguments = (dataset, tmp_path / 'out', 'participant', '--model', model, '-w', work)
    process = start(*arguments, '--clean-workdir', cwd=tmp_path)
    process.communicate(timeout=300)
    assert process.returncode == 1
    assert [path.name for path in work.glob('*/sub_*')] == ['sub_02_T1w_wf']
    assert (tmp_path / 'out/sub-01.html').exists()
    # Done means that nothing is looked for in the work folder.
    again = start(*arguments, '--dry-run', '-v', cwd=tmp_path)
    assert 'sub-01_T1w: already done' in again.communicate(timeout=300)[0]


def test_a_run_that_is_killed_frees_the_work_folder(model: Path, tmp_path: Path) -> None:
    from brainchop_bids.system.locks import own_folder

    dataset = write_dataset(tmp_path / 'bids', ['sub-01/anat/sub-01_T1w.nii.gz'])
    work = tmp_path / 'work'
    process = start(
        dataset, tmp_path / 'out', 'participant', '--model', model, '-w', work, cwd=tmp_path
    )
    while not (work / '.lock').exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    with own_folder(work) as folder:
        assert folder.parent == work
    family = children_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert gone(family, 10)
    with own_folder(work) as folder:
        assert folder == work


def test_a_work_folder_whose_lock_is_none(model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / 'bids', ['sub-01/anat/sub-01_T1w.nii.gz'])
    (tmp_path / 'work' / '.lock').mkdir(parents=True)
    process = start(
        dataset, tmp_path / 'out', 'participant', '--model', model, '-w', tmp_path / 'work',
        cwd=tmp_path,
    )  # fmt: skip
    said = process.communicate(timeout=300)[0]
    assert process.returncode not in (0, None)
    assert 'work/.lock: cannot be written: Is a directory' in said
    assert 'Traceback' not in said
