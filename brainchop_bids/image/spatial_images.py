"""Reading of nibabel images in memory."""

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from .extent import bad
from .headers import array_header
from .io import Volume, volume_of


def read_image(img: nib.spatialimages.SpatialImage, *, frame: int | None = None) -> Volume:
    """Return the volume of a nibabel image, as `read_volume` returns that of a file.

    Parameters
    ----------
    img : nibabel.spatialimages.SpatialImage
        3-D image, or 4-D image with one frame or a selected one. Values are taken as they are
        stored, with slope and intercept. The position is that of a NIfTI or MGH header as
        FreeSurfer reads it, and the affine for any other image.
    frame : int, optional
        Volume of a 4-D image, counted from 0.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        If the image is not a scalar 3-D volume with a valid position, has several frames and
        none was selected, or its file cannot be read.
    """
    name = Path(img.get_filename() or 'the image')
    try:
        stored, slope, inter = _stored(img)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise bad(name, f'cannot be read ({error})', 'fetch or convert the scan again') from None
    header = array_header(name, _raw_header(img), stored, slope, inter, img.affine)
    return volume_of(name, header, stored, frame)


def _stored(img: nib.spatialimages.SpatialImage) -> tuple[np.ndarray, float, float]:
    """Return the stored values, their slope and their intercept."""
    proxy: Any = img.dataobj
    if nib.is_proxy(proxy):
        return np.asarray(proxy.get_unscaled()), float(proxy.slope), float(proxy.inter)
    return np.asarray(proxy), 1.0, 0.0


def _raw_header(img: nib.spatialimages.SpatialImage) -> nib.Nifti1Header | MGHHeader | None:
    header = img.header
    return header if isinstance(header, (nib.Nifti1Header, MGHHeader)) else None
