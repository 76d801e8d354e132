"""Real jobs on a real SLURM of one node: `cluster.sh` starts and stops it."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.builders import write_dataset, write_model
from tests.processes import wait_for as wait_for_it

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPT = ROOT / 'singularity' / 'brainchop.sbatch'
PLUGIN = ROOT / 'singularity' / 'slurm-plugin.yml'
APP = [sys.executable, '-m', 'brainchop_bids.cli.run']
# Generous: the machines that run tests are busy.
SECONDS = 900

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@dataclass(frozen=True)
class Cluster:
    """A SLURM that runs.

    Parameters
    ----------
    folder : Path
        Of its files.
    environment : dict of str
        With which its commands find it.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def ask(self, *command: object, **more: str) -> str:
        """Run a command and return what it printed."""
        done = subprocess.run(
            list(map(str, command)),
            env={**self.environment, **more},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, dataset: Path, out: Path, *options: object, **more: str) -> tuple[int, int]:
        """Submit the array job and the group level; return their numbers."""
        said = self.ask('bash', SCRIPT, dataset, out, *options, **more)
        array, group = re.search(r'array job (\d+), then group job (\d+)', said).groups()
        return int(array), int(group)

    def ended(self, *jobs: int) -> dict[str, str]:
        """Wait for jobs; return how they ended, tasks as ``'5_0'``."""
        wait_for(lambda: not self.queued(*jobs))
        states = {}
        for job in jobs:
            for line in self.ask('scontrol', '--oneliner', 'show', 'job', job).splitlines():
                found = dict(word.split('=', 1) for word in line.split() if '=' in word)
                task = found.get('ArrayTaskId')
                states[f'{job}_{task}' if task else str(job)] = found['JobState']
        return states

    def requeue(self, task: str) -> None:
        """Requeue a task, and do not wait the two minutes that SLURM gives the node."""
        self.ask('scontrol', 'requeue', task)
        wait_for(lambda: 'PENDING' in self.ask('squeue', '--noheader', '--format=%T', f'-j{task}'))
        self.ask('scontrol', 'update', f'JobId={task}', 'StartTime=now')

    def queued(self, *jobs: int) -> list[str]:
        """Return the states of those of these jobs that wait or run."""
        text = self.ask('squeue', '--noheader', '--format=%A %F %T')
        rows = [line.split() for line in text.splitlines()]
        return [row[2] for row in rows if {int(row[0]), int(row[1])} & set(jobs)]


@pytest.fixture(scope='module')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = subprocess.run([HERE / 'cluster.sh', 'missing'], capture_output=True, text=True)
    if missing.stdout.strip():
        pytest.skip(f'no SLURM here, missing: {" ".join(missing.stdout.split())}')
    folder = tmp_path_factory.mktemp('slurm')
    subprocess.run([HERE / 'cluster.sh', 'start', folder], check=True)
    scratch = folder / 'scratch'
    scratch.mkdir()
    environment = {
        **os.environ,
        'SLURM_CONF': str(folder / 'slurm.conf'),
        'BRAINCHOP': ' '.join(APP),
        'PYTHONPATH': str(ROOT),
        # As clusters give it that have node-local disks.
        'SLURM_TMPDIR': str(scratch),
        'SBATCH_OPTIONS': '--cpus-per-task=1 --mem=3G',
        'SCANS_PER_TASK': '1',
    }
    yield Cluster(folder, environment)
    subprocess.run([HERE / 'cluster.sh', 'stop', folder], check=True)


@pytest.fixture(scope='module')
def dataset(shared: Path) -> Path:
    return shared / 'data' / 'ds000011'


@pytest.fixture(scope='module')
def done(cluster: Cluster, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the array job and the group level made of the six scans."""
    out = tmp_path_factory.mktemp('array') / 'out'
    begun = time.monotonic()
    array, group = cluster.submit(dataset, out, '-v')
    states = cluster.ended(array, group)
    print(f'array job and group level: {time.monotonic() - begun:.0f} s')
    assert states == {
        **{f'{array}_{task}': 'COMPLETED' for task in range(6)},
        str(group): 'COMPLETED',
    }
    (out / 'jobs.txt').write_text(f'{array} {group}')
    return out


def wait_for(what: Callable[[], object], seconds: float = SECONDS) -> object:
    return wait_for_it(what, seconds, 0.3)


def logs(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((out / 'logs').glob('slurm-*.log'))}


def labels(out: Path) -> dict[str, str]:
    """Return the checksums of all label files."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.glob('sub-*/anat/*_dseg.nii.gz'))
    }


def check_whole(out: Path) -> None:
    for path in out.rglob('*.nii.gz'):
        np.asarray(nib.load(path).dataobj)


def test_the_array_job_and_then_the_group(cluster: Cluster, done: Path) -> None:
    assert len(list(done.glob('sub-*/anat/sub-??_seg-tissue_dseg.nii.gz'))) == 6
    assert len((done / 'group_seg-tissue_dseg.tsv').read_text().splitlines()) == 7
    tasks = {name: text for name, text in logs(done).items() if 'group' not in name}
    assert len(tasks) == 6
    for text in tasks.values():
        assert '1 scan done, 0 already done, 0 failed' in text
        # What was granted, not what the machine has.
        assert '1 threads (--nprocs), 1 for each process' in text
        assert '3.1 GB of memory (--mem)' in text
    # Each task's work folder was there, and is gone.
    assert list((cluster.folder / 'scratch').iterdir()) == []
    check_whole(done)


def test_requeue_does_only_what_is_missing(
    cluster: Cluster, done: Path, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    shutil.copytree(done, out)
    whole = labels(out)
    missing = out / 'sub-03' / 'anat' / 'sub-03_seg-tissue_dseg.nii.gz'
    missing.unlink()
    before = {name: (out / name).stat().st_mtime_ns for name in labels(out)}
    array, group = cluster.submit(dataset, out)
    wait_for(lambda: 'RUNNING' in cluster.queued(array))
    # sub-03's, as soon as it runs a network: as when its node is wanted for something else.
    path = out / 'logs' / f'slurm-{array}_2.log'
    wait_for(lambda: path.exists() and 'conforming' in path.read_text())
    cluster.requeue(f'{array}_2')
    states = cluster.ended(array, group)
    assert set(states.values()) == {'COMPLETED'}
    text = path.read_text()
    assert 'sub-03 on' in text
    assert 'try 2' in text
    assert text.count('1 scan done') == 1
    others = [text for name, text in logs(out).items() if re.search(rf'{array}_[01345]', name)]
    assert all('0 scans done, 1 already done' in text for text in others)
    assert labels(out) == whole
    changed = {name for name in before if (out / name).stat().st_mtime_ns != before[name]}
    assert all('sub-03' in name for name in changed)
    # And once more, when all is done.
    cluster.requeue(f'{array}_2')
    cluster.ended(array)
    assert '0 scans done, 1 already done' in path.read_text()


@pytest.mark.parametrize(('scans', 'tasks'), [('40', 31), ('1', 601)])
def test_1200_participants(cluster: Cluster, tmp_path: Path, scans: str, tasks: int) -> None:
    dataset, out = tmp_path / 'bids', tmp_path / 'out'
    write_dataset(dataset, ['sub-0000/anat/sub-0000_T1w.nii.gz'])
    (dataset / 'sub-0000' / 'ses-A' / 'anat').mkdir(parents=True)
    (dataset / 'sub-0000' / 'ses-A' / 'anat' / 'sub-0000_ses-A_T1w.nii.gz').touch()
    first = dataset / 'sub-0000' / 'anat' / 'sub-0000_T1w.nii.gz'
    for number in range(1, 1200):
        anat = dataset / f'sub-{number:04d}' / 'anat'
        anat.mkdir(parents=True)
        (anat / f'sub-{number:04d}_T1w.nii.gz').symlink_to(first)
    # The jobs wait: what is asked is whether the scheduler takes them.
    how = {'SCANS_PER_TASK': scans, 'SBATCH_OPTIONS': '--hold'}
    said = cluster.ask('bash', SCRIPT, dataset, out, **how)
    assert f'1200 participants, {tasks} tasks' in said
    assert ('since arrays have at most 1001 tasks' in said) == (scans == '1')
    array, group = map(int, re.search(r'array job (\d+), then group job (\d+)', said).groups())
    assert f'{array}_[0-{tasks - 1}]' in cluster.ask('squeue', '--noheader', '--format=%i')
    cluster.ask('scancel', array, group)
    [listed] = (out / 'logs').glob('tasks-*.txt')
    lines = [line.split() for line in listed.read_text().splitlines()]
    assert len(lines) == tasks
    assert [label for line in lines for label in line] == [
        f'{number:04d}' for number in range(1200)
    ]
    most = int(scans) if scans != '1' else 2
    assert max(len(line) + ('0000' in line) for line in lines) == most


def test_without_a_scheduler(tmp_path: Path) -> None:
    (tmp_path / 'bin').mkdir()
    for name in ('bash', 'realpath'):
        (tmp_path / 'bin' / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ['bash', SCRIPT, tmp_path, tmp_path / 'out'],
        env={'PATH': str(tmp_path / 'bin')},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('brainchop.sbatch: sbatch is not on the PATH')
    assert done.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_too_little_memory(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    one = {'PARTICIPANTS': '01', 'SBATCH_OPTIONS': '--cpus-per-task=1 --mem=700M'}
    # The App is told of the limit: it does not even begin.
    out = tmp_path / 'refused'
    array, group = cluster.submit(dataset, out, **one)
    assert cluster.ended(array)[f'{array}_0'] == 'FAILED'
    assert 'needs' in logs(out)[f'slurm-{array}_0.log']
    # It is told otherwise: the network is killed by the limit.
    out = tmp_path / 'killed'
    begun = time.monotonic()
    array, group = cluster.submit(dataset, out, '--mem', '8G', '-v', **one)
    assert cluster.ended(array)[f'{array}_0'] == 'OUT_OF_MEMORY'
    text = logs(out)[f'slurm-{array}_0.log']
    print(f'killed by the limit: {time.monotonic() - begun:.0f} s\n{text}')
    assert 'killed: most likely the memory ran out' in text
    assert '0 scans done, 0 already done, 1 failed' in text
    assert not list(out.glob('sub-*/anat/*'))
    # The group level has nothing to gather, and says so.
    assert cluster.ended(group)[str(group)] == 'FAILED'


@pytest.mark.parametrize(
    ('signal_option', 'ends'),
    [
        # The warning: exit code 1 before the limit.
        ('--signal=B:TERM@30', 'FAILED'),
        # None of use, and then SIGTERM for every process at the limit itself.
        ('--signal=B:CONT@10', 'TIMEOUT'),
    ],
)
def test_the_time_limit(
    cluster: Cluster, dataset: Path, tmp_path: Path, signal_option: str, ends: str
) -> None:
    out = tmp_path / 'out'
    write_model(tmp_path / 'slow', channels=64, dilations=(1, 2, 4, 8, 16, 16, 8, 4, 2, 1))
    options = f'--cpus-per-task=1 --mem=6G --time=1 {signal_option}'
    begun = time.monotonic()
    array, group = cluster.submit(
        dataset, out, '--model', tmp_path / 'slow', PARTICIPANTS='sub-01', SBATCH_OPTIONS=options
    )
    state = cluster.ended(array, group)[f'{array}_0']
    text = logs(out)[f'slurm-{array}_0.log']
    print(f'stopped after {time.monotonic() - begun:.0f} s\n{text}')
    assert state == ends
    assert (
        'stopped by SIGTERM: 0 of 1 scans done, 1 not done (sub-01_T1w); run again to go on'
    ) in text
    assert not list(out.glob('sub-*/anat/*'))
    assert not list(out.rglob('.brainchop-*'))
    assert list((cluster.folder / 'scratch').iterdir()) == []


def start_with_plugin(
    cluster: Cluster, dataset: Path, folder: Path, plugin: Path, *options: str
) -> 'subprocess.Popen[str]':
    command = [*APP, str(dataset), str(folder / 'out'), 'participant', *options]
    command += ['-w', str(folder / 'work'), '--use-plugin', str(plugin)]
    command += ['--skip-bids-validation', '--omp-nthreads', '1']
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=cluster.environment, stdout=pipe, stderr=pipe, text=True)


def test_the_nipype_plugin_gives_the_same_labels(
    cluster: Cluster, done: Path, dataset: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    run = start_with_plugin(cluster, dataset, tmp_path, PLUGIN, '--participant-label', '01', '02')
    told, said = run.communicate(timeout=SECONDS)
    print(f'two scans, a job for each step: {time.monotonic() - begun:.0f} s')
    assert run.returncode == 0, told + said
    made = labels(tmp_path / 'out')
    assert len(made) == 4
    assert made == {name: labels(done)[name] for name in made}
    outputs = [path.name for path in (tmp_path / 'work').rglob('slurm-*.out')]
    assert len(outputs) >= 2 * 10


def test_a_job_of_the_plugin_is_killed(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    plugin = tmp_path / 'plugin.yml'
    plugin.write_text('plugin: SLURM\nplugin_args: {sbatch_args: --mem=450M}\n')
    run = start_with_plugin(cluster, dataset, tmp_path, plugin, '--participant-label', '01')
    told, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert 'Traceback' not in told + said
    assert re.search(r'sub-01_T1w: the SLURM job \d+ ended as OUT_OF_MEMORY: its memory', said)
    assert not list((tmp_path / 'out').glob('sub-*/anat/*'))
    # What SLURM would never run is refused at once.
    plugin.write_text('plugin: SLURM\nplugin_args: {sbatch_args: --mem=999T, max_tries: 0}\n')
    run = start_with_plugin(cluster, dataset, tmp_path, plugin, '--participant-label', '02')
    told, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert 'SLURM takes no such job' in said


def test_the_plugin_is_stopped(cluster: Cluster, dataset: Path, tmp_path: Path) -> None:
    run = start_with_plugin(cluster, dataset, tmp_path, PLUGIN)
    wait_for(lambda: cluster.ask('squeue', '--noheader', '--states=RUNNING'))
    run.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    _, said = run.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert run.returncode == 1
    assert 'stopped by SIGTERM: 0 of 6 scans done' in said
    wait_for(lambda: not cluster.ask('squeue', '--noheader'), 60)
