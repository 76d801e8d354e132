"""Where processes import from, and what is said of those that end without an answer."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brainchop_bids.system.processes import describe_end, module_command


@pytest.mark.parametrize(
    ('program', 'words'),
    [
        ('import os; os.kill(os.getpid(), 9)', 'it was killed: most likely the memory ran out'),
        ('import os; os.kill(os.getpid(), 15)', 'it was stopped by SIGTERM'),
        ('import nowhere', "failed with exit code 1: ModuleNotFoundError: No module named 'nowh"),
        ('raise SystemExit(3)', 'failed with exit code 3: it wrote nothing to standard error'),
    ],
)
@pytest.mark.parametrize('shell', [False, True])
def test_only_a_kill_is_taken_for_want_of_memory(program: str, words: str, shell: bool) -> None:
    command = [sys.executable, '-c', program]
    if shell:
        command = ['sh', '-c', '"$@"; exit $?', 'sh', *command]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    said = describe_end('it', done.returncode, done.stderr)
    assert words in said
    assert '\n' not in said
    assert ('memory' in said) == (abs(done.returncode) % 128 == signal.SIGKILL)


@pytest.mark.parametrize('path', ['', '.'])
@pytest.mark.parametrize('safe_path', [False, True])
def test_the_current_folder_is_imported_from_where_a_user_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, safe_path: bool
) -> None:
    if safe_path and sys.version_info < (3, 11):
        pytest.skip('Python 3.10 does not know -P')
    (tmp_path / 'mine.py').write_text('print("imported")')
    monkeypatch.delenv('PYTHONSAFEPATH', raising=False)
    monkeypatch.setenv('PYTHONPATH', path)
    command = module_command('mine', safe_path=safe_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == (['imported'] if path else [])
    assert (done.returncode == 0) == bool(path)
