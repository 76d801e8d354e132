"""Conforming of scans as FreeSurfer's ``mri_convert -c`` does it: grid and intensities.

Computations are in float32 wherever they are in FreeSurfer, because rounding decides ties.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np
from scipy import ndimage

from ..system.errors import SettingsError
from .extent import FINEST, check_field_of_view
from .field import centred_on, holds, part_in
from .geometry import Geometry
from .io import Volume
from .sampling import Sampler, for_each, nearest, trilinear
from .window import clip_hounsfield, half_up, to_uint8

INTERPOLATIONS = ('trilinear', 'nearest', 'cubic')
WINDOWS = ('auto', 'freesurfer')
_SIDE = 256
# Field of view of a head, mm.
_FIELD = np.float32(256)
# Shape of the conformed grid at 1 mm, for heads that fit into it.
CONFORMED_SHAPE = (_SIDE, _SIDE, _SIDE)
_LIA = ((-1, 0, 0), (0, 0, 1), (0, -1, 0))


@dataclass(frozen=True)
class ConformOptions:
    """Options of the conform step; the defaults are those of ``mri_convert -c``.

    Parameters
    ----------
    voxel_size : float
        Voxel size in mm (``--conform_size``).
    smallest : bool
        Use the scan's smallest voxel size instead (``--conform_min``).
    force_256 : bool
        Always use 256 voxels a side, even if the head is cropped (``--cw256``).
    interpolation : {'trilinear', 'nearest', 'cubic'}
        Interpolation of intensities.
    scale : bool
        Scale intensities to 0..255; otherwise they are only rounded and clipped.
    window : {'auto', 'freesurfer'}
        What is scaled to 0..255. ``'freesurfer'`` follows ``mri_convert -c`` in all cases.
        ``'auto'`` is the same, except that a few voxels far from all others are clipped instead
        of stretching the window, with a warning.
    ct : bool
        The scan is CT in Hounsfield units, which are clipped to 0..80 before all else.

    Raises
    ------
    SettingsError
        If the voxel size, the interpolation or the window is invalid.
    """

    voxel_size: float = 1.0
    smallest: bool = False
    force_256: bool = False
    interpolation: str = 'trilinear'
    scale: bool = True
    window: str = 'auto'
    ct: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if not (np.isfinite(self.voxel_size) and self.voxel_size >= FINEST):
            raise SettingsError(
                f'voxel size is {self.voxel_size} mm; give a number from {FINEST} on'
            )
        if self.interpolation not in INTERPOLATIONS:
            raise SettingsError(
                f'interpolation {self.interpolation!r} is not known; '
                f'use one of {", ".join(INTERPOLATIONS)}'
            )
        if self.window not in WINDOWS:
            raise SettingsError(
                f'intensity window {self.window!r} is not known; use one of {", ".join(WINDOWS)}'
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'ConformOptions':
        """Build from a mapping as `to_dict` returns it; missing keys take their defaults.

        Raises
        ------
        SettingsError
            If a key is unknown or a value is invalid.
        """
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise SettingsError(f'conform options have unknown keys {sorted(unknown)}')
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON or TOML."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Conformed:
    """A conformed volume.

    Parameters
    ----------
    data : (W, W, W) uint8
        Intensities in LIA orientation and Fortran order.
    geometry : Geometry
        Grid of the volume.
    affine : (4, 4) float64
        Nominal affine: exactly axis-aligned.
    warnings : tuple of str
        Warnings about the volume that was read, and of this step.
    unchanged : bool
        True if the input was conformed already and was returned unchanged.
    moved_mm : tuple of 3 float or None
        RAS+ mm by which the middle of the grid was moved from the scan's to that of an organ;
        None if it has its usual place.
    """

    data: np.ndarray
    geometry: Geometry
    affine: np.ndarray
    warnings: tuple[str, ...]
    unchanged: bool
    moved_mm: tuple[float, float, float] | None = None


def conform(
    volume: Volume,
    options: ConformOptions = ConformOptions(),
    *,
    grid: Geometry | None = None,
    organ: Geometry | None = None,
    threads: int = 1,
) -> Conformed:
    """Convert a volume to uint8 and resample it to isotropic voxels in a cubic LIA grid.

    Intensities are scaled first, in the volume's own grid (unless they are uint8 already): from
    the minimum to the brightest thousandth of the non-zero voxels, see `ConformOptions` for the
    exception. Then the volume is resampled to 256 voxels a side, or more if the field of view
    exceeds 281 mm. A volume that has this grid already is not resampled.

    Parameters
    ----------
    volume : Volume
        Volume as `brainchop_bids.image.io.read_volume` returns it.
    options : ConformOptions
        Options; the defaults are those of ``mri_convert -c``.
    grid : Geometry, optional
        Grid of the result, such as that of another conformed scan; by default a grid around the
        volume's own centre.
    organ : Geometry, optional
        The box around the head's brain, or another organ, as a grid: the result is centred on it
        where it is out of reach of the usual grid, see `grid_around`. What lies outside of the
        result then does not count for the scaling of intensities, either.
    threads : int
        Number of threads.

    Returns
    -------
    Conformed
        uint8 (W, W, W) in LIA, with its grid. A constant volume that is not uint8 becomes 0.

    Raises
    ------
    InputError
        If the range of intensities exceeds that of float32, or the field of view 800 mm.

    Notes
    -----
    Neighbours outside the field of view count as 0, which blends the border of the field of view
    into the background. With ``'cubic'`` the border is mirrored instead, and voxels that are a
    whole voxel outside are 0.

    References
    ----------
    Written from a description in words of what FreeSurfer's ``mri_convert -c`` does, and compared
    with an independent emulation of it: at most 0.007 % of the voxels of nine scans differ, by 1.
    """
    if grid is None:
        name = volume.path or 'the volume'
        check_field_of_view(name, volume.geometry, volume.header, least=0.0)
    target, warnings = (grid, []) if grid else conformed_grid(volume.geometry, options)
    centre, moved_mm = volume.geometry.c_ras, None
    around = None
    if grid is None and organ is not None:
        around = grid_around(organ, volume.geometry, options)
    if around is not None:
        x, y, z = (float(n) for n in np.round(around.c_ras - centre, 3))
        target, moved_mm = around, (x, y, z)
        warnings = [
            f'the conformed field of view is centred on what was located, {x:g}, {y:g}, {z:g} mm '
            "from the scan's centre"
        ]
        volume = part_in(volume, target)
    values = clip_hounsfield(volume.data) if options.ct else volume.data
    if values.dtype != np.uint8:
        values, notes = to_uint8(values, scale=options.scale, robust=options.window == 'auto')
        warnings = [*warnings, *notes]
    same = target.matches(volume.geometry)
    if not same:
        values = _reslice(values, volume.geometry, target, options.interpolation, threads)
    size, half = float(target.zooms[0]), float(target.zooms[0]) * target.shape[0] / 2
    affine = np.eye(4)
    affine[:3, :3] = np.array(_LIA) * size
    affine[:3, 3] = target.c_ras.astype(np.float64) + half * np.array([1, -1, 1])
    unchanged = same and values is volume.data
    told = (*volume.warnings, *warnings)
    return Conformed(values, target, affine, told, unchanged, moved_mm)


def conformed_grid(
    source: Geometry, options: ConformOptions = ConformOptions()
) -> tuple[Geometry, list[str]]:
    """Return the conformed grid of a scan.

    Parameters
    ----------
    source : Geometry
        The scan's own grid.
    options : ConformOptions
        As for `conform`.

    Returns
    -------
    grid : Geometry
        Cubic LIA grid around the centre of the source.
    warnings : list of str
        One line for each unusual property of the grid.
    """
    reach, size = _reach(source), _size(source, options)
    side = _side(reach, size, options)
    warnings = []
    if side > _SIDE:
        warnings.append(f'field of view {reach:g} mm needs {side} voxels a side, not {_SIDE}')
    return _cube(source, side, size), warnings


def grid_around(
    organ: Geometry, source: Geometry, options: ConformOptions = ConformOptions()
) -> Geometry | None:
    """Return the conformed grid of a scan around an organ that is out of reach.

    It is if the scan is larger than the field of view of a head, 256 mm, or the organ is not in
    the usual grid with 10 mm around it.

    Parameters
    ----------
    organ : Geometry
        The box around the organ, as a grid.
    source : Geometry
        The scan's own grid.
    options : ConformOptions
        As for `conform`.

    Returns
    -------
    Geometry or None
        The grid for a scan of at most 256 mm, moved by whole voxels to the organ; None if
        nothing is out of reach, or this is the usual grid.
    """
    reach, size = _reach(source), _size(source, options)
    usual = _cube(source, _side(reach, size, options), size)
    field = _cube(source, _side(min(reach, _FIELD), size, options), size)
    # Sizes in headers are rounded.
    larger = reach > size * (field.shape[0] + 0.5)
    if not larger and holds(field, organ):
        return None
    around = centred_on(field, organ)
    return None if around.matches(usual) else around


def _reach(source: Geometry) -> np.float32:
    reach: np.float32 = (source.zooms * np.array(source.shape, np.float32)).max()
    return reach


def _size(source: Geometry, options: ConformOptions) -> np.float32:
    return np.float32(source.zooms.min() if options.smallest else options.voxel_size)


def _side(reach: np.float32, size: np.float32, options: ConformOptions) -> int:
    """Return the number of voxels of this size along a side that hold so many mm."""
    if options.force_256:
        return _SIDE
    if options.smallest:
        return max(_SIDE, int(np.rint(reach / size * 10000)) // 10000)
    side = max(_SIDE, int(np.ceil(reach / size)))
    return _SIDE if (side - _SIDE) / _SIDE < 0.1 else side


def _cube(source: Geometry, side: int, size: np.float32) -> Geometry:
    return Geometry((side, side, side), np.full(3, size), np.array(_LIA), source.c_ras)


def _round_plane(values: np.ndarray) -> np.ndarray:
    # A weighted mean of uint8 values exceeds 0..255 by less than the rounding to float32.
    return half_up(values.astype(np.float32))


def _reslice(
    values: np.ndarray, source: Geometry, target: Geometry, interpolation: str, threads: int
) -> np.ndarray:
    sampler = Sampler(_voxel_to_voxel(source, target), source.shape, target.shape)
    if interpolation == 'trilinear':
        return trilinear(values, sampler, _round_plane, np.uint8, threads)
    if interpolation == 'nearest':
        return nearest(values, sampler, threads)
    return _cubic(values, sampler, threads)


def _cubic(values: np.ndarray, sampler: Sampler, threads: int) -> np.ndarray:
    smooth = ndimage.spline_filter(
        sampler.arrange(values), order=3, output=np.float32, mode='mirror'
    )
    result = np.zeros(sampler.target, dtype=np.uint8, order='F')

    def work(k: int) -> None:
        for box, where in sampler.coordinates(k):
            outside = [(x <= -1) | (x >= n) for x, n in zip(where, sampler.size, strict=True)]
            plane = ndimage.map_coordinates(
                smooth,
                np.broadcast_arrays(*where),
                output=np.float32,
                order=3,
                mode='mirror',
                prefilter=False,
            )
            plane[np.logical_or.reduce(np.broadcast_arrays(*outside))] = 0
            result.T[k][box] = half_up(np.clip(plane, 0, 255))

    for_each(work, sampler.target[2], threads)
    return result


def _voxel_to_voxel(source: Geometry, target: Geometry) -> np.ndarray:
    """Return the (4, 4) float32 matrix from target to source voxels, rounded as in FreeSurfer."""
    inverse, onto = _inverse(source.vox2ras), target.vox2ras
    product = inverse[:, :1] * onto[:1]
    for n in range(1, 4):
        product = product + inverse[:, n : n + 1] * onto[n : n + 1]
    return product


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Invert by cofactors times the reciprocal of the determinant, all in float32.

    This is the form of VNL's 4x4 inverse, which FreeSurfer calls. An LU decomposition is more
    accurate but differs in the last bit, which decides millions of exact ties on grids whose
    voxel sizes are simple fractions of a millimetre.
    """
    adjugate = np.empty((4, 4), dtype=np.float32)
    for i in range(4):
        x, y, z = (n for n in range(4) if n != i)
        for j in range(4):
            rows = [n for n in range(4) if n != j]
            sign = np.float32(-1 if (i + j) % 2 else 1)
            total = np.float32(0)
            for a, b, c, swap in ((0, 1, 2, 1), (1, 0, 2, -1), (2, 0, 1, 1)):
                first, second, third = (matrix[rows[n]] for n in (a, b, c))
                lead = sign * np.float32(swap) * first[x]
                total = total + lead * second[y] * third[z]
                total = total - lead * second[z] * third[y]
            adjugate[i, j] = total
    determinant = np.float32(0)
    for order in permutations(range(4)):
        term = np.float32(_parity(order))
        for column, row in enumerate(order):
            term = term * matrix[row, column]
        determinant = determinant + term
    return adjugate * (np.float32(1) / determinant)


def _parity(order: tuple[int, ...]) -> int:
    swaps = sum(a > b for n, a in enumerate(order) for b in order[n + 1 :])
    return -1 if swaps % 2 else 1
