"""Headers and bytes of images that are written."""

import zlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from ..system.errors import OutputError
from .geometry import Geometry

_PIECE = 1 << 22  # bytes that are compressed at once
_LEVEL = 4  # zlib's level: label maps are a third smaller than with 1, in half the time of 6


def nifti_header(affine: np.ndarray | None, data: np.ndarray) -> nib.Nifti1Header:
    """Return the header of an image.

    Parameters
    ----------
    affine : (4, 4) array
        Voxel index to RAS+ mm; written as sform and qform with code 1.
    data : array
        Voxels of the image.

    Returns
    -------
    nibabel.Nifti1Header
        Header with mm as its unit.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units('mm')
    return header


def header_like(geometry: Geometry, raw: object, data: np.ndarray) -> nib.Nifti1Header:
    """Return the header of an image on the grid of a scan.

    Parameters
    ----------
    geometry : Geometry
        The grid.
    raw : object
        Header that describes it, if there is one; of a NIfTI header sform, qform, their codes and
        units are copied exactly.
    data : array
        Voxels of the image.

    Returns
    -------
    nibabel.Nifti1Header
        A `nibabel.Nifti2Header` for one like it.
    """
    if not isinstance(raw, nib.Nifti1Header):
        return nifti_header(geometry.affine, data)
    # The sform of NIfTI-2 has 64 bits, so the format is kept.
    wide = isinstance(raw, nib.Nifti2Header)
    header = nib.Nifti2Header() if wide else nib.Nifti1Header()
    header.set_data_shape(data.shape)
    for name in (
        'srow_x',
        'srow_y',
        'srow_z',
        'sform_code',
        'qform_code',
        'xyzt_units',
        'quatern_b',
        'quatern_c',
        'quatern_d',
        'qoffset_x',
        'qoffset_y',
        'qoffset_z',
    ):
        header[name] = raw[name]
    header['pixdim'][:4] = raw['pixdim'][:4]
    return header


def write_blocks(
    path: Path, head: bytes, data: np.ndarray, stored: np.dtype, foot: bytes = b''
) -> None:
    """Write voxels between two blocks, compressed by the name of the file.

    Parameters
    ----------
    path : Path
        The file; removed if writing fails.
    head, foot : bytes
        What is before and after the voxels.
    data : array
        The voxels.
    stored : dtype
        Type in which they are written.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    flat = data.ravel(order='F')
    step = _PIECE // data.dtype.itemsize
    pieces = (
        flat[start : start + step].astype(stored, copy=False).tobytes()
        for start in range(0, flat.size, step)
    )
    try:
        with path.open('wb') as stream:
            try:
                _pour(stream, chain([head], pieces, [foot]), path.name.endswith(('.gz', '.mgz')))
                stream.flush()
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f'{path}: cannot be written ({reason}); make room there or choose another place'
        ) from None


def _pour(stream: BinaryIO, pieces: Iterable[bytes], compressed: bool) -> None:
    if not compressed:
        stream.writelines(pieces)
        return
    # Without name and time in the gzip header equal images are equal files.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    for piece in pieces:
        stream.write(packer.compress(piece))
    stream.write(packer.flush())
