"""The grid and intensities every model here was trained on: what ``mri_convert -c`` makes.

Steps and rounding follow FreeSurfer's ``MRIchangeType`` and ``MRIresample``; float32 wherever it
uses float32, because ties are decided there.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import SettingsError
from .geometry import Geometry
from .io import Volume
from .sampling import coordinates, run, trilinear

INTERPOLATIONS = ('trilinear', 'nearest', 'cubic')
_SIDE = 256
_BINS = 1000
_LIA = ((-1, 0, 0), (0, 0, 1), (0, -1, 0))
_HIGH = 0.999


@dataclass(frozen=True)
class ConformOptions:
    """Choices of the conform step; the defaults are ``mri_convert -c``.

    Parameters
    ----------
    voxel_size : float
        Side of a voxel in mm (``--conform_size``).
    smallest : bool
        Take the scan's smallest voxel size instead (``--conform_min``).
    force_256 : bool
        Always 256 voxels a side, even if the head is cut (``--cw256``).
    interpolation : {'trilinear', 'nearest', 'cubic'}
        How values between voxels are found.
    scale : bool
        Stretch intensities to 0..255; without it they are only rounded and cut.

    Raises
    ------
    SettingsError
        For an impossible size or an unknown interpolation.
    """

    voxel_size: float = 1.0
    smallest: bool = False
    force_256: bool = False
    interpolation: str = 'trilinear'
    scale: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if not (np.isfinite(self.voxel_size) and self.voxel_size > 0):
            raise SettingsError(f'voxel size is {self.voxel_size} mm; give a number above 0')
        if self.interpolation not in INTERPOLATIONS:
            raise SettingsError(
                f'interpolation {self.interpolation!r} is not known; '
                f'use one of {", ".join(INTERPOLATIONS)}'
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'ConformOptions':
        """Build from a mapping; missing keys take their defaults."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise SettingsError(f'conform options have unknown keys {sorted(unknown)}')
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, ready for JSON or TOML."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Conformed:
    """A conformed volume.

    Parameters
    ----------
    data : (W, W, W) uint8
        LIA, in Fortran order.
    geometry : Geometry
        Its grid.
    affine : (4, 4) float64
        Nominal affine: exactly axis-aligned.
    warnings : tuple of str
        Those of the volume that was read, and of this step.
    unchanged : bool
        Whether the input was conformed already and came back as it was.
    """

    data: np.ndarray
    geometry: Geometry
    affine: np.ndarray
    warnings: tuple[str, ...]
    unchanged: bool


def conform(
    volume: Volume, options: ConformOptions = ConformOptions(), *, threads: int = 1
) -> Conformed:
    """Bring a volume to uint8, cubic voxels, a cubic LIA grid."""
    target, warnings = _target(volume.geometry, options)
    values = volume.data
    if values.dtype != np.uint8:
        values = _to_uint8(values, scale=options.scale)
    same = target.matches(volume.geometry)
    if not same:
        values = _reslice(values, volume.geometry, target, options.interpolation, threads)
    size, half = float(target.zooms[0]), float(target.zooms[0]) * target.shape[0] / 2
    affine = np.eye(4)
    affine[:3, :3] = np.array(_LIA) * size
    affine[:3, 3] = target.c_ras.astype(np.float64) + half * np.array([1, -1, 1])
    unchanged = same and volume.data.dtype == np.uint8
    return Conformed(values, target, affine, (*volume.warnings, *warnings), unchanged)


def _target(source: Geometry, options: ConformOptions) -> tuple[Geometry, list[str]]:
    size = np.float32(source.zooms.min() if options.smallest else options.voxel_size)
    reach = (source.zooms * np.float32(source.shape)).max()
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


def _to_uint8(values: np.ndarray, *, scale: bool) -> np.ndarray:
    data = values.astype(np.float32)
    low, factor = np.float32(0), np.float32(1)
    if scale:
        low, high = _window(data)
        if high != low:
            factor = np.float32(np.float32(255) / np.float32(high - low))
    out = factor * (data - low)
    out = np.clip(out, 0, 255)
    result = np.trunc(out.astype(np.float64) + 0.5).astype(np.uint8)
    if scale:
        result[data == 0] = 0
    return result


def _window(data: np.ndarray) -> tuple[np.float32, np.float32]:
    low, high = data.min(), data.max()
    width = np.float32(np.float32(high - low) / np.float32(_BINS))
    if width == 0:
        return low, low
    nonzero = int((np.abs(data) >= 1e-15).sum())
    bins = np.clip(((data - low) / width).astype(np.int64), 0, _BINS - 1)
    counts = np.bincount(bins.ravel(), minlength=_BINS)
    wanted = int((1.0 - float(np.float32(_HIGH))) * nonzero)
    found, b = 0, _BINS - 1
    while found < wanted and b > 0:
        found += int(counts[b])
        b -= 1
    return low, np.float32(np.float32(b) * width + low)


def _reslice(
    values: np.ndarray, source: Geometry, target: Geometry, interpolation: str, threads: int
) -> np.ndarray:
    matrix = _voxel_to_voxel(source.vox2ras, target.vox2ras)
    if interpolation == 'trilinear':
        return trilinear(values, matrix, target.shape, _round, np.uint8, threads)
    result = np.empty(target.shape, dtype=np.uint8, order='F')
    if interpolation == 'cubic':
        smooth = ndimage.spline_filter(values, order=3, output=np.float64, mode='mirror')

    def work(slab: slice) -> None:
        where = coordinates(matrix, target.shape, slab)
        if interpolation == 'nearest':
            where = np.floor(where) + (where - np.floor(where) >= 0.5)
            found = ndimage.map_coordinates(values, where, order=0, mode='constant')
        else:
            found = ndimage.map_coordinates(smooth, where, order=3, mode='mirror', prefilter=False)
        result[..., slab] = _round(found)

    run(work, target.shape[2], threads)
    return result


def _voxel_to_voxel(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return ``inv(source) . target``, float32 rounded at every step.

    The inverse is the closed form by cofactors (as in NIfTI-1's reference code), the product a
    plain sum left to right: on scans whose voxel size is 4/3 mm a tenth of all voxels are ties,
    and the last bit of this matrix decides them (2.3 % of voxels differ with LAPACK's inverse,
    0.006 % with this one).
    """
    (a, b, c, u), (d, e, f, v), (g, h, i, w) = source.astype(np.float32)[:3]
    det = a * e * i - a * h * f - d * b * i + d * h * c + g * b * f - g * e * c
    one = np.float32(1) / det
    inverse = np.eye(4, dtype=np.float32)
    inverse[0, :3] = one * (e * i - h * f), one * (-b * i + h * c), one * (b * f - e * c)
    inverse[1, :3] = one * (-d * i + g * f), one * (a * i - g * c), one * (-a * f + d * c)
    inverse[2, :3] = one * (d * h - g * e), one * (-a * h + g * b), one * (a * e - d * b)
    inverse[0, 3] = one * (
        -b * f * w + b * v * i + e * c * w - e * u * i - h * c * v + h * u * f
    )
    inverse[1, 3] = one * (a * f * w - a * v * i - d * c * w + d * u * i + g * c * v - g * u * f)
    inverse[2, 3] = one * (
        -a * e * w + a * h * v + d * b * w - d * h * u - g * b * v + g * e * u
    )
    matrix = np.zeros((4, 4), dtype=np.float32)
    for k in range(4):
        matrix += inverse[:, k : k + 1] * target.astype(np.float32)[k : k + 1]
    return matrix


def _round(values: np.ndarray) -> np.ndarray:
    single = np.clip(values.astype(np.float32), 0, 255)
    return np.trunc(single.astype(np.float64) + 0.5).astype(np.uint8)
