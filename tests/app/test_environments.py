"""Commands in environments that lack what a terminal has."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brainchop_bids.system.environment import socket_folder, standard_streams
from brainchop_bids.system.errors import OutputError
from brainchop_bids.system.locks import own_folder
from tests.builders import write_dataset, write_model
from tests.corpus.datasets import FAULTS
from tests.processes import wait_for

INFO = ['brainchop_bids.cli.models', 'info', 'tissue']
# No locale, and a notebook's terminal.
BARE = {
    'LC_ALL': 'C',
    'PYTHONUTF8': '0',
    'PYTHONCOERCECLOCALE': '0',
    'MPLBACKEND': 'module://matplotlib_inline.backend_inline',
}


def shell(
    *module_and_arguments: object, redirect: str = '', before: str = '', **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in a shell, after some others and with redirections."""
    words = map(str, (sys.executable, '-m', *module_and_arguments))
    line = f'{before}{shlex.join(words)} {redirect}'
    return subprocess.run(
        ['bash', '-c', line],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2]), **variables},
        capture_output=True,
        encoding='utf-8',
        timeout=200,
    )


@pytest.mark.parametrize(
    ('redirect', 'code', 'line'),
    [
        ('>&-', 0, ''),
        ('<&- >&- 2>&-', 0, ''),
        ('2>&-', 0, ''),
        (
            '>/dev/full',
            1,
            'brainchop-models: standard output could not be written (No space left on device); '
            'its lines are lost\n',
        ),
        ('>/dev/full 2>/dev/full', 1, ''),
    ],
)
def test_streams_that_are_closed_or_full(redirect: str, code: int, line: str) -> None:
    done = shell(*INFO, redirect=redirect, PYTHONUNBUFFERED='1' if 'full' in redirect else '')
    assert (done.returncode, done.stderr) == (code, line)
    assert ('Gray Matter' in done.stdout) == ('>' not in redirect.replace('2>', ''))


def test_a_name_that_no_encoding_has(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        'from brainchop_bids.app.outcome import outcome\n'
        'def work():\n'
        '    print("sub-\\udcff")\n'
        '    return 0\n'
        'raise SystemExit(outcome("it", work))\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    assert capfd.readouterr().out == 'sub-\\udcff\n'


def test_a_stream_of_somebody_else_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    own = sys.stdout
    with standard_streams() as streams:
        assert sys.stdout is own
        print('seen')
    assert streams.lost is None
    assert capsys.readouterr().out == 'seen\n'


@pytest.mark.parametrize('command', ['run', 'segment', 'models', 'train', 'evaluate'])
def test_a_current_folder_that_is_gone(tmp_path: Path, command: str) -> None:
    arguments = {
        'run': ['bids', 'out', 'participant'],
        'segment': ['scan.nii', 'out.nii'],
        'models': ['list'],
        'train': ['config.toml'],
        'evaluate': ['a.nii', 'b.nii'],
    }
    gone = shlex.quote(str(tmp_path / 'gone'))
    before = f'mkdir {gone} && cd {gone} && rmdir {gone} && '
    done = shell(f'brainchop_bids.cli.{command}', *arguments[command], before=before)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert 'the current folder cannot be used (No such file or directory)' in line
    assert 'change to another one (cd)' in line


def home_and_temporary(folder: Path) -> dict[str, str]:
    """Return variables that name two new folders."""
    names = {'HOME': folder / 'home', 'TMPDIR': folder / 'tmp'}
    for path in names.values():
        path.mkdir()
    return {name: str(path) for name, path in names.items()} | {'XDG_CACHE_HOME': ''}


def test_libraries_write_to_no_home(tmp_path: Path) -> None:
    code = (
        'import os, pathlib\n'
        'from brainchop_bids.app.outcome import outcome\n'
        'def work():\n'
        '    import matplotlib.pyplot as plt\n'
        '    print(plt.get_backend(), pathlib.Path(os.environ["KERAS_HOME"]).parent)\n'
        '    plt.figure().savefig(os.devnull, format="png")\n'
        '    return 0\n'
        'raise SystemExit(outcome("it", work))\n'
    )
    places = home_and_temporary(tmp_path)
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={'PATH': os.environ['PATH'], **BARE, **places},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, '')
    backend, cache = done.stdout.split()
    assert backend == 'agg'
    # It was there during the work only.
    assert Path(cache).parent == tmp_path / 'tmp'
    assert not list((tmp_path / 'tmp').iterdir())
    assert not list((tmp_path / 'home').iterdir())


@pytest.mark.slow
def test_verify_writes_to_no_home(tmp_path: Path) -> None:
    model, places = write_model(tmp_path / 'net'), home_and_temporary(tmp_path)
    done = shell('brainchop_bids.cli.models', 'verify', model, **places, **BARE)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'both engines compute a test volume' in done.stdout
    assert not list((tmp_path / 'tmp').iterdir())
    assert not list((tmp_path / 'home').iterdir())


def test_a_run_on_nearly_bids_without_locale_output_or_short_temporary_folder(
    tmp_path: Path,
) -> None:
    """One run with all faults of a dataset and of an environment at once."""
    names = ['sub-01/anat/sub-01_T1w.nii.gz', 'sub-02/anat/sub-02_T1w.nii.gz']
    bids = write_dataset(tmp_path / 'Köpfe 头', names)
    expected = [fault(bids) for fault in FAULTS]
    (bids / '.bidsignore').write_text('sub-02/\n')
    temporary = tmp_path / ('x' * 100)
    temporary.mkdir()
    out = tmp_path / 'Ausgabe ü'
    app = ('brainchop_bids.cli.run', bids, out, 'participant', '-w', tmp_path / 'work')
    options = ('--model', write_model(tmp_path / 'net'), '--skip-bids-validation')
    done = shell(*app, *options, redirect='>/dev/full', TMPDIR=str(temporary), **BARE)
    assert done.returncode == 0, done.stderr
    *warnings, last = done.stderr.splitlines()
    assert last == (
        'brainchop: standard output could not be written (No space left on device); '
        'its lines are lost'
    )
    assert len(warnings) == len(expected) + 1
    assert warnings.pop(0) == '  warning: .bidsignore leaves out sub-02_T1w'
    for where, words in expected:
        [line] = [line for line in warnings if line.startswith(f'  warning: {bids}/{where}: ')]
        assert words in line
    assert (out / 'sub-01' / 'anat' / 'sub-01_seg-net_dseg.nii.gz').exists()
    assert not (out / 'sub-02').exists()
    [settings] = (out / 'logs').glob('run-*.toml')
    assert str(bids) in settings.read_text(encoding='utf-8')
    assert not list(temporary.iterdir())


def test_sockets_need_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, 'tempdir', '/tmp/' + 'ü' * 36)  # noqa: S108
    assert len(os.fsencode(socket_folder())) <= 75
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(OutputError, match=r'ü: .* too long .* TMPDIR .* at most 75 bytes'):
        socket_folder()


def test_a_lock_that_is_a_link(tmp_path: Path) -> None:
    target = tmp_path / 'precious'
    target.write_text('kept')
    lock = tmp_path / 'work' / '.lock'
    lock.parent.mkdir()
    for there in (target, tmp_path / 'nowhere'):
        lock.symlink_to(there)
        with (
            pytest.raises(OutputError, match=r'work/\.lock: is a link.*remove it and run again'),
            own_folder(lock.parent),
        ):
            pass
        lock.unlink()
    assert target.read_text() == 'kept'
    assert not (tmp_path / 'nowhere').exists()
    lock.write_text('kept')
    with own_folder(lock.parent) as folder, own_folder(lock.parent) as other:
        assert folder == lock.parent
        assert other.parent == folder
    assert lock.read_text() == 'kept'


def test_a_work_folder_that_is_removed(tmp_path: Path) -> None:
    names = [f'sub-0{number}/anat/sub-0{number}_T1w.nii.gz' for number in (1, 2)]
    bids = write_dataset(tmp_path / 'bids', names)
    out, work = tmp_path / 'out', tmp_path / 'work'
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', bids, out, 'participant']
    command += ['--model', write_model(tmp_path / 'net'), '-w', work, '--nprocs', '1']
    log, errors = tmp_path / 'log', tmp_path / 'errors'
    with (
        log.open('w') as stdout,
        errors.open('w') as stderr,
        subprocess.Popen(
            [*map(str, command), '--skip-bids-validation'], stdout=stdout, stderr=stderr
        ) as process,
    ):
        wait_for(lambda: list(work.glob('*/sub_01_T1w_wf/conform/*')), 200, 0.01)
        while '[1/2]' not in log.read_text() and process.poll() is None:
            # A step that begins later makes its folder anew.
            shutil.rmtree(work, ignore_errors=True)
            time.sleep(0.01)
    said = log.read_text()
    assert process.returncode == 1
    line = f'the work folder {work} was removed during the run ('
    assert f'[1/2] sub-01_T1w: FAILED: {line}' in said
    assert f'  failed: sub-01_T1w: {line}' in errors.read_text()
    assert 'memory' not in said + errors.read_text()
    assert '[2/2] sub-02_T1w: done' in said


@contextmanager
def few_processes(number: int) -> Iterator[list[str]]:
    """Yield the beginning of a command that may have so many processes and threads."""
    if os.geteuid() != 0:
        # Others of the same user count as well.
        yield ['prlimit', f'--nproc={number}']
        return
    # The limit of a user does not hold for root.
    group = Path('/sys/fs/cgroup/pids') / f'brainchop-test-{os.getpid()}'
    try:
        group.mkdir()
    except OSError:
        pytest.skip('this root may not make a group of processes')
    (group / 'pids.max').write_text(str(number))
    yield ['sh', '-c', f'echo $$ >{group}/cgroup.procs; exec "$@"', 'sh']
    group.rmdir()


def test_processes_that_the_system_refuses(tmp_path: Path) -> None:
    bids = write_dataset(tmp_path / 'bids', ['sub-01/anat/sub-01_T1w.nii.gz'])
    app = ['-m', 'brainchop_bids.cli.run', bids, tmp_path / 'out', 'participant']
    app += ['--model', write_model(tmp_path / 'net'), '-w', tmp_path / 'work']
    thread = (
        'import threading\n'
        'from brainchop_bids.app.outcome import outcome\n'
        'def work():\n'
        '    while True:\n'
        '        threading.Thread(target=threading.Event().wait, daemon=True).start()\n'
        'raise SystemExit(outcome("it", work))\n'
    )
    with few_processes(8) as limited:
        refused = subprocess.run(
            [*limited, sys.executable, *map(str, app)], capture_output=True, text=True
        )
        late = subprocess.run(
            [*limited, sys.executable, '-c', thread], capture_output=True, text=True
        )
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert re.search(r'the system grants \d processes and threads in place of the 16 that', line)
    assert line.endswith('raise the limit (ulimit -u, or pids.max of a container or job)')
    assert late.returncode == 1
    assert late.stderr == (
        "it: error: the system refused another process or thread (can't start new thread); raise "
        'its limit (ulimit -u, or pids.max of a container or job)\n'
    )
