"""DICOM series, read by dcm2niix (https://github.com/rordenlab/dcm2niix)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..system.errors import InputError

_PROGRAM = 'dcm2niix'


@contextmanager
def as_nifti(path: Path) -> Iterator[Path]:
    """Convert the DICOM series of a folder to NIfTI, in a folder that is removed afterwards.

    Parameters
    ----------
    path : Path
        A folder with the files of one series; other paths are returned as they are.

    Yields
    ------
    Path
        The NIfTI image.

    Raises
    ------
    InputError
        If dcm2niix is not installed or fails, or the folder does not hold exactly one series.
    """
    if not path.is_dir():
        yield path
        return
    program = _program()
    if program is None:
        raise InputError(
            f'{path}: is a folder; to read DICOM series, pip install "brainchop-bids[dicom]"'
        )
    with tempfile.TemporaryDirectory(prefix='brainchop-') as folder:
        # Uncompressed, without sidecar, named by the number and description of the series.
        options = ['-z', 'n', '-b', 'n', '-f', '%s_%d', '-o', folder]
        done = subprocess.run(  # noqa: S603, a program by its full path
            [program, *options, os.path.abspath(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            check=False,
        )
        images = sorted(Path(folder).glob('*.nii'))
        if not images:
            lines = done.stdout.strip().splitlines() or [f'exit code {done.returncode}']
            raise InputError(
                f'{path}: dcm2niix makes no image of this folder ({lines[-1].strip()}); expected '
                'the files of a DICOM series'
            )
        if len(images) > 1:
            names = ', '.join(image.stem for image in images[:6])
            raise InputError(
                f'{path}: holds {len(images)} images ({names}); give a folder with one series'
            )
        yield images[0]


def _program() -> str | None:
    """Return the path of dcm2niix: that of its Python package, or one on the PATH."""
    try:
        from dcm2niix import bin as program
    except ImportError:
        return shutil.which(_PROGRAM)
    return str(program)
