"""Files that are no regular files, and files in the folder of somebody else."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path


def fifo(path: Path) -> None:
    """Make a pipe, which nobody will ever write to."""
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    """Make a socket; its address must be short, so it is made elsewhere and moved."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def endless(path: Path) -> None:
    """Make a link to a device that never ends."""
    path.symlink_to('/dev/zero')


def loop(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path.name)


# Each with what the line about it says.
IRREGULAR: dict[Callable[[Path], None], str] = {
    fifo: 'is a FIFO, not a regular file',
    bound_socket: 'is a socket, not a regular file',
    endless: 'is a device, not a regular file',
    loop: 'is a link to a file that is not here',
}


def replace(path: Path, make: Callable[[Path], None]) -> None:
    """Put something else into the place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)


# The folder's and the name's participant and session of scans that contradict themselves.
MISPLACED = {
    'sub-24/anat/sub-25_T1w.nii.gz': ('sub-24', 'sub-25'),
    'sub-24/anat/sub-024_T1w.nii.gz': ('sub-24', 'sub-024'),
    'sub-24/ses-1/anat/sub-24_ses-2_T1w.nii.gz': ('sub-24/ses-1', 'sub-24/ses-2'),
    'sub-24/ses-1/anat/sub-24_T1w.nii.gz': ('sub-24/ses-1', 'sub-24'),
    'sub-24/anat/sub-24_ses-2_T1w.nii.gz': ('sub-24', 'sub-24/ses-2'),
    'sub-24/ses-01/anat/sub-25_ses-01_T1w.nii.gz': ('sub-24/ses-01', 'sub-25/ses-01'),
}


def misplace(dataset: Path, name: str, scan: Path) -> None:
    """Put a copy of a scan where it does not belong."""
    target = dataset / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(scan, target)
