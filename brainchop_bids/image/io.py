"""Reading of scans, and writing of NIfTI and MGH images."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from ..system.errors import InputError
from .blocks import header_like, nifti_header, write_blocks
from .geometry import Geometry
from .headers import Header, read_header
from .label_names import names_extension
from .mgh import is_mgh, mgh_blocks, mgh_type
from .stored import chosen_frame, read_stored
from .values import as_read

# Names and colours of labels by their values.
Names = Mapping[int, tuple[str, Sequence[int]]]
_LABEL_INTENT = 'label'  # code 1002


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
    mended : bool
        See `Header`.
    """

    data: np.ndarray
    geometry: Geometry
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    header: object | None = None
    mended: bool = False


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
    warnings = (*header.warnings, *notes)
    return Volume(values, header.geometry, warnings, path, header.raw, header.mended)


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
    return labels_in(volume), volume.geometry


def labels_in(volume: Volume) -> np.ndarray:
    """Return a volume as a label map, see `load_labels`."""
    data = volume.data
    if data.min() < 0 or (data.dtype.kind == 'f' and (data != np.rint(data)).any()):
        raise InputError(
            f'{volume.path or "the volume"}: holds values that are no labels; give an image of '
            'whole numbers from 0'
        )
    labels: np.ndarray = data.astype(np.min_scalar_type(int(data.max())), order='K')
    return labels


def save_image(
    path: Path | str,
    data: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    like: Path | str | Volume | None = None,
    labels: bool = False,
    names: Names | None = None,
) -> Path:
    """Write an image in the format of its name.

    Parameters
    ----------
    path : Path or str
        ``.mgh``, ``.mgz`` or ``.mgh.gz``, or a name for `save_nifti`.
    data, affine, like, labels, names
        As for `save_nifti`. An MGH image has no names, the smallest type of the format that holds
        the labels or the image's own type, and exactly the position of ``like`` if that is MGH,
        too.

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
        return save_nifti(path, data, affine=affine, like=like, labels=labels, names=names)
    if affine is not None and like is not None:
        raise ValueError('give only one of affine= and like=')
    raw: object = None
    if like is not None:
        geometry, raw = _source(like, data)
        affine = geometry.affine
    if affine is None:
        raise ValueError('give affine= or like=')
    stored = mgh_type(_compact(data) if labels else data)
    head, foot = mgh_blocks(data.shape, stored, affine, raw)
    write_blocks(path, head, data, stored, foot)
    return path


def save_nifti(
    path: Path | str,
    data: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    like: Path | str | Volume | None = None,
    labels: bool = False,
    description: str = '',
    names: Names | None = None,
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
    like : Path, str or Volume, optional
        A scan whose sform, qform, codes and units are copied exactly.
    labels : bool
        Store in the smallest unsigned type, with intent code 1002 (label).
    description : str
        Up to 79 bytes for the header's ``descrip``.
    names : mapping of int to (str, (r, g, b)), optional
        Names and colours of labels, for an extension of the header that viewers read.

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
    data, header = _image_blocks(data, affine, like, labels)
    header['descrip'] = description.encode()[:79]
    more = bytes(4) if names is None else bytes([1, 0, 0, 0]) + names_extension(names)
    header['vox_offset'] = int(header['sizeof_hdr']) + len(more)
    write_blocks(path, header.binaryblock + more, data, data.dtype)
    return path


def nifti_image(
    data: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    like: Volume | None = None,
    labels: bool = False,
    names: Names | None = None,
) -> nib.Nifti1Image:
    """Return in memory the image that `save_nifti` writes.

    Parameters
    ----------
    data, affine, like, labels, names
        As for `save_nifti`.

    Returns
    -------
    nibabel.Nifti1Image
        A `nibabel.Nifti2Image` if ``like`` is NIfTI-2.
    """
    data, header = _image_blocks(data, affine, like, labels)
    if names is not None:
        extension = names_extension(names)
        code = int.from_bytes(extension[4:8], sys.byteorder)
        header.extensions.append(nib.nifti1.Nifti1Extension(code, extension[8:].rstrip(b'\0')))
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(data, header.get_best_affine(), header)


def _image_blocks(
    data: np.ndarray,
    affine: np.ndarray | None,
    like: Path | str | Volume | None,
    labels: bool,
) -> tuple[np.ndarray, nib.Nifti1Header]:
    """Return the voxels as they are stored, and their header."""
    if (affine is None) == (like is None):
        raise ValueError('give exactly one of affine= and like=')
    if data.dtype == bool:
        data = data.view(np.uint8)
    if labels:
        data = _compact(data)
    if like is None:
        header = nifti_header(affine, data)
    else:
        header = header_like(*_source(like, data), data)
    header.set_data_dtype(data.dtype)
    header['scl_slope'], header['scl_inter'] = 1, 0
    if labels:
        header.set_intent(_LABEL_INTENT)
    return data, header


def _compact(labels: np.ndarray) -> np.ndarray:
    """Return labels in the smallest unsigned type that holds them."""
    if labels.size and labels.min() < 0:
        raise ValueError(f'labels hold {labels.min()}, expected none below 0')
    smallest = np.min_scalar_type(int(labels.max()) if labels.size else 0)
    return labels.astype(smallest, order='K', copy=False)


def _source(like: Path | str | Volume, data: np.ndarray) -> tuple[Geometry, object]:
    """Return the grid that an image has, and the header of that scan if it describes the grid."""
    if isinstance(like, Volume):
        geometry, raw, mended = like.geometry, like.header, like.mended
    else:
        header = read_header(Path(like))
        geometry, raw, mended = header.geometry, header.raw, header.mended
    if data.shape[:3] != geometry.shape:
        name = like.path if isinstance(like, Volume) else like
        raise ValueError(
            f'data has shape {data.shape[:3]}, expected {geometry.shape} as in {name}'
        )
    return geometry, None if mended else raw
