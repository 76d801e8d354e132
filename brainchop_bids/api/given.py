"""Scans as they are given in Python: a path, an image of nibabel, or an array with its affine."""

import os
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np

from ..image.conform import ConformOptions
from ..image.extent import check_field_of_view
from ..image.io import Volume, read_volume, require_contrast
from ..image.spatial_images import read_image
from ..inference.stages import read_scan
from ..system.errors import SettingsError
from ..system.resources import Granted

Image: TypeAlias = str | os.PathLike | nib.spatialimages.SpatialImage | np.ndarray


def scan_of(
    image: Image,
    affine: np.ndarray | None = None,
    frame: int | None = None,
    *,
    options: ConformOptions | None = None,
    memory: Granted | None = None,
) -> Volume:
    """Return a scan that can be segmented.

    Parameters
    ----------
    image : path, nibabel image or array
        A file or a DICOM series; an image; or voxels, (X, Y, Z) or (X, Y, Z, frames).
    affine : (4, 4) array, optional
        Voxel index to RAS+ mm, of an array.
    frame, options, memory
        As for `read_scan`.

    Returns
    -------
    Volume

    Raises
    ------
    InputError, MemoryLimitError
        As for `read_scan`.
    SettingsError
        If an affine is missing, or is given for an image that has one.
    """
    if isinstance(image, (str, os.PathLike)) and affine is None:
        return read_scan(Path(image), frame, options=options, memory=memory)
    volume = volume_of(image, affine, frame)
    check_field_of_view(volume.path or 'the image', volume.geometry, volume.header)
    require_contrast(volume)
    return volume


def volume_of(image: Image, affine: np.ndarray | None = None, frame: int | None = None) -> Volume:
    """Return a volume of any size and content, see `scan_of`."""
    if not isinstance(image, np.ndarray):
        if affine is not None:
            raise SettingsError('affine= is for an array; files and images have their own')
        if isinstance(image, (str, os.PathLike)):
            return read_volume(Path(image), frame=frame)
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise SettingsError(
                f'{type(image).__name__}: is no scan; give a path, an image of nibabel, or an '
                'array and its affine'
            )
        return read_image(image, frame=frame)
    if affine is None:
        raise SettingsError(
            'the array has no affine; give the (4, 4) matrix from voxel indices to RAS+ mm'
        )
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4):
        raise SettingsError(f'the affine has shape {matrix.shape}; expected (4, 4)')
    # Unlike `Nifti1Image`, this takes any type of values, which are checked as those of files.
    return read_image(nib.spatialimages.SpatialImage(_voxels(image), matrix), frame=frame)


def _voxels(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8) if array.dtype == bool else array
