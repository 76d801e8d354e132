"""Conforming of nibabel images in memory."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from .conform import ConformOptions, conform
from .headers import array_header
from .io import Volume, nifti_header, volume_of


def conform_image(
    img: nib.spatialimages.SpatialImage,
    options: ConformOptions | None = None,
    *,
    frame: int | None = None,
    threads: int = 1,
) -> nib.Nifti1Image:
    """Conform an image as FreeSurfer's ``mri_convert -c`` does.

    Unlike `nibabel.processing.conform`, which interpolates with splines and keeps the intensity
    range, it scales intensities to uint8 and chooses the grid as FreeSurfer does. The voxels are
    those of `brainchop_bids.image.conform.conform`.

    Parameters
    ----------
    img : nibabel.spatialimages.SpatialImage
        3-D image, or 4-D image with one frame or a selected one. Values are taken as they are
        stored, with slope and intercept. The position is that of a NIfTI or MGH header as
        FreeSurfer reads it, and the affine for any other image.
    options : ConformOptions, optional
        Target grid and interpolation; by default those of ``mri_convert -c``.
    frame : int, optional
        Volume of a 4-D image, counted from 0.
    threads : int
        Number of threads.

    Returns
    -------
    nibabel.Nifti1Image
        uint8, 256 voxels of 1 mm a side by default, in LIA orientation.

    Raises
    ------
    InputError
        If the image is not a scalar 3-D volume with a valid position, or has several frames and
        none was selected.

    Examples
    --------
    >>> img = nib.Nifti1Image(np.full((8, 8, 8), 7, np.uint8), np.diag([2.0, 2, 2, 1]))
    >>> conformed = conform_image(img)
    >>> conformed.shape, nib.aff2axcodes(conformed.affine), int(conformed.dataobj[128, 128, 128])
    ((256, 256, 256), ('L', 'I', 'A'), 7)
    """
    result = conform(read_image(img, frame=frame), options or ConformOptions(), threads=threads)
    header = nifti_header(result.affine, result.data)
    return nib.Nifti1Image(result.data, header.get_sform(), header)


def read_image(img: nib.spatialimages.SpatialImage, *, frame: int | None = None) -> Volume:
    """Return the volume of a nibabel image, as `read_volume` returns that of a file.

    Parameters
    ----------
    img, frame
        As for `conform_image`.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        As for `conform_image`.
    """
    stored, slope, inter = _stored(img)
    name = Path(img.get_filename() or 'the image')
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
