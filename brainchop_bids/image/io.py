"""Reading of scans, and writing of NIfTI and MGH images."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from ..system.errors import InputError, OutputError
from .geometry import Geometry
from .headers import Header, read_header
from .mgh import is_mgh, mgh_blocks, mgh_type
from .stored import chosen_frame, read_stored
from .values import as_read

_LABEL_INTENT = 'label'  # code 1002
_PIECE = 1 << 22  # bytes that are compressed at once
_LEVEL = 4  # zlib's level: label maps are a third smaller than with 1, in half the time of 6


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume in memory.

    Parameters
    ----------
    data : (X, Y, Z) array
        uint8, int16, uint16, int32 or float32; may be read-only.
    geometry : Geometry
        Grid of the volume.
    warnings : tuple of str
        One line for each irregularity that did not prevent reading.
    path : Path, optional
        File that it was read from.
    header : nibabel header, optional
        The header as it is in the file.
    """

    data: np.ndarray
    geometry: Geometry
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    header: object | None = None


def read_volume(path: Path | str, *, frame: int | None = None) -> Volume:
    """Read one volume as ``mri_convert`` does.

    Stored integers keep their type unless the header scales them; scaled values and 64-bit types
    become float32. Values that are not finite become 0.

    Parameters
    ----------
    path : Path or str
        NIfTI-1 or NIfTI-2 (``.nii``, ``.nii.gz``), MGH (``.mgh``, ``.mgz``, ``.mgh.gz``), or
        the ``.hdr`` of an image in two files (NIfTI-1, Analyze 7.5).
    frame : int, optional
        Volume of a 4-D file, counted from 0; required if there are several.

    Returns
    -------
    Volume
        Irregularities are in its ``warnings``; nothing is printed.

    Raises
    ------
    InputError
        If the file is missing, damaged or not a scalar 3-D image, or has several frames and
        none was selected.
    """
    path = Path(path)
    header = read_header(path)
    chosen = chosen_frame(path, header.frames, frame)
    stored, notes = read_stored(header.voxels or path, header, chosen)
    return _volume(path, replace(header, warnings=(*header.warnings, *notes)), stored)


def volume_of(path: Path, header: Header, stored: np.ndarray, frame: int | None) -> Volume:
    """Return one volume of an image in memory, by the same rules as `read_volume`.

    Parameters
    ----------
    path : Path
        File of the image, or a name for messages.
    header : Header
        Header of the image.
    stored : (X, Y, Z, ...) array
        Values as they are stored.
    frame : int, optional
        Volume of a 4-D image, counted from 0.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        If there are several frames and none was selected.
    """
    chosen = chosen_frame(path, header.frames, frame)
    frames = stored.reshape((*header.geometry.shape, header.frames), order='F')
    return _volume(path, header, frames[..., chosen])


def _volume(path: Path, header: Header, stored: np.ndarray) -> Volume:
    values, notes = as_read(stored, header.slope, header.inter)
    return Volume(values, header.geometry, (*header.warnings, *notes), path, header.raw)


def read_geometry(path: Path | str) -> tuple[Geometry, tuple[str, ...]]:
    """Read a scan's grid from its header alone.

    Parameters
    ----------
    path : Path or str
        As for `read_volume`.

    Returns
    -------
    geometry : Geometry
        Grid of one volume.
    warnings : tuple of str
        One line for each irregularity that did not prevent reading.

    Raises
    ------
    InputError
        If the header cannot be read.
    """
    header = read_header(Path(path))
    return header.geometry, header.warnings


def require_contrast(volume: Volume) -> None:
    """Check that a volume is not constant.

    Parameters
    ----------
    volume : Volume
        The volume.

    Raises
    ------
    InputError
        If all voxels have the same value.
    """
    low, high = volume.data.min(), volume.data.max()
    if low == high:
        name = volume.path or 'the volume'
        raise InputError(
            f'{name}: every voxel is {low:g}, there is no image to segment; '
            'fetch or convert the scan again'
        )


def load_labels(path: Path | str) -> tuple[np.ndarray, Geometry]:
    """Read a label map.

    Parameters
    ----------
    path : Path or str
        As for `read_volume`.

    Returns
    -------
    labels : (X, Y, Z) array
        Labels in the smallest unsigned type.
    geometry : Geometry
        Grid of the label map.

    Raises
    ------
    InputError
        If the file cannot be read or has values other than non-negative integers.
    """
    volume = read_volume(path)
    data = volume.data
    if data.min() < 0 or (data.dtype.kind == 'f' and (data != np.rint(data)).any()):
        raise InputError(
            f'{path}: holds values that are no labels; give an image of whole numbers from 0'
        )
    return data.astype(np.min_scalar_type(int(data.max())), order='K'), volume.geometry


def save_image(
    path: Path | str,
    data: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    like: Path | str | None = None,
    labels: bool = False,
) -> Path:
    """Write an image in the format of its name.

    Parameters
    ----------
    path : Path or str
        ``.mgh``, ``.mgz`` or ``.mgh.gz``, or a name for `save_nifti`.
    data, affine, like, labels
        As for `save_nifti`. An MGH image has the smallest type of the format that holds the
        labels or the image's own type, and exactly the position of ``like`` if that is MGH, too.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    InputError, OutputError, ValueError
        As for `save_nifti`.
    """
    path = Path(path)
    if not is_mgh(path.name):
        return save_nifti(path, data, affine=affine, like=like, labels=labels)
    if affine is not None and like is not None:
        raise ValueError('give only one of affine= and like=')
    raw: object = None
    if like is not None:
        source = _source(Path(like), data)
        affine, raw = source.geometry.affine, None if source.mended else source.raw
    if affine is None:
        raise ValueError('give affine= or like=')
    stored = mgh_type(_compact(data) if labels else data)
    head, foot = mgh_blocks(data.shape, stored, affine, raw)
    _write(path, head, data, stored, foot)
    return path


def save_nifti(
    path: Path | str,
    data: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    like: Path | str | None = None,
    labels: bool = False,
    description: str = '',
) -> Path:
    """Write a NIfTI image; equal arguments give equal bytes.

    Parameters
    ----------
    path : Path or str
        ``.nii`` or ``.nii.gz``; removed if writing fails.
    data : (X, Y, Z) or (X, Y, Z, frames) array
        Written in its own type, without scaling; bool becomes uint8.
    affine : (4, 4) array, optional
        Voxel index to RAS+ mm; written as sform and qform with code 1, in mm.
    like : Path or str, optional
        A scan whose sform, qform, codes and units are copied exactly.
    labels : bool
        Store in the smallest unsigned type, with intent code 1002 (label).
    description : str
        Up to 79 bytes for the header's ``descrip``.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    InputError
        If ``like`` cannot be read.
    OutputError
        If the file cannot be written (no space, no permission).
    ValueError
        If not exactly one of ``affine`` and ``like`` is given, shapes differ, or labels are
        negative.
    """
    path = Path(path)
    if (affine is None) == (like is None):
        raise ValueError('give exactly one of affine= and like=')
    if data.dtype == bool:
        data = data.view(np.uint8)
    if labels:
        data = _compact(data)
    header = _header_like(Path(like), data) if like is not None else nifti_header(affine, data)
    header.set_data_dtype(data.dtype)
    header['scl_slope'], header['scl_inter'] = 1, 0
    header['descrip'] = description.encode()[:79]
    if labels:
        header.set_intent(_LABEL_INTENT)
    header['vox_offset'] = int(header['sizeof_hdr']) + 4
    _write(path, header.binaryblock + bytes(4), data, data.dtype)
    return path


def _compact(labels: np.ndarray) -> np.ndarray:
    """Return labels in the smallest unsigned type that holds them."""
    if labels.size and labels.min() < 0:
        raise ValueError(f'labels hold {labels.min()}, expected none below 0')
    smallest = np.min_scalar_type(int(labels.max()) if labels.size else 0)
    return labels.astype(smallest, order='K', copy=False)


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


def _header_like(like: Path, data: np.ndarray) -> nib.Nifti1Header:
    source = _source(like, data)
    if source.mended or not isinstance(source.raw, nib.Nifti1Header):
        return nifti_header(source.geometry.affine, data)
    # The sform of NIfTI-2 has 64 bits, so the format is kept.
    wide = isinstance(source.raw, nib.Nifti2Header)
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
        header[name] = source.raw[name]
    header['pixdim'][:4] = source.raw['pixdim'][:4]
    return header


def _source(like: Path, data: np.ndarray) -> Header:
    """Return the header of the file that an image has the grid of."""
    source = read_header(like)
    if data.shape[:3] != source.geometry.shape:
        raise ValueError(
            f'data has shape {data.shape[:3]}, expected {source.geometry.shape} as in {like}'
        )
    return source


def _write(path: Path, head: bytes, data: np.ndarray, stored: np.dtype, foot: bytes = b'') -> None:
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
