"""Smooth random fields, rotations and a model of a scanner's sampling, for augmented images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Length of an axis, in voxels, on which the effect of sampling on noise is measured.
_LENGTH = 64
# Least value before a logarithm.
_DARKEST = 1e-6


def smooth_field(shape: tuple[int, ...], spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field with mean 0 and standard deviation about 1.

    Parameters
    ----------
    shape : tuple of 3 int
        Shape of the field.
    spacing : float
        Distance of the control points of the cubic B-spline, voxels.
    rng : numpy.random.Generator
        Random generator.

    Returns
    -------
    float32 array of ``shape``
    """
    points, bases = control_points(shape, spacing, rng)
    field = along_axes(points, bases)
    return field / np.float32(field.std() + 1e-9)


def control_points(
    shape: tuple[int, ...], spacing: float, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw the control points of a smooth field; `along_axes` evaluates it from both results.

    Parameters
    ----------
    shape, spacing, rng
        As for `smooth_field`.

    Returns
    -------
    points : (P, Q, R) float32
        Standard normal.
    bases : list of 3 float32 arrays, (X, P), (Y, Q) and (Z, R)
        From control points to voxels.
    """
    bases = [spline_basis(n, spacing) for n in shape]
    return rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32), bases


def spline_basis(length: int, spacing: float) -> np.ndarray:
    """Return the cubic B-spline matrix from control points to voxels.

    Parameters
    ----------
    length : int
        Number of voxels.
    spacing : float
        Distance of the control points, voxels.

    Returns
    -------
    (length, P) float32
        Each row sums to 1.
    """
    place = np.arange(length) / spacing
    points = int(np.ceil(length / spacing)) + 3
    distance = np.abs(place[:, None] + 1 - np.arange(points)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def bias_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random bias field, as of a receive coil.

    Parameters
    ----------
    shape : tuple of 3 int
        Shape of the field.
    strength : float
        Standard deviation of the logarithm.
    rng : numpy.random.Generator
        Random generator.

    Returns
    -------
    float32 array of ``shape``
        Factors around 1.
    """
    field = smooth_field(shape, max(1, shape[0] // 3), rng)
    field *= np.float32(strength)
    return np.exp(field, out=field)


@dataclass(frozen=True, eq=False)
class Shading:
    """A bias field that can be evaluated on any part of the field of view.

    Parameters
    ----------
    points : (P, Q, R) float32
        Control points of the logarithm.
    bases : list of 3 float32 arrays, (X, P), (Y, Q) and (Z, R)
        From control points to voxels.
    """

    points: np.ndarray
    bases: list[np.ndarray]

    @classmethod
    def draw(
        cls, side: int, spacing: float, strength: float, rng: np.random.Generator
    ) -> 'Shading':
        """Draw a field for a cube of ``side`` voxels; see `control_points` and `bias_field`."""
        points, bases = control_points((side,) * 3, spacing, rng)
        coarse = along_axes(points, [basis[::4] for basis in bases])
        return cls(points * np.float32(strength / (coarse.std() + 1e-9)), bases)

    def part(self, voxels: tuple[slice, slice, slice]) -> np.ndarray:
        """Return the factors on a box of voxels, float32."""
        parts = [basis[where] for basis, where in zip(self.bases, voxels, strict=True)]
        field = along_axes(self.points, parts)
        return np.exp(field, out=field)


def along_axes(volume: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply each axis of a volume by a matrix.

    Parameters
    ----------
    volume : (X, Y, Z) float32
        The volume.
    matrices : three float32 arrays, (X', X), (Y', Y) and (Z', Z)
        One for each axis.

    Returns
    -------
    (X', Y', Z') float32
    """
    for matrix in matrices:
        # Each product moves the first axis to the end; three restore the order.
        volume = np.tensordot(volume, matrix, axes=(0, 1))
    return volume


def rotate(matrix: np.ndarray, angles: Sequence[float] | np.ndarray) -> np.ndarray:
    """Rotate about the first axis, then the second, then the third.

    Parameters
    ----------
    matrix : (3, 3) array
        Transform that is applied first.
    angles : sequence of 3 float
        Angles, radians.

    Returns
    -------
    (3, 3) array
    """
    for axis, angle in enumerate(angles):
        rotation = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        rotation[i, i] = rotation[j, j] = np.cos(angle)
        rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
        matrix = rotation @ matrix
    return matrix


def sampling(length: int, size: float, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices that blur and downsample an axis, and that interpolate it back.

    Parameters
    ----------
    length : int
        Number of voxels.
    size : float
        Size of the new voxels, in voxels; 1 keeps them.
    blur : float
        Standard deviation of the Gaussian, voxels.

    Returns
    -------
    down : (n, length) float32
        Each row sums to 1.
    up : (length, n) float32
        Linear interpolation; constant beyond the ends.
    """
    count = max(2, round(length / size))
    centres = (np.arange(count) + 0.5) * length / count - 0.5
    distance = np.arange(length)[None] - centres[:, None]
    down = np.exp(-0.5 * (distance / max(blur, 0.1)) ** 2)
    down /= down.sum(1, keepdims=True)
    place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    up = np.clip(1 - np.abs(place[:, None] - np.arange(count)[None]), 0, None)
    return down.astype(np.float32), up.astype(np.float32)


@dataclass(frozen=True)
class Scanner:
    """The sampling of an image: blur, voxel sizes, noise and contrast curve.

    Blurring, sampling and interpolation are linear and separable, so that each axis needs one
    matrix for each direction.

    Parameters
    ----------
    sizes, blurs : tuple of 3 float
        Voxel sizes, and standard deviations of the Gaussian blur before sampling, mm.
    noise : float
        Standard deviation of the noise after sampling.
    gamma : float
        Exponent of the contrast curve.
    """

    sizes: tuple[float, ...]
    blurs: tuple[float, ...]
    noise: float
    gamma: float

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        low_resolution: float,
        thickness: float,
        noise: float,
        gamma: float,
    ) -> 'Scanner':
        """Draw a scanner; parameters are those of `SynthesisOptions`."""
        sizes = np.ones(3)
        if rng.random() < low_resolution:
            # All axes a little coarser, or one of them (thick slices) much coarser.
            sizes[:] = rng.uniform(1, 1.8)
            if rng.random() < 0.5:
                sizes[rng.integers(3)] = rng.uniform(1.8, thickness)
        blurs = 0.42 * sizes * np.exp(rng.uniform(*np.log((0.7, 2.2))))
        spread = rng.uniform(0, noise)
        return cls(tuple(sizes), tuple(blurs), spread, float(np.exp(rng.normal(0, gamma))))

    def matrices(self, shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the two matrices of each axis, see `sampling`."""
        facts = zip(shape, self.sizes, self.blurs, strict=True)
        return [sampling(n, size, blur) for n, size, blur in facts]

    def averaging(self) -> tuple[float, float]:
        """Return the factors by which sampling and interpolation reduce independent noise."""
        directions = zip(*self.matrices((_LENGTH,) * 3), strict=True)
        down, up = (
            float(np.prod([np.sqrt((matrix**2).sum(1).mean()) for matrix in matrices]))
            for matrices in directions
        )
        return down, up

    def sample(
        self, image: np.ndarray, rng: np.random.Generator, air: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the image in the scanner's voxels, with noise.

        Parameters
        ----------
        image : (X, Y, Z) float32
            Voxels of 1 mm.
        rng : numpy.random.Generator
            Random generator.
        air : (X, Y, Z) float32, optional
            1 in air that has noise of the full range, as in quotients of two images.

        Returns
        -------
        (X', Y', Z') float32
            0 or more.
        """
        downs = [down for down, _ in self.matrices(image.shape)]
        low = along_axes(image, downs)
        noise = rng.standard_normal(low.shape, dtype=np.float32)
        noise *= np.float32(self.noise)
        low += noise
        np.clip(low, 0, None, out=low)
        if air is not None:
            noisy = along_axes(air, downs) > 0.5
            low[noisy] = rng.random(int(noisy.sum()), dtype=np.float32)
        return low

    def develop(self, low: np.ndarray, top: float) -> np.ndarray:
        """Apply the contrast curve in place; ``top`` becomes 1, and values are clipped at 1.2."""
        low *= np.float32(1 / max(top, 1e-3))
        np.clip(low, _DARKEST, 1.2, out=low)
        # A third faster than np.power.
        np.log(low, out=low)
        low *= np.float32(self.gamma)
        return np.exp(low, out=low)

    def restore(self, low: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Interpolate an image back to voxels of 1 mm."""
        if low.shape != shape:
            low = along_axes(low, [up for _, up in self.matrices(shape)])
        return np.clip(low, 0, 1.2, out=low)
