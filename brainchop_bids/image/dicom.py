"""DICOM series, read by dcm2niix (https://github.com/rordenlab/dcm2niix)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib

from ..system.errors import InputError
from ..system.files import require_regular

_PROGRAM = 'dcm2niix'
_PREAMBLE = 128


@contextmanager
def as_nifti(path: Path) -> Iterator[Path]:
    """Convert a DICOM series to NIfTI, in a folder that is removed afterwards.

    Parameters
    ----------
    path : Path
        A folder with the files of one series, or a file: one that holds a volume, or a slice of
        the only series in its folder. Paths of other files are returned as they are.

    Yields
    ------
    Path
        The NIfTI image.

    Raises
    ------
    InputError
        If dcm2niix is not installed or fails, or there is not exactly one series.
    """
    # Unlike `Path.is_dir`, this accepts any name.
    is_folder = os.path.isdir(path)
    if not is_folder and not is_dicom(path):
        yield path
        return
    program = _program()
    if program is None:
        found = 'is a folder; to read DICOM series' if is_folder else 'is DICOM; to read it'
        raise InputError(f'{path}: {found}, pip install "brainchop-bids[dicom]"')
    with tempfile.TemporaryDirectory(prefix='brainchop-') as folder:
        if is_folder:
            yield _convert(program, path, folder)
            return
        image = _convert(program, path, folder, '-s', 'y')
        if min(nib.Nifti1Image.from_filename(image).shape) == 1:
            image.unlink()
            image = _convert(program, path.absolute().parent, folder)
        yield image


def is_dicom(path: Path) -> bool:
    """Return True if a file begins like those of DICOM: 128 bytes, then ``DICM``."""
    try:
        require_regular(path)
        with open(path, 'rb') as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b'DICM'
    except OSError:
        return False


def _convert(program: str, path: Path, folder: str, *options: str) -> Path:
    """Return the only image that dcm2niix makes."""
    # Uncompressed, without sidecar, named by the number and description of the series.
    options = ('-z', 'n', '-b', 'n', '-f', '%s_%d', *options, '-o', folder)
    done = subprocess.run(  # noqa: S603, a program by its full path
        [program, *options, os.path.abspath(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding='utf-8',
        errors='replace',
        check=False,
    )
    images = sorted(Path(folder).glob('*.nii'))
    if not images:
        lines = done.stdout.strip().splitlines() or [f'exit code {done.returncode}']
        raise InputError(
            f'{path}: dcm2niix makes no image of it ({lines[-1].strip()}); expected the files of '
            'a DICOM series'
        )
    if len(images) > 1:
        names = ', '.join(image.stem for image in images[:6])
        raise InputError(
            f'{path}: holds {len(images)} images ({names}); give a folder with one series'
        )
    return images[0]


def _program() -> str | None:
    """Return the path of dcm2niix: that of its Python package, or one on the PATH."""
    try:
        from dcm2niix import bin as program
    except ImportError:
        return shutil.which(_PROGRAM)
    return str(program)
