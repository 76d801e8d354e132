"""Output on a file system that takes upper and lower case for the same: a real exFAT."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainchop_bids.bids.dataset import check_distinct
from brainchop_bids.system.errors import DatasetError
from tests.builders import write_dataset, write_model


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """Mount an exFAT file system of its own."""
    needed = [shutil.which(name) for name in ('losetup', 'mkfs.exfat', 'mount.exfat-fuse')]
    if not all(needed):
        pytest.skip('exFAT: losetup, exfatprogs and exfat-fuse are not all installed')
    image, place = tmp_path / 'image', tmp_path / 'exfat'
    with image.open('wb') as file:
        file.truncate(256 << 20)
    place.mkdir()
    subprocess.run(['mkfs.exfat', image], check=True, capture_output=True)
    made = subprocess.run(['losetup', '-f', '--show', image], capture_output=True, text=True)
    device = made.stdout.strip()
    try:
        if not device or subprocess.run(['mount.exfat-fuse', device, place]).returncode:
            pytest.skip('exFAT: it takes root and a loop device to mount one')
        yield place
        subprocess.run(['umount', place], check=True)
    finally:
        if device:
            subprocess.run(['losetup', '-d', device], check=True)


def test_names_that_differ_in_case_alone(exfat: Path, tmp_path: Path) -> None:
    check_distinct(tmp_path, ['A', 'a', 'B'])
    check_distinct(exfat, ['A', 'b'])
    with pytest.raises(DatasetError, match=r'sub-a and sub-A: .* one would replace the other'):
        check_distinct(exfat, ['A', 'B', 'a'])
    (exfat / 'sub-b').mkdir()
    with pytest.raises(DatasetError, match='sub-B and sub-b'):
        check_distinct(exfat, ['A', 'B'])
    assert [path.name for path in exfat.iterdir()] == ['sub-b']


def test_a_whole_run_on_exfat(exfat: Path, tmp_path: Path) -> None:
    write_dataset(exfat / 'bids', ['sub-A01/anat/sub-A01_T1w.nii.gz'])
    model = write_model(tmp_path / 'tiny')

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, '-m', 'brainchop_bids.cli.run', exfat / names[0]]
        command += [exfat / names[1], 'participant', '-w', exfat / names[2], '--model', model]
        return subprocess.run(command, capture_output=True, text=True)

    first = run('bids', 'out', 'work')
    assert first.returncode == 0, first.stderr
    assert (exfat / 'out/sub-A01/anat/sub-A01_seg-tiny_dseg.nii.gz').exists()
    # The same folders by other names.
    again = run('BIDS', 'Out', 'WORK')
    assert '1 already done' in again.stdout
    write_dataset(tmp_path / 'bids', ['sub-a01/anat/sub-a01_T1w.nii.gz'])
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', tmp_path / 'bids', exfat / 'out']
    other = subprocess.run(
        [*command, 'participant', '-w', tmp_path / 'work', '--model', model],
        capture_output=True, text=True,
    )  # fmt: skip
    assert other.returncode != 0
    assert 'sub-a01 and sub-A01' in other.stderr
    assert 'Traceback' not in other.stderr
