"""Commands in environments that lack what a terminal has."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from brainchop_bids.system.environment import socket_folder, standard_streams
from brainchop_bids.system.errors import OutputError
from brainchop_bids.system.processes import own_folder
from tests.builders import write_dataset, write_model

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


def test_nothing_is_written_to_a_home(tmp_path: Path) -> None:
    home, temporary = tmp_path / 'home', tmp_path / 'tmp'
    home.mkdir()
    temporary.mkdir()
    model = write_model(tmp_path / 'net')
    places = {'HOME': str(home), 'TMPDIR': str(temporary), 'XDG_CACHE_HOME': ''}
    done = shell('brainchop_bids.cli.models', 'verify', model, **places, **BARE)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'both engines compute a test volume' in done.stdout
    assert not list(home.rglob('*'))
    assert not list(temporary.iterdir())


def test_a_run_without_locale_or_output_and_with_a_long_temporary_folder(tmp_path: Path) -> None:
    """One run under all conditions at once."""
    bids = write_dataset(tmp_path / 'Köpfe 头', ['sub-01/anat/sub-01_T1w.nii.gz'])
    temporary = tmp_path / ('x' * 100)
    temporary.mkdir()
    out = tmp_path / 'Ausgabe ü'
    app = ('brainchop_bids.cli.run', bids, out, 'participant', '-w', tmp_path / 'work')
    options = ('--model', write_model(tmp_path / 'net'), '--skip-bids-validation')
    done = shell(*app, *options, redirect='>/dev/full', TMPDIR=str(temporary), **BARE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        'brainchop: standard output could not be written (No space left on device); '
        'its lines are lost\n'
    )
    assert (out / 'sub-01' / 'anat' / 'sub-01_seg-net_dseg.nii.gz').exists()
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
