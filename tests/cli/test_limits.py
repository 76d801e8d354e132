"""Too little memory for any plan: one line with the need and the limit, and nothing left."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import write_model, write_scan

SEGMENT = [sys.executable, '-m', 'brainchop_bids.cli.segment']
APP = [sys.executable, '-m', 'brainchop_bids.cli.run']


def run_under(limit_kb: int | None, command: list[str]) -> subprocess.CompletedProcess[str]:
    line = shlex.join(command)
    if limit_kb is not None:
        line = f'ulimit -v {limit_kb} && exec {line}'
    return subprocess.run(['sh', '-c', line], capture_output=True, text=True, check=False)


def dataset(folder: Path) -> Path:
    scan = folder / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz'
    scan.parent.mkdir(parents=True)
    write_scan(scan)
    description = '{"Name": "one scan", "BIDSVersion": "1.10.0"}'
    (folder / 'dataset_description.json').write_text(description)
    return folder


@pytest.mark.parametrize('limit', [300_000, 1_000_000])
def test_too_little_address_space(tmp_path: Path, limit: int) -> None:
    scan, model = write_scan(tmp_path / 'T1w.nii'), write_model(tmp_path / 'net')
    before = sorted(tmp_path.rglob('*'))
    options = [str(scan), str(tmp_path / 'out.nii'), '--model', str(model)]
    done = run_under(limit, [*SEGMENT, *options])
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert f'ulimit -v grants {limit * 1024 / 1e9:.1f} GB' in done.stderr
    assert 'at least 2' in done.stderr
    assert sorted(tmp_path.rglob('*')) == before


def test_enough_address_space_and_no_more(tmp_path: Path) -> None:
    scan, model = write_scan(tmp_path / 'T1w.nii'), write_model(tmp_path / 'net')
    options = [str(scan), str(tmp_path / 'out.nii'), '--model', str(model)]
    done = run_under(2_600_000, [*SEGMENT, *options, '--omp-nthreads', '2', '-q'])
    # Threads reserve address space: with many processors this is too little, and said so.
    assert done.returncode == 0 or 'ulimit -v' in done.stderr, done.stderr
    assert done.returncode == 0 or done.stderr.count('\n') == 1


@pytest.mark.parametrize('dry', [[], ['--dry-run']])
def test_the_app_refuses_before_anything_is_run(tmp_path: Path, dry: list[str]) -> None:
    model = write_model(tmp_path / 'net')
    command = [*APP, str(dataset(tmp_path / 'bids')), str(tmp_path / 'out'), 'participant']
    command += ['--model', str(model), '--mem', '400MB', '-w', str(tmp_path / 'work'), *dry]
    done = run_under(None, command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'needs 0.' in line
    assert 'the 0.4 GB of all processes, less 0.4 GB for those beside it' in line
    assert not list(tmp_path.rglob('*dseg*'))
