"""Headers of scans, read by the rules of FreeSurfer's ``mri_convert``."""

import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import HeaderDataError

from ..system.files import IrregularFileError, require_regular
from . import mgh
from .extent import bad, check_place, check_sizes, numbers
from .geometry import Geometry
from .inflate import GZIP
from .nifti_geometry import nifti_geometry

# No name ends in two of them. The voxels of the last one are in a second file.
SUFFIXES = ('.nii', '.nii.gz', *mgh.SUFFIXES, '.hdr')
_HEAD = 1024  # bytes, longer than any header that is read here
# Enough compressed bytes to give `_HEAD`, even if the gzip header has names and comments.
_PREFIX = 1 << 16
_LENGTH_ERROR = 1e-3  # largest difference from 1 of the length of an MGH direction


@dataclass(frozen=True, eq=False)
class Header:
    """Facts about an image file: position, type and scaling of its voxels, and its grid.

    Parameters
    ----------
    raw : nibabel header
        The header as it is in the file.
    compressed : bool
        True if the content is compressed by gzip, regardless of the file's name.
    dtype : numpy.dtype
        Type of the stored values, including their byte order.
    offset : int
        Position of the first voxel in the uncompressed file, in bytes.
    frames : int
        Number of volumes.
    slope, inter : float
        Slope and intercept of stored values; 1 and 0 if the file has none.
    geometry : Geometry
        Grid of one volume.
    warnings : tuple of str
        One line for each irregularity that did not prevent reading.
    voxels : Path, optional
        File with the voxels, if they are in a second file.
    mended : bool
        True if the grid is not the one that the header has by the usual rules.
    """

    raw: object
    compressed: bool
    dtype: np.dtype
    offset: int
    frames: int
    slope: float
    inter: float
    geometry: Geometry
    warnings: tuple[str, ...]
    voxels: Path | None = None
    mended: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of one volume as it is stored."""
        return math.prod(self.geometry.shape) * self.dtype.itemsize


def zlib_reason(error: Exception) -> str:
    """Return zlib's message without its error number."""
    return str(error).rpartition(': ')[2]


def stem(path: Path) -> str:
    """Return the name of a file without the extension of an image."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), '')
    return path.name[: len(path.name) - len(suffix)]


def read_header(path: Path) -> Header:
    """Read and check a header without reading the voxels.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz``, ``.mgh``, ``.mgz``, ``.mgh.gz``, or ``.hdr`` (a NIfTI-1 pair or
        Analyze 7.5).

    Raises
    ------
    InputError
        If the file cannot be read or is not a three-dimensional scalar image.

    Notes
    -----
    Analyze has neither an orientation nor a position: its axes are taken to be L, A, S around
    position 0, as in nibabel, whatever SPM or others have written to unused fields.
    """
    if path.suffix.lower() == '.img':
        raise bad(path, 'holds voxels only', 'give the .hdr file beside it')
    if not path.name.lower().endswith(SUFFIXES):
        raise bad(path, 'not a known kind of image', f'give one of {", ".join(SUFFIXES)}')
    block, compressed = _first_bytes(path)
    if path.suffix.lower() == '.hdr':
        read = _pair
    else:
        read = _nifti if path.name.lower().endswith(('.nii', '.nii.gz')) else _mgh
    # Fields may have any value; what follows from them is checked to be finite.
    with np.errstate(all='ignore'):
        header = read(path, block, compressed)
    if compressed != path.name.lower().endswith(('.gz', '.mgz')):
        note = f'the file is {"" if compressed else "not "}gzip-compressed, despite its name'
        header = replace(header, warnings=(*header.warnings, note))
    return header


def array_header(
    path: Path,
    raw: nib.Nifti1Header | MGHHeader | None,
    stored: np.ndarray,
    slope: float,
    inter: float,
    affine: np.ndarray | None,
) -> Header:
    """Check the header of an image in memory by the same rules as for files.

    Parameters
    ----------
    path : Path
        Name of the image, for messages.
    raw : nibabel header or None
        NIfTI or MGH header; None for images whose position is given by an affine only.
    stored : (X, Y, Z, ...) array
        Values as they are stored.
    slope, inter : float
        Slope and intercept of stored values.
    affine : (4, 4) array or None
        Voxel index to RAS+ mm, if there is no header.

    Returns
    -------
    Header

    Raises
    ------
    InputError
        If it is not a scalar volume with a valid position.
    """
    _check_dtype(path, stored.dtype, f'data type {stored.dtype}')
    if stored.size == 0:
        raise bad(path, f'has no voxels (shape {stored.shape})', 'give another image')
    shape, frames, _ = _checked_dims(path, [*stored.shape, *(1,) * (7 - stored.ndim)])
    warnings: list[str] = []
    mended = False
    with np.errstate(all='ignore'):
        if isinstance(raw, nib.Nifti1Header):
            geometry, warnings, mended = nifti_geometry(path, raw, shape)
        elif raw is not None:
            geometry = _mgh_geometry(path, raw, shape)
        elif affine is not None:
            geometry = _affine_geometry(path, affine, shape)
        else:
            raise bad(path, 'has no affine', 'give it one')
    return Header(
        raw,
        False,
        stored.dtype,
        0,
        frames,
        slope,
        inter,
        geometry,
        tuple(warnings),
        mended=mended,
    )


def _pair(path: Path, block: bytes, compressed: bool) -> Header:
    sign = next((s for s in '<>' if block[:4] == np.array(348, f'{s}i4').tobytes()), '')
    if not sign or compressed or len(block) < 348:
        raise bad(path, 'is no Analyze or NIfTI header', 'fetch or convert the scan again')
    voxels = path.with_suffix('.IMG' if path.suffix.isupper() else '.img')
    if block[344:348] == b'ni1\0':
        raw = nib.Nifti1Pair.header_class(block[:348], sign, check=False)
        return replace(_checked_nifti(path, raw, False, 0), voxels=voxels)
    spm = nib.Spm2AnalyzeImage.header_class(block[:348], sign, check=False)
    return replace(_analyze(path, spm), voxels=voxels)


def _analyze(path: Path, raw: nib.AnalyzeHeader) -> Header:
    shape, frames, warnings = _dims(path, raw)
    zooms = np.abs(np.array(raw['pixdim'][1:4], dtype=np.float32))
    check_sizes(path, shape, zooms)
    affine = nib.volumeutils.shape_zoom_affine(shape, zooms)
    geometry = Geometry.from_affine(affine, shape, zooms)
    dtype, notes = _nifti_dtype(path, raw)
    start, more = _start(path, raw, 0)
    slope, inter = (float(value or 0) for value in raw.get_slope_inter())
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise bad(path, f'has slope {slope} and intercept {inter}', 'correct the header')
    warnings += [*notes, *more]
    return Header(raw, False, dtype, start, frames, slope or 1.0, inter, geometry, tuple(warnings))


def _first_bytes(path: Path) -> tuple[bytes, bool]:
    try:
        require_regular(path)
        with path.open('rb') as stream:
            block = stream.read(_PREFIX)
    except FileNotFoundError:
        raise bad(path, 'no such file', 'check the path') from None
    except IsADirectoryError:
        raise bad(path, 'is a folder', 'give the image file itself') from None
    except IrregularFileError as error:
        raise bad(path, str(error.strerror), 'give the image file itself') from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise bad(path, f'cannot be read ({reason})', 'check its permissions and links') from None
    if not block:
        raise bad(path, 'is empty (0 bytes)', 'fetch or convert the scan again')
    if not block.startswith(GZIP):
        return block[:_HEAD], False
    try:
        return zlib.decompressobj(31).decompress(block, _HEAD), True
    except zlib.error as error:
        raise bad(
            path, f'is damaged gzip ({zlib_reason(error)})', 'fetch or convert the scan again'
        ) from None


def _nifti(path: Path, block: bytes, compressed: bool) -> Header:
    kinds = {348: (nib.Nifti1Header, 344, b'n+1\0'), 540: (nib.Nifti2Header, 4, b'n+2\0')}
    start = block[:4]
    for sign in '<>':
        size = int(np.frombuffer(start, f'{sign}i4')[0]) if len(start) == 4 else 0
        if size not in kinds:
            continue
        kind, at, magic = kinds[size]
        if len(block) < size:
            raise bad(
                path,
                f'is cut short inside its header ({len(block)} of {size} bytes)',
                'fetch or convert the scan again',
            )
        if block[at : at + 4] != magic:
            break
        raw = kind(block[:size], sign, check=False)
        # The voxels follow the header and its extender.
        return _checked_nifti(path, raw, compressed, size + 4)
    if compressed and len(block) < 348:
        raise bad(
            path,
            f'is cut short inside its header ({len(block)} bytes)',
            'fetch or convert the scan again',
        )
    found = 'is not a NIfTI image' if compressed else 'is neither gzip nor a NIfTI image'
    raise bad(path, found, 'give a single-file NIfTI-1 or NIfTI-2 image')


def _checked_nifti(path: Path, raw: nib.Nifti1Header, compressed: bool, least: int) -> Header:
    shape, frames, warnings = _dims(path, raw)
    dtype, notes = _nifti_dtype(path, raw)
    start, more = _start(path, raw, least)
    slope, inter = _scaling(path, raw)
    geometry, others, mended = nifti_geometry(path, raw, shape)
    warnings += [*notes, *more, *others]
    return Header(
        raw=raw,
        compressed=compressed,
        dtype=dtype,
        offset=start,
        frames=frames,
        slope=slope,
        inter=inter,
        geometry=geometry,
        warnings=tuple(warnings),
        mended=mended,
    )


def _start(path: Path, raw: nib.AnalyzeHeader, least: int) -> tuple[int, list[str]]:
    """Return the position of the first voxel; ``least`` is the first one that is possible."""
    offset = raw['vox_offset'].item()
    if not np.isfinite(offset) or (least == 0 and offset < 0):
        raise bad(path, f'has vox_offset {offset:g}', f'correct the header ({least} is usual)')
    start = int(offset)
    # Old programs wrote 0.
    if start >= least or start == 0:
        return max(start, least), []
    return least, [f'vox_offset {offset:g} is not behind the header; {least} was used']


def _nifti_dtype(path: Path, raw: nib.AnalyzeHeader) -> tuple[np.dtype, list[str]]:
    try:
        dtype = raw.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = np.dtype(object)
    _check_dtype(path, dtype, f'data type code {int(raw["datatype"])}')
    bits, found = dtype.itemsize * 8, int(raw['bitpix'])
    if found == bits:
        return dtype, []
    return dtype, [f'bitpix is {found}, but values of type {dtype.name} have {bits} bits']


def _check_dtype(path: Path, dtype: np.dtype, name: str) -> None:
    if dtype.names:
        raise bad(path, 'holds colours (RGB)', 'give a grey-scale T1w image')
    if dtype.kind == 'c':
        raise bad(path, 'holds complex numbers', 'give the magnitude image')
    if dtype.kind not in 'iuf':
        raise bad(path, f'has {name}, which is not known', 'convert it to int16 or float32')


def _dims(path: Path, raw: nib.AnalyzeHeader) -> tuple[tuple[int, int, int], int, list[str]]:
    dims = [int(n) for n in raw['dim']]
    if not 1 <= dims[0] <= 7:
        raise bad(path, f'says it has {dims[0]} dimensions', 'give a 3-D image')
    return _checked_dims(path, dims[1 : dims[0] + 1] + [1] * (7 - dims[0]))


def _checked_dims(path: Path, sizes: list[int]) -> tuple[tuple[int, int, int], int, list[str]]:
    """Return shape of a volume, number of frames, and warnings; takes 7 sizes."""
    text = ' x '.join(str(n) for n in sizes).removesuffix(' x 1' * 4)
    none = [axis for axis, n in enumerate(sizes[3:], 4) if n == 0]
    warnings = [f'dim[{axis}] is 0 and was read as 1' for axis in none]
    sizes = [*sizes[:3], *(n or 1 for n in sizes[3:])]
    if min(sizes) < 1:
        raise bad(path, f'has dimensions {text}', 'fetch or convert the scan again')
    if min(sizes[:3]) == 1:
        raise bad(path, f'is a 2-D slice ({text})', 'give a 3-D volume')
    if max(sizes[5:]) > 1:
        raise bad(path, f'has dimensions {text}', 'give a 3-D image, or a 4-D one of frames')
    return (sizes[0], sizes[1], sizes[2]), sizes[3] * sizes[4], warnings


def _scaling(path: Path, raw: nib.Nifti1Header) -> tuple[float, float]:
    slope, inter = float(raw['scl_slope']), float(raw['scl_inter'])
    # nibabel and others write NaN if values are not scaled.
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(inter):
        raise bad(path, f'has scl_inter {inter}', 'correct the header (0 means no offset)')
    return slope, inter


def _mgh(path: Path, block: bytes, compressed: bool) -> Header:
    if len(block) >= 4 and int.from_bytes(block[:4], 'big') != 1:
        raise bad(path, 'is not an MGH image', 'give a FreeSurfer .mgh or .mgz file')
    if len(block) < MGHHeader.template_dtype.itemsize:
        raise bad(
            path,
            f'is cut short inside its header ({len(block)} bytes)',
            'fetch or convert the scan again',
        )
    # Not by `from_fileobj`, which looks for the end of the voxels.
    raw = MGHHeader(block[: MGHHeader.template_dtype.itemsize], check=False)
    try:
        dtype = raw.get_data_dtype()
    except KeyError:
        dtype = np.dtype(object)
    _check_dtype(path, dtype, f'data type {int(raw["type"])}')
    shape, frames, warnings = _checked_dims(path, [*map(int, raw['dims']), 1, 1, 1])
    # nibabel replaces the header's values if the flag is not set, so read it from the file.
    known = int.from_bytes(block[28:30], 'big') == 1
    geometry = _mgh_geometry(path, raw, shape) if known else _coronal(shape)
    check_place(path, geometry)
    start = raw.get_data_offset()
    return Header(raw, compressed, dtype, start, frames, 1.0, 0.0, geometry, tuple(warnings))


def _coronal(shape: tuple[int, int, int]) -> Geometry:
    """Return FreeSurfer's default grid for files without one: coronal, 1 mm, centred."""
    cosines = np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]])
    return Geometry(shape, np.ones(3), cosines, np.zeros(3))


def _mgh_geometry(path: Path, raw: MGHHeader, shape: tuple[int, int, int]) -> Geometry:
    zooms, cosines = np.asarray(raw['delta']), np.asarray(raw['Mdc']).T
    affine = np.eye(4)
    affine[:3, :3] = cosines * zooms
    _affine_geometry(path, affine, shape)
    lengths = np.sqrt((cosines.astype(np.float64) ** 2).sum(axis=0))
    if not np.allclose(lengths, 1, rtol=0, atol=_LENGTH_ERROR):
        raise bad(
            path, f'has directions of lengths {numbers(lengths)}, not 1', 'correct the header'
        )
    geometry = Geometry(shape, zooms, cosines, raw['Pxyz_c'])
    check_place(path, geometry)
    return geometry


def _affine_geometry(path: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> Geometry:
    try:
        geometry = Geometry.from_affine(np.asarray(affine), shape)
    except ValueError as error:
        raise bad(path, f'its affine {error}', 'correct it') from None
    check_place(path, geometry)
    return geometry
