"""CT-like bodies in Hounsfield units: an ellipsoid with lungs, a spine, ribs and a heart."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np

AIR, LUNG, FAT, MUSCLE, BLOOD, BONE = -1000, -800, -90, 45, 60, 500


def body(
    rng: np.random.Generator, shape: tuple[int, int, int], field: float = 420.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a body.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random generator.
    shape : tuple of 3 int
        Voxels to the left, to the back and up, as CT is usually stored.
    field : float
        Width of the frames, mm; 700 mm of the body are stored.

    Returns
    -------
    data : (X, Y, Z) int16
        Hounsfield units.
    heart : (X, Y, Z) uint8
        The organ.
    affine : (4, 4) float64
        Voxel index to RAS+ mm.
    """
    zooms = np.array([field / shape[0], field / shape[1], 700 / shape[2]])
    grid = [
        ((np.arange(n) - (n - 1) / 2) * z).astype(np.float32)
        for n, z in zip(shape, zooms, strict=True)
    ]
    left, back, up = np.meshgrid(*grid, indexing='ij', sparse=True)

    def inside(middle: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        sizes = np.multiply(radii, rng.uniform(0.9, 1.1, 3)).tolist()
        axes = zip((left, back, up), middle, sizes, strict=True)
        distance: np.ndarray = sum(((axis - m) / size) ** 2 for axis, m, size in axes)
        return distance < 1

    shift = rng.uniform(-1, 1, 3) * (15, 15, 120)
    x, y, z = shift
    data = np.full(shape, AIR, np.int16)
    for middle, radii, value in (
        ((x, y, z), (180, 120, 420), FAT),
        ((x, y, z), (165, 105, 400), MUSCLE),
        ((x - 80, y, z), (62, 80, 130), LUNG),
        ((x + 80, y, z), (62, 80, 130), LUNG),
        ((x, y + 80, z), (18, 18, 400), BONE),
    ):
        data[inside(middle, radii)] = value
    heart = inside((x + 20, y - 30, z - 40), (52, 45, 60))
    data[heart] = BLOOD + rng.integers(0, 120)
    noise = rng.normal(0, 15, (16, 16, 16)).astype(np.int16)
    data += np.tile(noise, [-(-n // 16) for n in shape])[tuple(slice(n) for n in shape)]
    affine = np.diag([-zooms[0], -zooms[1], zooms[2], 1.0])
    return data, heart.astype(np.uint8), affine


def write_bodies(folder: Path, count: int, shape: tuple[int, int, int], seed: int = 0) -> Path:
    """Write bodies, their hearts, and ``table.tsv`` that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with (folder / 'table.tsv').open('w', newline='') as file:
        writer = csv.writer(file, delimiter='\t')
        writer.writerow(('subject', 'CT', 'labels'))
        for number in range(count):
            data, heart, affine = body(rng, shape)
            names = (f'{number}_ct.nii.gz', f'{number}_heart.nii.gz')
            for name, array in zip(names, (data, heart), strict=True):
                nib.Nifti1Image(array, affine).to_filename(folder / name)
            writer.writerow((str(number), *names))
    (folder / 'heart.tsv').write_text('code\tindex\tlabel\n0\t0\tBackground\n1\t1\tHeart\n')
    return folder
