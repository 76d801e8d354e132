"""Commands run in a folder of somebody's files that carry the names of Python's modules."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainchop_bids.system.processes import module_command
from tests.builders import write_dataset, write_model
from tests.training.maps import write_maps

NAMES = (
    'threading',
    'contextlib',
    'numpy',
    'random',
    'nibabel',
    'multiprocessing',
    'brainchop_bids',
)
TRAINING = """
workers = 1
checkpoint_every = 2
validation_cubes = 1
[data]
label_maps = "{maps}"
mapping = "aseg_to_tissue"
[model]
channels = 4
dilations = [1, 2]
[card]
name = "tiny"
[[stages]]
steps = 2
cube = 16
cubes_per_volume = 2
norm = "none"
"""
# A program of somebody's that starts processes of ours; Python 3.10 does not know PYTHONSAFEPATH.
PROGRAM = """
import multiprocessing
import sys
from brainchop_bids.system.processes import start_fork_server

def work(number):
    import nibabel, random, threading
    return number + 1

if __name__ == '__main__':
    start_fork_server(safe_path={safe_path})
    with multiprocessing.get_context('forkserver').Pool(1) as pool:
        assert pool.map(work, [1]) == [2]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Make the folder; nothing in it may have been run in the end."""
    folder = tmp_path / 'hostile'
    folder.mkdir()
    marker = tmp_path / 'marker'
    for name in NAMES:
        text = (
            f'open({str(marker)!r}, "a").write({name!r} + chr(10))\nraise RuntimeError({name!r})\n'
        )
        (folder / f'{name}.py').write_text(text)
    yield folder
    assert not marker.exists(), marker.read_text()


def run(folder: Path, command: list[object]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONSAFEPATH'}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def script(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f'{name} is not installed beside {sys.executable}'
    return found


def test_scans_are_segmented_and_scored(folder: Path, tmp_path: Path) -> None:
    name = 'sub-01/anat/sub-01_T1w.nii.gz'
    dataset = write_dataset(tmp_path / 'bids', [name])
    model = write_model(tmp_path / 'model')
    out = tmp_path / 'out'
    run(folder, [script('brainchop'), dataset, out, 'participant', '--model', model])
    run(folder, [script('brainchop'), dataset, out, 'group'])
    assert (out / 'sub-01.html').exists()
    labels = tmp_path / 'labels.nii.gz'
    run(folder, [script('brainchop-segment'), dataset / name, labels, '--model', model])
    run(folder, [script('brainchop-evaluate'), labels, labels, '--out', tmp_path / 'scores.tsv'])
    run(folder, [script('brainchop-models'), 'list'])


def test_a_network_is_trained(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / 'config.toml'
    config.write_text(TRAINING.format(maps=write_maps(tmp_path / 'maps', 2)))
    run(folder, [script('brainchop-train'), config, '--out', tmp_path / 'run'])
    assert (tmp_path / 'run' / 'tiny' / 'model.json').exists()


@pytest.mark.parametrize('safe_path', [False, True])
def test_a_module_is_run(folder: Path, safe_path: bool) -> None:
    if safe_path and sys.version_info < (3, 11):
        pytest.skip('Python 3.10 does not know -P')
    run(folder, module_command('brainchop_bids.cli.models', 'list', safe_path=safe_path))


@pytest.mark.parametrize('safe_path', [False, True])
def test_workers_of_another_program(folder: Path, tmp_path: Path, safe_path: bool) -> None:
    if safe_path and sys.version_info < (3, 11):
        pytest.skip('Python 3.10 does not know PYTHONSAFEPATH')
    path = tmp_path / 'program.py'
    path.write_text(PROGRAM.format(safe_path=safe_path))
    run(folder, [sys.executable, path])
