"""No more threads at work than were granted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders import write_dataset, write_model

APP = [sys.executable, '-m', 'brainchop_bids.cli.run']
OPTIONS = ['bids', 'out', 'participant', '-w', 'work', '--model', 'net', '-v']
OPTIONS += ['--skip-bids-validation']


def at_work(session: int) -> int:
    """Return how many threads of the workers of a session run or wait for a processor.

    Unlike processor time, it does not depend on what else the machine does. The App itself, the
    first process of the session, looks at its workers now and then, and longer on a busy machine.
    """
    count = 0
    for stat in Path('/proc').glob('[0-9]*/stat'):
        if stat.parent.name == str(session):
            continue
        try:
            if int(stat.read_text().rpartition(')')[2].split()[3]) != session:
                continue
            for thread in stat.parent.glob('task/*/stat'):
                count += thread.read_text().rpartition(')')[2].split()[0] == 'R'
        except OSError:
            continue
    return count


def share_of_several(folder: Path, *command: str, until: str = '', **environment: str) -> float:
    """Run the App; return in which share of the moments more than one thread was at work.

    Moments count from the line that it is segmenting, to the end or to another line.
    """
    told = folder / 'told.txt'
    with told.open('w') as file:
        process = subprocess.Popen(
            [*command, *APP, *OPTIONS],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=file,
            start_new_session=True,
        )
    seen = []
    while process.poll() is None:
        text = told.read_text()
        # While it starts, processes that load libraries overlap.
        if 'segmenting' in text and not (until and until in text):
            seen.append(at_work(process.pid))
        time.sleep(0.01)
    assert process.returncode == 0
    several = sum(count > 1 for count in seen)
    print(f'{several} of {len(seen)} moments')
    assert sum(count > 0 for count in seen) > 50
    return several / len(seen)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / 'bids', ['sub-01/anat/sub-01_T1w.nii.gz'])
    write_model(tmp_path / 'net', channels=12, dilations=(1, 2, 4, 8, 4, 2, 1))
    return tmp_path


@pytest.mark.parametrize(
    ('command', 'environment'),
    [
        ((), {'SLURM_CPUS_PER_TASK': '1'}),
        ((), {'SLURM_CPUS_ON_NODE': '1'}),
        (('taskset', '-c', '0'), {}),
    ],
    ids=['slurm', 'job', 'affinity'],
)
def test_one_processor(
    folder: Path, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert share_of_several(folder, *command, **environment) < 0.2


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two processors')
def test_two_processors(folder: Path) -> None:
    # The network's threads; what comes after it has one, and so has what comes before in its node.
    assert share_of_several(folder, until='cleaning up') > 0.4
