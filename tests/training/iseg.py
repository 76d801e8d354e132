"""A data set in the form of iSeg-2017, written by nibabel's own Analyze writer."""

from pathlib import Path

import nibabel as nib
import numpy as np

# As published; smaller ones are for tests.
SHAPE = (144, 192, 256)
CODES = (0, 10, 150, 250)


def write_iseg(folder: Path, subjects: int, shape: tuple[int, int, int] = SHAPE) -> Path:
    """Write ``subject-1-T1.hdr`` and ``.img``, ... with shells of CSF, grey and white matter."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij')
    zoom = 144 / shape[0]
    for number in range(1, subjects + 1):
        rng = np.random.default_rng(number)
        radius = np.sqrt(sum(axis**2 for axis in grid)) * (1 + 0.03 * number)
        labels = np.select([radius < 0.4, radius < 0.6, radius < 0.7], [250, 150, 10], 0)
        for name, values in (('T1', (0, 100, 300, 400)), ('T2', (0, 900, 500, 300))):
            image = np.array(values)[np.searchsorted(CODES, labels)]
            image = image + rng.normal(0, 15, shape) * (labels > 0)
            _write(folder / f'subject-{number}-{name}.hdr', image.clip(0).astype(np.int16), zoom)
        _write(folder / f'subject-{number}-label.hdr', labels.astype(np.uint8), zoom)
    return folder


def _write(path: Path, data: np.ndarray, zoom: float) -> None:
    # The published files have a fourth axis of length 1.
    image = nib.AnalyzeImage(data[..., None], None)
    image.header.set_zooms((zoom, zoom, zoom, 1))
    image.to_filename(path)
