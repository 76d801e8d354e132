"""Arrays in memory-mapped files."""

import os
from pathlib import Path

import numpy as np


def create_array(path: Path, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """Create a memory-mapped file of float32 zeros, in Fortran order.

    Parameters
    ----------
    path : Path
        The file; it is overwritten if it exists.
    shape : tuple of int
        Shape of the array.
    offset : int
        Position of the array in the file, in bytes.

    Returns
    -------
    array of ``shape``, float32
        Mapped to the file.

    Raises
    ------
    OSError
        If the disk has too little space. This is checked in advance, because writing to a mapped
        file on a full disk kills the process.
    """
    size = offset + 4 * int(np.prod(shape, dtype=np.int64))
    with path.open('wb') as file:
        if hasattr(os, 'posix_fallocate'):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, np.float32, 'r+', offset, shape, order='F')
