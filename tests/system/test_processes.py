"""What is said of processes that end without an answer."""

import signal
import subprocess
import sys

import pytest

from brainchop_bids.system.processes import describe_end


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
