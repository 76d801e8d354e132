"""The App where next to nothing is allowed: no network, no home, no account, one writable folder.

Namespaces of the kernel take things away as a container does; no container is needed for that.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.builders import DEMO

# Every mount becomes read-only but the folder named first. The second user namespace makes of the
# one root that is left a user whom no account names, and who may do nothing special.
LOCK = r"""
set -e
free=$1
shift
mount --bind "$free" "$free"
for place in $(cut -d' ' -f5 /proc/self/mountinfo | sort -u); do
    case $place in "$free" | /proc* | /dev* | /sys*) ;;
        *) mount -o remount,bind,ro "$place" 2>/dev/null || echo "stays as it is: $place" ;;
    esac
done
exec unshare --map-user=12345 --map-group=12345 "$@"
"""
NAMESPACES = ['unshare', '--user', '--map-root-user', '--mount', '--net']
# What tells of the user who runs the tests stays out of it.
BARE = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'}


def locked_down(
    free: Path, *command: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that can write to one folder only, without a network."""
    where = {'PYTHONPATH': os.environ.get('PYTHONPATH', ''), 'TMPDIR': str(free / 'tmp')}
    (free / 'tmp').mkdir(exist_ok=True)
    return subprocess.run(
        [*NAMESPACES, 'sh', '-c', LOCK, 'sh', *map(str, (free, *command))],
        env={**BARE, **where, **environment},
        capture_output=True,
        encoding='utf-8',
        timeout=500,
    )


def brainchop(free: Path, *arguments: object, **environment: str) -> str:
    """Run the App so, and return what it says; it must go well."""
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', *arguments]
    done = locked_down(free, *command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module', autouse=True)
def _namespaces() -> None:
    if shutil.which('unshare') is None:
        pytest.skip('namespaces: unshare (util-linux) is not installed')
    tried = subprocess.run([*NAMESPACES, 'true'], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f'namespaces: the kernel refuses them here: {tried.stderr.strip()}')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the demo's dataset, with names and words that ASCII cannot write."""
    folder = tmp_path_factory.mktemp('Köpfe 头')
    shutil.copytree(DEMO, folder, dirs_exist_ok=True)
    description = folder / 'dataset_description.json'
    content = json.loads(description.read_text(encoding='utf-8')) | {'Name': 'Köpfe 头'}
    description.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    table = 'participant_id\tHändigkeit\nsub-06\tweiß nicht 🤷\n'
    (folder / 'participants.tsv').write_text(table, encoding='utf-8')
    return folder


@pytest.fixture
def free(tmp_path: Path) -> Path:
    """Return the only folder that may be written to."""
    folder = tmp_path / 'Ergebnis'
    folder.mkdir()
    return folder


def test_the_lock_holds(free: Path, tmp_path: Path) -> None:
    code = (
        'import os, pwd, socket, sys\n'
        'assert os.getuid() == 12345\n'
        'for path in sys.argv[1:]:\n'
        '    try: open(path + "/stray", "w")\n'
        '    except OSError as error: assert error.errno in (13, 30), error\n'
        '    else: raise SystemExit(path + " can be written to")\n'
        'try: pwd.getpwuid(12345)\n'
        'except KeyError: pass\n'
        'else: raise SystemExit("there is an account")\n'
        'assert [name for _, name in socket.if_nameindex()] == ["lo"]\n'
        'try: socket.create_connection(("192.0.2.1", 80), 1)\n'
        'except OSError: pass\n'
        'open(os.environ["TMPDIR"] + "/allowed", "w")\n'
    )
    package = Path(__file__).parents[2]
    places = (tmp_path, Path.home(), package, Path(sys.prefix), '/tmp', '/')  # noqa: S108
    done = locked_down(free, sys.executable, '-c', code, *places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (free / 'tmp' / 'allowed').exists()


def test_the_demo_without_network_home_account_or_utf8(dataset: Path, free: Path) -> None:
    """One run in CI under all conditions at once; the output is UTF-8 all the same."""
    out = free / 'Ausgabe ü'
    said = brainchop(free, dataset, out, 'participant', '-w', free / 'work')
    assert 'sub-06_T1w: done' in said
    assert '1 scan done' in said
    assert (out / 'sub-06' / 'anat' / 'sub-06_seg-tissue_dseg.nii.gz').exists()
    assert sorted(path.name for path in free.iterdir()) == ['Ausgabe ü', 'tmp', 'work']
    assert not list((free / 'tmp').iterdir())
    brainchop(free, dataset, out, 'group')
    [settings] = (out / 'logs').glob('run-*.toml')
    for name, words in {
        settings.relative_to(out): str(dataset),
        'sub-06.html': 'Köpfe 头',
        'group_seg-tissue_dseg.tsv': 'weiß nicht 🤷',
        # As JSON, in a script of the page.
        'group_seg-tissue.html': json.dumps('weiß nicht 🤷'),
    }.items():
        assert words in (out / name).read_text(encoding='utf-8')
    description = json.loads((out / 'dataset_description.json').read_bytes())
    assert description['Name'] == 'Brain labels of Köpfe 头'


def test_a_label_that_is_none_in_bids(dataset: Path, free: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset, tmp_path / 'copy')
    (copy / 'sub-06').rename(copy / 'sub-Zoë')
    app = (sys.executable, '-m', 'brainchop_bids.cli.run', copy, free / 'out', 'participant')
    for more in ((), ('--participant-label', 'Zoë')):
        done = locked_down(free, *app, *more)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert 'no T1w scan for sub-Zoë' in line


HOMES: dict[str, Mapping[str, str]] = {
    'unset': {},
    'empty': {'HOME': ''},
    'nowhere': {'HOME': '/nonexistent'},
    'root': {'HOME': '/'},
    'read-only': {'HOME': str(Path.home())},
}


@pytest.mark.parametrize('home', ['nowhere', 'root'])
def test_any_home_will_do(dataset: Path, free: Path, home: str) -> None:
    out = free / 'out'
    arguments = (dataset, out, 'participant', '-w', free / 'work', '--dry-run')
    said = brainchop(free, *arguments, **HOMES[home])
    assert 'sub-06_T1w: to do (not done yet)' in said
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize('home', HOMES)
def test_the_demo_with_any_home(dataset: Path, free: Path, home: str) -> None:
    arguments = (dataset, free / 'out', 'participant', '-w', free / 'work')
    assert '1 scan done' in brainchop(free, *arguments, **HOMES[home])


@pytest.mark.slow
def test_a_home_that_could_be_written_to_stays_empty(dataset: Path, free: Path) -> None:
    home = free / 'home'
    home.mkdir()
    arguments = (dataset, free / 'out', 'participant', '-w', free / 'work', '--probseg')
    assert '1 scan done' in brainchop(free, *arguments, '--write-graph', HOME=str(home))
    assert not list(home.rglob('*'))
    assert not list((free / 'tmp').iterdir())
    assert {path.name for path in free.iterdir()} == {'home', 'out', 'tmp', 'work'}


@pytest.mark.parametrize('command', ['models', 'segment', 'evaluate', 'train'])
def test_other_commands_need_no_home(free: Path, command: str) -> None:
    arguments = {
        'models': ['info', '~/none'],
        'segment': ['none.nii', 'out.nii', '--model', '~/none'],
        'evaluate': ['~/none', '~/nothing'],
        'train': ['none.toml'],
    }[command]
    module = f'brainchop_bids.cli.{command}'
    done = locked_down(free, sys.executable, '-m', module, *arguments)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert done.stderr.startswith(f'brainchop-{command}: error: ')
    assert done.stderr.count('\n') == 1


@pytest.mark.slow
def test_files_are_utf8_where_python_is_not(dataset: Path, free: Path, tmp_path: Path) -> None:
    """Without Python's own remedy for ``LC_ALL=C``, names of folders must be ASCII, no more."""
    bids, out = shutil.copytree(dataset, tmp_path / 'bids'), free / 'out'
    ascii_only = {'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    said = brainchop(free, bids, out, 'participant', '-w', free / 'work', **ascii_only)
    assert '1 scan done' in said
    brainchop(free, bids, out, 'group', **ascii_only)
    page = (out / 'sub-06.html').read_text(encoding='utf-8')
    table = (out / 'group_seg-tissue_dseg.tsv').read_text(encoding='utf-8')
    assert 'Köpfe 头' in page
    assert 'weiß nicht 🤷' in table
