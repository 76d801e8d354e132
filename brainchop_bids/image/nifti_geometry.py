"""Grids of NIfTI headers, read by the rules of FreeSurfer's ``mri_convert``."""

from pathlib import Path

import nibabel as nib
import numpy as np

from .extent import UNITS, Shape, bad, check_place, check_sizes, numbers
from .geometry import Geometry


def nifti_geometry(
    path: Path, raw: nib.Nifti1Header, shape: Shape
) -> tuple[Geometry, list[str], bool]:
    """Return the grid of a NIfTI image, and what had to be read in another way than usual.

    Parameters
    ----------
    path : Path
        Name of the image, for messages.
    raw : nibabel.Nifti1Header
        NIfTI-1 or NIfTI-2 header, unchecked.
    shape : tuple of 3 int
        Number of voxels along each axis.

    Returns
    -------
    geometry : Geometry
        By the sform with the voxel sizes of ``pixdim``; else by the qform; else a guess.
    warnings : list of str
        Voxel sizes without a meaning are replaced by those of the sform, and an sform without
        one by the qform.
    mended : bool
        True if something was replaced, so that the header must not be copied.

    Raises
    ------
    InputError
        If no grid follows from the header.
    """
    if int(raw['xyzt_units']) & 7 not in UNITS:
        raise bad(path, 'has an unknown unit of length', 'correct xyzt_units in the header')
    sform = np.asarray(raw.get_sform(), np.float64) if int(raw['sform_code']) != 0 else None
    fault = None if sform is None else _fault(sform, shape)
    zooms, warnings = _voxel_sizes(path, raw, None if fault else sform)
    scale = np.float32(UNITS[int(raw['xyzt_units']) & 7][0])
    check_sizes(path, shape, zooms * scale, raw)
    if sform is not None and not (fault and int(raw['qform_code']) != 0):
        affine, name = sform, 'sform'
    elif int(raw['qform_code']) != 0:
        affine, name = _qform(raw, zooms), 'qform'
        if fault:
            warnings.append(f'the sform {fault}; the qform was used')
    else:
        warnings.append('no sform or qform: the orientation is a guess (axes L, A, S)')
        affine, name = np.diag([-1.0, 1.0, 1.0, 1.0]), 'affine'
    try:
        geometry = Geometry.from_affine(affine, shape, zooms)
    except ValueError as error:
        raise bad(path, f'its {name} {error}', 'correct the header') from None
    c_ras = geometry.c_ras if name != 'affine' else zooms * np.array(shape, np.float32) / 2
    geometry = Geometry(shape, zooms * scale, geometry.cosines, c_ras * scale)
    check_place(path, geometry, raw)
    if name == 'sform' and int(raw['qform_code']) != 0:
        warnings += _disagreement(geometry, _qform(raw, zooms), scale)
    mended = fault is not None or not _usable(raw['pixdim'][1:4]).all()
    return geometry, warnings, mended


def _disagreement(geometry: Geometry, qform: np.ndarray, scale: np.float32) -> list[str]:
    """Return a line if the qform places a voxel more than a voxel away from the sform."""
    shape = geometry.shape
    try:
        other = Geometry.from_affine(qform, shape, geometry.zooms / scale)
    except ValueError:
        return []
    other = Geometry(shape, geometry.zooms, other.cosines, other.c_ras * scale)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    moved = nib.affines.apply_affine(geometry.affine, corners)
    moved = moved - nib.affines.apply_affine(other.affine, corners)
    distance = float(np.linalg.norm(moved, axis=1).max())
    if distance <= float(geometry.zooms.max()):
        return []
    turn = geometry.cosines.astype(np.float64) @ np.linalg.inv(other.cosines.astype(np.float64))
    mirrored = np.linalg.det(turn) < 0
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    how = 'one is a mirror image of the other' if mirrored else f'turned by {degrees:.1f} degrees'
    return [
        f'sform and qform disagree: {how}, with voxels up to {distance:.1f} mm apart; the sform '
        'was used'
    ]


def _usable(zooms: np.ndarray) -> np.ndarray:
    return np.isfinite(zooms) & (zooms != 0)


def _fault(affine: np.ndarray, shape: Shape) -> str | None:
    try:
        Geometry.from_affine(affine, shape)
    except ValueError as error:
        return str(error)
    return None


def _voxel_sizes(
    path: Path, raw: nib.Nifti1Header, sform: np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """Return the voxel sizes of ``pixdim``, and those of a valid sform where it has none."""
    warnings = []
    zooms = np.array(raw['pixdim'][1:4], dtype=np.float32)
    usable = _usable(zooms)
    lengths = None if sform is None else np.sqrt((sform[:3, :3] ** 2).sum(axis=0))
    if not usable.all():
        found = f'voxel sizes (pixdim) {numbers(zooms)}'
        if lengths is None:
            raise bad(path, f'has {found}', 'correct the header')
        zooms = np.where(usable, zooms, lengths.astype(np.float32))
        warnings.append(f'{found} were completed by the sform: {numbers(np.abs(zooms))}')
    if (zooms < 0).any():
        warnings.append(f'voxel sizes (pixdim) {numbers(zooms)} were taken without their sign')
        zooms = np.abs(zooms)
    if lengths is not None and not np.allclose(lengths, zooms, rtol=1e-3, atol=0):
        warnings.append(
            f'voxel sizes are {numbers(zooms)} by pixdim and {numbers(lengths)} '
            'by the sform; pixdim was used'
        )
    return zooms, warnings


def _qform(raw: nib.Nifti1Header, zooms: np.ndarray) -> np.ndarray:
    """Return the affine of the quaternion (the NIfTI-1 standard's ``nifti_quatern_to_mat44``)."""
    b, c, d = (float(raw[f'quatern_{name}']) for name in 'bcd')
    square = 1.0 - (b * b + c * c + d * d)
    if square < 1e-7:
        length = float(np.sqrt(b * b + c * c + d * d))
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = np.sqrt(square)
    affine = np.eye(4)
    # A quaternion too long to be squared would be taken for no rotation.
    finite = np.isfinite(square)
    affine[:3, :3] = nib.quaternions.quat2mat([a, b, c, d]) if finite else np.nan
    if float(raw['pixdim'][0]) < 0:
        affine[:3, 2] *= -1
    affine[:3, :3] *= zooms
    affine[:3, 3] = [float(raw[f'qoffset_{name}']) for name in 'xyz']
    return affine
