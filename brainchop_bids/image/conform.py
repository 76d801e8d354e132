"""Conforming of scans as FreeSurfer's ``mri_convert -c`` does it: grid and intensities.

Computations are in float32 wherever they are in FreeSurfer, because rounding decides ties.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np
from scipy import ndimage

from ..system.errors import InputError, SettingsError
from .extent import FINEST, check_field_of_view
from .geometry import Geometry
from .io import Volume
from .lookup import flat, histogram, lookup
from .sampling import Sampler, for_each, nearest, trilinear

INTERPOLATIONS = ('trilinear', 'nearest', 'cubic')
_SIDE = 256
# Shape of the conformed grid at 1 mm, for heads that fit into it.
CONFORMED_SHAPE = (_SIDE, _SIDE, _SIDE)
_BINS = 1000
_LIA = ((-1, 0, 0), (0, 0, 1), (0, -1, 0))
_HIGH = 0.999
_ZERO = 1e-15  # smaller values are background in the histogram
_CODES = 1 << 16
_PIECE = 1 << 16
# The largest float32 below one half: adding it and truncating rounds halves up for every float32,
# whereas adding one half would round 0.49999997 to 1.
_HALF = np.nextafter(np.float32(0.5), np.float32(0))


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

    Raises
    ------
    SettingsError
        If the voxel size or the interpolation is invalid.
    """

    voxel_size: float = 1.0
    smallest: bool = False
    force_256: bool = False
    interpolation: str = 'trilinear'
    scale: bool = True

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
    """

    data: np.ndarray
    geometry: Geometry
    affine: np.ndarray
    warnings: tuple[str, ...]
    unchanged: bool


def conform(
    volume: Volume,
    options: ConformOptions = ConformOptions(),
    *,
    grid: Geometry | None = None,
    threads: int = 1,
) -> Conformed:
    """Convert a volume to uint8 and resample it to isotropic voxels in a cubic LIA grid.

    Intensities are scaled first, in the volume's own grid (unless they are uint8 already): from
    the minimum to the brightest thousandth of the non-zero voxels. Then the volume is resampled
    to 256 voxels a side, or more if the field of view exceeds 281 mm. A volume that has this
    grid already is not resampled.

    Parameters
    ----------
    volume : Volume
        Volume as `brainchop_bids.image.io.read_volume` returns it.
    options : ConformOptions
        Options; the defaults are those of ``mri_convert -c``.
    grid : Geometry, optional
        Grid of the result, such as that of another conformed scan; by default a grid around the
        volume's own centre.
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
    values = volume.data
    if values.dtype != np.uint8:
        values = to_uint8(values, scale=options.scale)
    same = target.matches(volume.geometry)
    if not same:
        values = _reslice(values, volume.geometry, target, options.interpolation, threads)
    size, half = float(target.zooms[0]), float(target.zooms[0]) * target.shape[0] / 2
    affine = np.eye(4)
    affine[:3, :3] = np.array(_LIA) * size
    affine[:3, 3] = target.c_ras.astype(np.float64) + half * np.array([1, -1, 1])
    unchanged = same and volume.data.dtype == np.uint8
    return Conformed(values, target, affine, (*volume.warnings, *warnings), unchanged)


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
    size = np.float32(source.zooms.min() if options.smallest else options.voxel_size)
    reach = (source.zooms * np.array(source.shape, np.float32)).max()
    warnings = []
    if options.force_256:
        side = _SIDE
    elif options.smallest:
        side = max(_SIDE, int(np.rint(reach / size * 10000)) // 10000)
    else:
        side = max(_SIDE, int(np.ceil(reach / size)))
        if (side - _SIDE) / _SIDE < 0.1:
            side = _SIDE
    if side > _SIDE:
        warnings.append(f'field of view {reach:g} mm needs {side} voxels a side, not {_SIDE}')
    return Geometry((side, side, side), np.full(3, size), np.array(_LIA), source.c_ras), warnings


def to_uint8(values: np.ndarray, *, scale: bool = True) -> np.ndarray:
    """Scale intensities to 0..255 and round them, as `conform` does in the native grid.

    Parameters
    ----------
    values : array of integers or floats
        Finite intensities of one volume.
    scale : bool
        Scale; otherwise only round and clip.

    Returns
    -------
    uint8 array of the same shape
        Scaled as in FreeSurfer's conform: the brightest thousandth of the foreground is clipped.

    Raises
    ------
    InputError
        If the range of intensities exceeds that of float32.
    """
    if values.dtype in (np.int16, np.uint16):
        # The result depends on the value alone, so compute it once per value, not per voxel.
        codes = values.view(np.uint16)
        counts = histogram(codes, _CODES)
        table = np.arange(_CODES, dtype=np.uint16).view(values.dtype).astype(np.float32)
        present = counts > 0
        window = _window([table[present]], [counts[present]]) if scale else None
        return lookup(_rounded(table, window), codes)
    result = np.empty_like(values, dtype=np.uint8, subok=False)
    source, target = flat(values), flat(result)
    pieces = [slice(start, start + _PIECE) for start in range(0, source.size, _PIECE)]
    window = None
    if scale:
        window = _window([source[piece] for piece in pieces], [None] * len(pieces))
    for piece in pieces:
        target[piece] = _rounded(source[piece].astype(np.float32), window)
    return result


def window(values: np.ndarray) -> tuple[np.float32, np.float32]:
    """Return the scaling of `to_uint8`, which is ``(values - low) * factor``.

    Parameters
    ----------
    values : array
        Finite intensities of one volume.

    Returns
    -------
    low, factor : float32
        Lowest value, and factor.

    Raises
    ------
    InputError
        If the range of intensities exceeds that of float32.
    """
    return _window([flat(values)], [None])


def _window(
    pieces: list[np.ndarray], counts: list[np.ndarray | None]
) -> tuple[np.float32, np.float32]:
    """Return the lowest value and the factor that scales the window above it to 0..255."""
    low = np.float32(min(piece.min() for piece in pieces))
    high = np.float32(max(piece.max() for piece in pieces))
    with np.errstate(over='ignore'):
        width = np.float32(np.float32(high - low) / np.float32(_BINS))
    if not np.isfinite(width):
        raise InputError(
            f'intensities run from {low:g} to {high:g}, more than float32 can span; '
            'rescale the image'
        )
    if width == 0:
        return low, np.float32(1)
    bins = np.zeros(_BINS, dtype=np.int64)
    nonzero = 0
    for piece, weight in zip(pieces, counts, strict=True):
        value = piece.astype(np.float32)
        number = np.minimum((value - low) / width, _BINS - 1).astype(np.intp)
        seen = np.abs(value) >= _ZERO
        nonzero += int(seen.sum() if weight is None else weight[seen].sum())
        bins += np.bincount(number, weight, _BINS).astype(np.int64)
    top = np.float32(np.float32(_top_bin(bins, nonzero)) * width + low)
    if top == low:
        return low, np.float32(1)
    with np.errstate(over='ignore'):
        return low, np.float32(np.float32(255) / np.float32(top - low))


def _top_bin(bins: np.ndarray, nonzero: int) -> int:
    """Return the bin below the one that the brightest thousandth of the foreground reaches."""
    wanted = int((1.0 - float(np.float32(_HIGH))) * nonzero)
    found, number = 0, _BINS - 1
    while found < wanted and number > 0:
        found += int(bins[number])
        number -= 1
    return number


def _rounded(values: np.ndarray, window: tuple[np.float32, np.float32] | None) -> np.ndarray:
    """Scale, clip to 0..255 and round halves up; a value of exactly 0 stays 0 when scaled."""
    out = values
    if window is not None:
        low, factor = window
        with np.errstate(over='ignore', invalid='ignore'):
            out = np.nan_to_num(factor * (values - low))
    result = _half_up(np.clip(out, 0, 255))
    if window is not None:
        result[values == 0] = 0
    return result


def _half_up(values: np.ndarray) -> np.ndarray:
    """Round float32 values in 0..255 to the nearest integer, halves up."""
    return (values + _HALF).astype(np.uint8)


def _round_plane(values: np.ndarray) -> np.ndarray:
    # A weighted mean of uint8 values exceeds 0..255 by less than the rounding to float32.
    return _half_up(values.astype(np.float32))


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
            result.T[k][box] = _half_up(np.clip(plane, 0, 255))

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
