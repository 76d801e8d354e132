"""Checks that the grid of a scan is one that a head can have."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..system.errors import InputError
from .geometry import Geometry

Shape = tuple[int, int, int]

# Codes of the NIfTI standard: factor to mm, and name.
UNITS = {0: (1.0, 'unknown, read as mm'), 1: (1000.0, 'm'), 2: (1.0, 'mm'), 3: (0.001, 'um')}
# The widest scanners see 500 mm, and the narrowest adult heads are 130 mm wide.
_SMALLEST, _LARGEST = 30.0, 800.0  # mm
FINEST = 0.01  # mm; the finest images of whole brains have voxels of 0.1 mm
# Farther away float32, in which positions are computed, is coarser than a hundredth of a mm.
_FARTHEST = 1e5  # mm


def bad(path: Path | str, found: str, advice: str) -> InputError:
    """Return the error for a scan: its name, the problem and what to do."""
    return InputError(f'{path}: {found}; {advice}')


def numbers(values: np.ndarray) -> str:
    """Return three numbers as text."""
    return ' x '.join(f'{value:g}' for value in values)


def check_sizes(path: Path | str, shape: Shape, zooms: np.ndarray, raw: Any = None) -> None:
    """Check that voxel sizes are finite and above 0, and the field of view is not astronomical.

    Parameters
    ----------
    path : Path or str
        Name of the image, for messages.
    shape : tuple of 3 int
        Number of voxels along each axis.
    zooms : (3,) array
        Voxel sizes in mm.
    raw : nibabel header, optional
        Its header, which claims a unit.

    Raises
    ------
    InputError
        If a voxel size is not finite or not above 0, or the field of view exceeds 100 m.
    """
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        raise bad(path, f'has voxel sizes {numbers(zooms)} mm', 'correct the header')
    _check(path, shape, zooms, raw, 0.0, _FARTHEST)


def check_place(path: Path | str, geometry: Geometry, raw: Any = None) -> None:
    """Check that sizes and position of a grid are finite and not astronomical.

    Parameters
    ----------
    path, raw
        As for `check_sizes`.
    geometry : Geometry
        Grid of the image.

    Raises
    ------
    InputError
        As for `check_sizes`, or if the grid lies over 100 m away from the origin, as positions
        are not exact in float32 then.
    """
    check_sizes(path, geometry.shape, geometry.zooms, raw)
    away = np.abs(geometry.c_ras).max()
    if not away <= _FARTHEST:
        raise bad(
            path,
            f'lies {away:.4g} mm away from the origin{_claimed(raw)}',
            'correct the position in the header',
        )


def check_field_of_view(
    path: Path | str, geometry: Geometry, raw: Any = None, *, least: float = _SMALLEST
) -> None:
    """Check that a field of view is that of a head, before memory is allocated for it.

    Parameters
    ----------
    path, geometry, raw
        As for `check_place`.
    least : float
        Smallest length in mm that is accepted.

    Raises
    ------
    InputError
        If its longest side is not between 30 and 800 mm, or a voxel is smaller than 0.01 mm, with
        the size in mm and the unit that the header claims.
    """
    _check(path, geometry.shape, geometry.zooms, raw, least, _LARGEST)
    if geometry.zooms.min() < FINEST:
        raise bad(
            path,
            f'has voxels of {numbers(geometry.zooms)} mm{_claimed(raw)}',
            'correct the voxel sizes or their unit in the header',
        )


def _check(
    path: Path | str,
    shape: Shape,
    zooms: np.ndarray,
    raw: Any,
    smallest: float,
    largest: float,
) -> None:
    lengths = zooms.astype(np.float64) * shape
    axis = int(lengths.argmax())
    length = lengths[axis]
    if smallest <= length <= largest:
        return
    raise bad(
        path,
        f'has a field of view of {length:.4g} mm ({shape[axis]} voxels of {zooms[axis]:.4g} mm'
        f'{_claimed(raw)}), {"longer" if length > largest else "shorter"} than that of any head',
        'correct the voxel sizes or their unit in the header',
    )


def _claimed(raw: Any) -> str:
    """Return the unit that a header claims."""
    if not isinstance(raw, nib.Nifti1Header):
        return ''
    return f', the unit of the header is {UNITS[int(raw["xyzt_units"]) & 7][1]}'
