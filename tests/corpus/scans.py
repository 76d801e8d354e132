"""Scans whose bytes are wrong, each written by a function into a folder."""

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from tests.builders import head

SHAPE, ZOOM = (24, 28, 24), 8.0
DATA = head(SHAPE)
AFFINE = np.diag([-ZOOM, ZOOM, ZOOM, 1.0])
AFFINE[:3, 3] = 90, -110, -95
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Case:
    """A way to write a scan, and what is said about it: one line with these words."""

    write: Callable[[Path], Path]
    says: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the function."""
        return getattr(self.write, '__name__', '')


REFUSED: list[Case] = []
MENDED: list[Case] = []


def _case(
    where: list[Case], *says: str
) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def add(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        where.append(Case(write, says))
        return write

    return add


def content(
    data: np.ndarray = DATA,
    kind: type[nib.Nifti1Image] = nib.Nifti1Image,
    **fields: object,
) -> bytes:
    """Return a NIfTI file with header fields as given."""
    image = kind(data, AFFINE, dtype=data.dtype)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    image.header.set_xyzt_units('mm')
    whole = image.to_bytes()
    size = int(image.header['sizeof_hdr'])
    header = kind.header_class(whole[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock + whole[size:])


def scan(folder: Path, name: str = 'T1w.nii.gz', **fields: object) -> Path:
    """Write a scan with header fields as given."""
    path = folder / name
    whole = content(**fields)  # type: ignore[arg-type]
    path.write_bytes(gzip.compress(whole, 1) if name.endswith('.gz') else whole)
    return path


def _mgh(folder: Path, **fields: object) -> Path:
    path = folder / 'T1w.mgh'
    nib.MGHImage(DATA, AFFINE).to_filename(path)
    whole = path.read_bytes()
    header = MGHHeader(whole[:284], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.structarr.tobytes()[:90] + whole[90:])
    return path


def _pixdim(x: float, y: float, z: float) -> list[float]:
    return [1, x, y, z, 0, 0, 0, 0]


@_case(REFUSED, 'field of view of 840 mm (28 voxels of 30 mm', 'the unit of the header is mm')
def thick_voxels(folder: Path) -> Path:
    """Write voxels of 30 mm, which were conformed to hundreds of MB."""
    return scan(folder, pixdim=_pixdim(30, 30, 30), sform_code=0)


@_case(REFUSED, 'field of view of 2.24e+05 mm', '28 voxels of 8000 mm', 'unit of the header is m)')
def millimetres_called_metres(folder: Path) -> Path:
    """Write a header that claims metres."""
    return scan(folder, xyzt_units=1)


@_case(REFUSED, 'field of view of 0.224 mm', 'the unit of the header is um', 'shorter than')
def millimetres_called_micrometres(folder: Path) -> Path:
    """Write a header that claims micrometres."""
    return scan(folder, xyzt_units=3)


@_case(REFUSED, 'field of view of 22.4 mm (28 voxels of 0.8 mm', 'shorter than')
def centimetres(folder: Path) -> Path:
    """Write voxel sizes in cm, for which NIfTI has no code."""
    return scan(folder, pixdim=_pixdim(0.8, 0.8, 0.8), xyzt_units=0, sform_code=0)


@_case(REFUSED, 'field of view of 8.4e+39 mm (28 voxels of 3e+38 mm')
def giant_voxels(folder: Path) -> Path:
    """Write voxel sizes near the end of float32."""
    return scan(folder, pixdim=_pixdim(8, 3e38, 8), sform_code=0)


@_case(REFUSED, 'voxel sizes (pixdim) 8 x nan x 8')
def sizes_that_are_no_numbers(folder: Path) -> Path:
    """Write NaN as a voxel size, and no sform that could tell it."""
    return scan(folder, pixdim=_pixdim(8, np.nan, 8), sform_code=0)


@_case(REFUSED, 'lies 1e+09 mm away from the origin')
def far_away(folder: Path) -> Path:
    """Write a position where float32 has steps of 64 mm."""
    return scan(folder, srow_x=[-8, 0, 0, 1e9])


@_case(REFUSED, 'vox_offset nan')
def offset_that_is_no_number(folder: Path) -> Path:
    """Write NaN as the position of the voxels."""
    return scan(folder, vox_offset=np.nan)


@_case(REFUSED, 'vox_offset inf')
def endless_offset(folder: Path) -> Path:
    """Write infinity as the position of the voxels."""
    return scan(folder, 'T1w.nii', vox_offset=np.inf)


@_case(REFUSED, 'is cut short', 'where its header needs 3.0e+38')
def offset_beyond_the_file(folder: Path) -> Path:
    """Write a position of the voxels that no file reaches."""
    return scan(folder, vox_offset=3e38)


@_case(REFUSED, 'is cut short', 'bytes where its header needs 1.9e+22')
def dimensions_that_wrap(folder: Path) -> Path:
    """Write dimensions whose product is 0 in 64 bits."""
    dims = [3, 2**22, 2**21, 2**30, 1, 1, 1, 1]
    pixdim = _pixdim(1e-4, 2e-4, 4e-7)
    return scan(folder, kind=nib.Nifti2Image, dim=dims, pixdim=pixdim, sform_code=0)


@_case(REFUSED, 'data type 9, which is not known')
def mgh_type(folder: Path) -> Path:
    """Write an MGH data type that does not exist."""
    return _mgh(folder, type=9)


@_case(REFUSED, 'has dimensions 24 x -28 x 24')
def mgh_dimensions(folder: Path) -> Path:
    """Write a negative dimension."""
    return _mgh(folder, dims=[24, -28, 24, 1])


@_case(REFUSED, 'has dimensions 24 x 0 x 24')
def mgh_without_voxels(folder: Path) -> Path:
    """Write a dimension of 0."""
    return _mgh(folder, dims=[24, 0, 24, 1])


@_case(REFUSED, 'has directions of lengths 3 x 3 x 3, not 1')
def mgh_directions(folder: Path) -> Path:
    """Write directions whose length would enlarge the voxels."""
    return _mgh(folder, Mdc=np.diag([-3, 3, 3]))


@_case(REFUSED, 'vox_offset nan')
def analyze_offset(folder: Path) -> Path:
    """Write Analyze with NaN as the position of the voxels."""
    path = folder / 'T1w.hdr'
    image = nib.AnalyzeImage(DATA, None)
    image.header.set_zooms((ZOOM,) * 3)
    image.to_filename(path)
    header = nib.AnalyzeHeader(path.read_bytes()[:348], check=False)
    header['vox_offset'] = np.nan
    path.write_bytes(header.binaryblock)
    return path


@_case(REFUSED, 'Too many levels of symbolic links')
def link_to_itself(folder: Path) -> Path:
    """Make a symbolic link that points to itself."""
    path = folder / 'T1w.nii.gz'
    path.symlink_to(path)
    return path


@_case(REFUSED, 'not a regular file')
def fifo(folder: Path) -> Path:
    """Make a FIFO that nobody writes to."""
    path = folder / 'T1w.nii'
    os.mkfifo(path)
    return path


@_case(REFUSED, 'is damaged or cut short')
def half_a_file(folder: Path) -> Path:
    """Cut a compressed file short."""
    path = scan(folder)
    path.write_bytes(path.read_bytes()[:5000])
    return path


@_case(MENDED, 'over 16 MB follow the voxels and were not used')
def bomb(folder: Path) -> Path:
    """Compress 4 GB of zeros behind the voxels, into 4 MB."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    front = packer.compress(content()) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    path = folder / 'T1w.nii.gz'
    # After a full flush the same zeros are the same bytes. Nobody comes to the checksum.
    path.write_bytes(front + zeros * 256)
    return path


@_case(MENDED, '999 bytes follow the voxels and were not used')
def zeros_behind(folder: Path) -> Path:
    """Write 999 zeros behind the voxels."""
    path = folder / 'T1w.nii'
    path.write_bytes(content() + bytes(999))
    return path


@_case(MENDED, 'dim[4] is 0 and was read as 1')
def no_frames(folder: Path) -> Path:
    """Write a fourth dimension of 0."""
    return scan(folder, dim=[4, *SHAPE, 0, 1, 1, 1])


@_case(MENDED, 'voxel sizes (pixdim) 8 x 8 x 0 were completed by the sform: 8 x 8 x 8')
def no_thickness(folder: Path) -> Path:
    """Write a voxel size of 0 beside a good sform."""
    return scan(folder, pixdim=[-1, *_pixdim(8, 8, 0)[1:]])


@_case(MENDED, 'the sform is singular (a column of zeros); the qform was used')
def sform_of_zeros(folder: Path) -> Path:
    """Write an sform of zeros beside a good qform."""
    return scan(folder, srow_x=0, srow_y=0, srow_z=0, pixdim=[-1, *_pixdim(8, 8, 8)[1:]])


@_case(MENDED, 'bitpix is 8, but values of type int16 have 16 bits')
def wrong_bitpix(folder: Path) -> Path:
    """Write a bitpix that is not that of the data type."""
    return scan(folder, bitpix=8)


@_case(MENDED, 'vox_offset 100 is not behind the header; 352 was used')
def offset_in_the_header(folder: Path) -> Path:
    """Write a position of the voxels inside the header."""
    return scan(folder, vox_offset=100)


@_case(MENDED, 'outside the range of float32; all were multiplied by 2^')
def beyond_float32(folder: Path) -> Path:
    """Write float64 around 1e300."""
    return scan(folder, data=DATA * 2.0**990)


@_case(MENDED, 'outside the range of float32; all were multiplied by 2^')
def below_float32(folder: Path) -> Path:
    """Write float64 around 1e-300."""
    return scan(folder, data=DATA * 2.0**-990)


@_case(MENDED, 'outside the range of float32; all were multiplied by 2^')
def giant_slope(folder: Path) -> Path:
    """Write integers and a slope that is beyond float32 for the larger ones."""
    return scan(folder, scl_slope=2.0**125)
