"""The commands without what macOS and Windows lack, see ``portable/sitecustomize.py``."""

import io
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import brainchop_bids as bc
from brainchop_bids.system.environment import standard_streams
from tests.builders import write_dataset, write_model

ROOT = Path(__file__).parents[2]
SCAN = 'sub-01/anat/sub-01_T1w.nii.gz'


@pytest.fixture(scope='module')
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """Return a dataset, a model, and the labels that Linux gives."""
    folder = tmp_path_factory.mktemp('given')
    dataset, model = write_dataset(folder / 'bids', [SCAN]), write_model(folder / 'net')
    labels = bc.segment(dataset / SCAN, model=model).labels
    return dataset, model, np.asarray(labels.dataobj)


def environment(system: str, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        'PRETEND': system,
        'PYTHONPATH': f'{Path(__file__).parent / "portable"}{os.pathsep}{ROOT}',
        'PYTHONWARNDEFAULTENCODING': '1',
        'HOME': str(home),
    }


def python(system: str, home: Path, *arguments: object) -> str:
    """Return what Python prints without what a system lacks."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(system, home),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize('system', ['darwin', 'windows'])
def test_commands_run_without_what_other_systems_lack(
    system: str, given: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    dataset, model, expected = given

    def run(command: str, *arguments: object) -> str:
        return python(system, tmp_path, '-m', f'brainchop_bids.cli.{command}', *arguments)

    found, maps, out = tmp_path / 'dseg.nii.gz', tmp_path / 'probabilities.nii', tmp_path / 'out'
    run('segment', dataset / SCAN, found, '--model', model, '--probseg', maps)
    options = ('-w', tmp_path / 'w', '--model', model, '--skip-bids-validation', '--nprocs', 1)
    told = run('run', dataset, out, 'participant', *options)
    assert '1 scan done, 0 already done, 0 failed' in told
    run('run', dataset, out, 'group')
    for path in (found, out / SCAN.replace('_T1w', '_seg-net_dseg')):
        np.testing.assert_array_equal(nib.load(path).dataobj, expected, str(path))
    assert nib.load(maps).shape[:3] == expected.shape
    assert (out / 'sub-01.html').exists()
    assert (out / 'group_seg-net.html').exists()
    # Files that are still open or mapped can be neither renamed nor removed.
    assert not list(tmp_path.rglob('.brainchop-*'))


LACKING = """
import multiprocessing, os, pathlib, sys
for name in ('fcntl', 'grp', 'pwd', 'resource'):
    try:
        __import__(name)
        print('found', name)
    except ImportError:
        pass
print([name for name in ('sched_getaffinity', 'pidfd_open', 'fork') if hasattr(os, name)])
print(multiprocessing.get_all_start_methods())
with open('held', 'w', encoding='utf-8'):
    for act in (os.remove, lambda name: os.replace(name, 'other'), lambda name: os.mkdir('a:b')):
        try:
            act('held')
            print('done')
        except OSError as error:
            print(error.errno)
from brainchop_bids.system.resources import available_cpus, available_memory, peak_mb
print(available_cpus({}).source, available_memory({}).source, peak_mb() > 10)
"""


def test_what_the_tests_take_away(tmp_path: Path) -> None:
    assert python('windows', tmp_path, '-c', LACKING).splitlines() == [
        '[]',
        "['spawn']",
        *('13', '13', '123'),
        'processors of the machine free memory of the machine True',
    ]


TWO_RUNS = """
import subprocess, sys
from pathlib import Path
from brainchop_bids.system.locks import lock_file, open_lock, own_folder
with own_folder(Path('work')) as folder:
    print(folder, flush=True)
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, __file__, 'second'], check=True)
if len(sys.argv) == 1:
    with open_lock(Path('work/.lock')) as lock:
        lock_file(lock, wait=True)
"""


def test_locks_of_windows_keep_two_runs_apart(tmp_path: Path) -> None:
    script = tmp_path / 'two_runs.py'
    script.write_text(TWO_RUNS)
    first, second = python('windows', tmp_path, script).splitlines()
    assert first == 'work'
    assert Path(second).parent == Path('work')
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['.lock']


class _WindowsConsoleIO(io.BytesIO):
    """Python's stream to a console of Windows, known by its name."""


def test_a_console_of_windows_keeps_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BufferedWriter(_WindowsConsoleIO()), encoding='utf-8')
    for name in ('stdout', '__stdout__'):
        monkeypatch.setattr(sys, name, console)
    with standard_streams():
        assert sys.stdout is console
        print('Füße', flush=True)
    assert console.buffer.raw.getvalue().decode() == 'Füße\n'
