"""What a new user does: clone, install (not editable), and run in the folder of the clone."""

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.builders import DEMO, write_dataset, write_model

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone of the repository."""
    if not (ROOT / '.git').exists():
        pytest.skip('these tests do not lie in a clone')
    run('git', 'clone', '--quiet', ROOT, tmp_path / 'clone', cwd=tmp_path)
    return tmp_path / 'clone'


@pytest.fixture
def installed(clone: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a clone, and the folder of the commands of what was installed from it."""
    venv.create(tmp_path / 'venv', with_pip=False)
    python = tmp_path / 'venv' / 'bin' / 'python'
    (place,) = (tmp_path / 'venv').glob('lib/python*/site-packages')
    # All other packages are borrowed; what installs packages in an editable way is not.
    borrowed = [path for path in sys.path if Path(path).name == 'site-packages']
    (place / 'borrowed.pth').write_text('\n'.join(borrowed) + '\n')
    # Without the page of brainchop-web, which takes a while to build.
    run(
        'env', 'BRAINCHOP_NO_PAGE=1', python, '-m', 'pip', 'install', '--quiet', '--no-deps',
        '--no-build-isolation', '--ignore-installed', '--no-index', clone, cwd=tmp_path,
    )  # fmt: skip
    return clone, python.parent


def test_a_clone_is_installed_and_runs_in_its_own_folder(
    installed: tuple[Path, Path], tmp_path: Path
) -> None:
    clone, commands = installed
    show = 'import brainchop_bids.workflows as found; print(found.__file__)'
    assert str(tmp_path / 'venv') in run(commands / 'python', '-c', show, cwd=tmp_path)
    # Nothing is imported from here.
    (clone / 'brainchop_bids' / '__init__.py').write_text('raise ImportError("the clone")\n')
    name = 'sub-01/anat/sub-01_T1w.nii.gz'
    dataset = write_dataset(tmp_path / 'bids', [name])
    out = tmp_path / 'out'
    told = run(
        commands / 'brainchop', dataset, out, 'participant', '-w', tmp_path / 'work',
        '--model', write_model(tmp_path / 'net'), '--skip-bids-validation', cwd=clone,
    )  # fmt: skip
    assert '1 scan' in told
    assert (out / name.replace('_T1w', '_seg-net_dseg')).exists()


def test_distributions_have_all_files_and_are_built_without_warnings(clone: Path) -> None:
    code = (
        'from setuptools import build_meta\n'
        'for build in build_meta.build_sdist, build_meta.build_wheel: print(build("dist"))\n'
    )
    # If Python is told not to, setuptools warns that it writes no byte code.
    told = run('env', '-u', 'PYTHONDONTWRITEBYTECODE', sys.executable, '-c', code, cwd=clone)
    assert 'warning' not in told.lower()
    assert 'ignored' not in told.replace('ignored.py', '')
    tracked = set(run('git', 'ls-files', cwd=clone).splitlines())
    built = (clone / 'brainchop_bids' / 'data' / 'web').rglob('*')
    page = {path.relative_to(clone).as_posix() for path in built if path.is_file()}
    assert bool(page) == (shutil.which('npm') is not None)
    [source], [wheel] = (clone / 'dist').glob('*.tar.gz'), (clone / 'dist').glob('*.whl')
    with tarfile.open(source) as archive:
        files = [Path(member.name) for member in archive if member.isfile()]
    held = {Path(*path.parts[1:]).as_posix() for path in files}
    left_out = {'.gitignore', '.ci/run', '.ci/constraints.txt', 'brainchop_bids/workflows'}
    assert tracked - held == left_out
    assert page <= held
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if '.dist-info/' not in name}
    workflows = {f'brainchop_bids/{name}' for name in tracked if name.startswith('workflows/')}
    ours = {name for name in tracked - left_out if name.startswith('brainchop_bids/')}
    assert packed == ours | workflows | page
    assert wheel.stat().st_size < 15e6


@pytest.mark.timeout(900)
def test_the_light_installation_gives_the_same_labels(
    installed: tuple[Path, Path], tmp_path: Path
) -> None:
    """As `make demo` installs it from the package index: without TensorFlow and niworkflows."""
    clone, whole = installed
    model = write_model(tmp_path / 'net')
    told = run(
        'make', '--no-print-directory', 'demo', f'VENV={tmp_path}/light', f'DEMO={tmp_path}/demo',
        f'MODEL={model}', f'PYTHON={sys.executable}', cwd=clone,
    )  # fmt: skip
    assert 'warning' not in told.lower()
    # Progress is told, a line every ten seconds; what to open comes last.
    lines = [line for line in told.splitlines() if not line.startswith('  ')]
    assert len(lines) < 15
    page = lines[-1].split()[1]
    assert lines[-1].startswith(f'Open {page} in a browser')
    assert Path(page).stat().st_size > 100_000
    light = tmp_path / 'light' / 'bin'
    (packages,) = (tmp_path / 'light').glob('lib/python*/site-packages')
    assert not {'tensorflow', 'keras', 'niworkflows', 'h5py'} & {
        p.name for p in packages.iterdir()
    }
    out = tmp_path / 'whole'
    options = ('-w', tmp_path / 'work', '--model', model)
    run(whole / 'brainchop', DEMO, out, 'participant', *options, cwd=tmp_path)
    run(light / 'brainchop', DEMO, tmp_path / 'demo' / 'derivatives', 'group', cwd=tmp_path)
    labels = [
        nib.load(folder / 'sub-06' / 'anat' / 'sub-06_seg-net_dseg.nii.gz')
        for folder in (out, tmp_path / 'demo' / 'derivatives')
    ]
    np.testing.assert_array_equal(labels[0].dataobj, labels[1].dataobj)
    told = run(light / 'brainchop-models', 'verify', tmp_path / 'net', cwd=tmp_path)
    assert 'OpenVINO computes a test volume' in told
    # What needs more says so.
    h5 = tmp_path / 'h5'
    h5.mkdir()
    (h5 / 'model.h5').write_bytes(b'')
    recipe, found = clone / 'recipes' / 'tissue.toml', labels[1].get_filename()
    for package, command in {
        'pip install tensorflow': ('brainchop-train', recipe, '--out', tmp_path / 'train'),
        'pip install surface-distance': ('brainchop-evaluate', found, found),
        'pip install h5py': ('brainchop-models', 'info', h5),
    }.items():
        told = run(light / command[0], *command[1:], cwd=tmp_path, code=1)
        assert told.count('\n') == 1
        assert told.rstrip().endswith(package)
