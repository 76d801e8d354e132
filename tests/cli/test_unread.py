"""Output that nobody reads to its end."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import write_dataset, write_model


def run_unread(module: str, *arguments: str, lines: int) -> tuple[int, str]:
    """Run a command, read so many lines, close its output; return its code and its errors."""
    command = [sys.executable, '-m', f'brainchop_bids.cli.{module}', *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    return process.returncode, errors


@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_a_list_ends_as_head_ends_it(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONUNBUFFERED', unbuffered)
    assert run_unread('models', 'info', 'tissue', lines=0) == (141, '')


def test_scans_are_finished_all_the_same(tmp_path: Path) -> None:
    write_dataset(tmp_path / 'bids', [f'sub-0{i}/anat/sub-0{i}_T1w.nii.gz' for i in (1, 2)])
    write_model(tmp_path / 'net')
    places = [str(tmp_path / name) for name in ('bids', 'out')]
    options = ['--skip-bids-validation', '-v', '--model', str(tmp_path / 'net')]
    options += ['-w', str(tmp_path / 'work')]
    code, errors = run_unread('run', *places, 'participant', *options, lines=1)
    assert code == 0, errors
    assert 'Error' not in errors
    assert len(list((tmp_path / 'out').glob('sub-*.html'))) == 2
