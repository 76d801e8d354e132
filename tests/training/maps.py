"""Small label maps: a head with two halves of brain, each with cortex, white matter, ventricle."""

from pathlib import Path

import nibabel as nib
import numpy as np


def write_maps(folder: Path, count: int, size: int = 64) -> Path:
    """Write ``map_0.nii.gz``, ... in LIA at 1 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.array(
        [[-1, 0, 0, size / 2], [0, 0, 1, -size / 2], [0, -1, 0, size / 2], [0, 0, 0, 1]]
    )
    for i in range(count):
        grid = np.stack(np.meshgrid(*[np.linspace(-1.1, 1.1, size)] * 3, indexing='ij'))
        radius = np.sqrt((grid**2).sum(0)) * (1 + 0.05 * i)
        # The first axis of LIA runs from right to left.
        left = grid[0] >= 0
        labels = np.zeros((size, size, size), np.int16)
        for limit, codes in (
            (1, (516, 516)),
            (0.9, (24, 24)),
            (0.8, (42, 3)),
            (0.6, (41, 2)),
            (0.2, (43, 4)),
        ):
            labels[radius < limit] = codes[0]
            labels[(radius < limit) & left] = codes[1]
        nib.Nifti1Image(labels, affine).to_filename(folder / f'map_{i}.nii.gz')
    return folder
