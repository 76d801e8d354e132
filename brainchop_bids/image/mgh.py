"""Headers of FreeSurfer's MGH format, for writing."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader, header_dtype

SUFFIXES = ('.mgh', '.mgz', '.mgh.gz')
# Types of the format for whole numbers, the smallest first.
_WHOLE = ('u1', '>i2', '>i4')


def is_mgh(name: str) -> bool:
    """Return True if a file name is that of an MGH image."""
    return name.endswith(SUFFIXES)


def mgh_type(data: np.ndarray) -> np.dtype:
    """Return the type in which an image is stored: the smallest that holds its own type's values.

    Parameters
    ----------
    data : array
        Label maps with the smallest unsigned type that holds them, or an image.

    Returns
    -------
    dtype
        uint8, or big-endian int16, int32 or float32.
    """
    if data.dtype.kind == 'f':
        return np.dtype('>f4')
    most = int(data.max(initial=0)) if data.dtype.kind == 'u' else np.iinfo(data.dtype).max
    least = 0 if data.dtype.kind == 'u' else np.iinfo(data.dtype).min
    for name in _WHOLE:
        limits = np.iinfo(name)
        if limits.min <= least and most <= limits.max:
            return np.dtype(name)
    raise ValueError(f'MGH has no type for values up to {most}')


def mgh_blocks(
    shape: Sequence[int], dtype: np.dtype, affine: np.ndarray, like: object = None
) -> tuple[bytes, bytes]:
    """Return the bytes before and after the voxels of an MGH image.

    Parameters
    ----------
    shape : sequence of 3 or 4 int
        Shape of the image.
    dtype : dtype
        Type of the voxels, see `mgh_type`.
    affine : (4, 4) array
        Voxel index to RAS+ mm; the format has 32 bits for each number.
    like : object, optional
        Header of a file on the same grid. If it is an MGH header with a position, this is copied
        exactly.

    Returns
    -------
    tuple of bytes
        Header and footer.
    """
    # An array of one value takes no memory.
    header = nib.MGHImage(np.broadcast_to(np.zeros((), dtype), tuple(shape)), affine).header
    if isinstance(like, MGHHeader) and int(like['goodRASFlag']) == 1:
        for name in ('delta', 'Mdc', 'Pxyz_c'):
            header[name] = like[name]
    block, size = header.binaryblock, header_dtype.itemsize
    return block[:size].ljust(DATA_OFFSET, b'\0'), block[size:]
