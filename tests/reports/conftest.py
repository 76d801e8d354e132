"""A derivative tree as `brainchop_bids.bids` writes it, made from arrays."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainchop_bids.bids.derivatives import ScanOutputs
from brainchop_bids.bids.names import ScanName

NAMES = {1: 'White Matter', 2: 'Grey Matter'}
VOLUMES = 'index\tname\tvoxels\tvolume\n1\tWhite Matter\t10\t12.5\n2\tGrey Matter\t30\t37.25\n'
CITATION = """### Methods

Segmented with *brainchop-bids* 0.2.0 [@bidsapps; @nipype], as `mri_convert -c` does [@none].

### References

- [@bidsapps] Gorgolewski KJ et al. (2017). BIDS apps.
  https://doi.org/10.1371/journal.pcbi.1005209
- [@nipype] Gorgolewski K et al. (2011). Nipype. doi:10.3389/fninf.2011.00013.
"""


def facts(**changed: Any) -> dict[str, Any]:
    """Return the sidecar of a label image."""
    return {
        'Sources': ['bids:raw:sub-01/anat/sub-01_T1w.nii.gz'],
        'Model': {'Name': 'model5_gw_ae', 'SHA256': 'ab' * 32, 'Normalization': 'minmax'},
        'Engine': 'keras 3.15.1 on tensorflow 2.21.0',
        'Components': {'Rule': 'largest', 'RemovedComponents': 12, 'RemovedVoxels': 3450},
        'Warnings': [],
        'Seconds': {'conform': 0.8, 'segment': 9.1},
        'PeakMemoryMB': {'segment': 2100},
        'BrainVolume': 1234567.0,
        'Brainchop': {'Version': '0.2.0', 'SourceSHA256': 'cd' * 32, 'Settings': {'frame': 3}},
        **changed,
    }


def write_result(
    root: Path,
    stem: str = 'sub-01_T1w',
    *,
    slug: str = 'gw',
    sidecar: str | None = None,
    volumes: str = VOLUMES,
) -> Path:
    """Write the files of one scan that a report reads; return the folder of its images."""
    parts = stem.removesuffix('_T1w').split('_')
    folders = [part for part in parts if part.startswith(('sub-', 'ses-'))]
    prefix = '_'.join(parts)
    anat = root.joinpath(*folders, 'anat')
    figures = root / folders[0] / 'figures'
    for folder in (anat, figures):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts()) if sidecar is None else sidecar
    (anat / f'{prefix}_seg-{slug}_dseg.json').write_text(text)
    (anat / f'{prefix}_seg-{slug}_dseg.tsv').write_text(volumes)
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([1, 1.25, 1.5, 1]))
    nib.save(image, anat / f'{prefix}_seg-{slug}_dseg.nii.gz')
    nib.save(image, anat / f'{prefix}_space-conform_seg-{slug}_dseg.nii.gz')
    nib.save(image, anat / f'{prefix}_space-conform_desc-preproc_T1w.nii.gz')
    outputs = ScanOutputs(root, ScanName.parse(f'{stem}.nii.gz'), slug)
    for number, (name, path) in enumerate(outputs.figures.items()):
        if path.suffix == '.webp':
            Image.new('RGB', (8, 8), (200, 10 + number, 10)).save(path, lossless=True)
        elif name == 'volume':
            path.write_bytes(gzip.compress(bytes(range(3)) * 40))
    affine = [[1, 0, 0, -2], [0, 1, 0, -2], [0, 0, 1, -3]]
    grid = {'shape': [4, 5, 6], 'columns': 2, 'step': 1, 'affine': affine}
    outputs.figure('grid').write_text(json.dumps(grid))
    (root / f'seg-{slug}_dseg.tsv').write_text(
        'index\tname\tabbreviation\tcolor\tmapping\tfreesurfer\n'
        '0\tbackground\tBG\t#000000\t0\t0\n'
        '1\tWhite Matter\tWM\t#FFFFFF\t2\tn/a\n'
        '2\tGrey Matter\tGM\t#cd3e4e\t1\tn/a\n'
    )
    return anat


@pytest.fixture
def derivatives(tmp_path: Path) -> Path:
    """Return a derivative dataset with one finished scan of sub-01."""
    root = tmp_path / 'out'
    write_result(root)
    (root / 'logs').mkdir()
    (root / 'logs' / 'CITATION.md').write_text(CITATION)
    (root / 'dataset_description.json').write_text(json.dumps({'Name': 'A dataset'}))
    return root


@pytest.fixture
def add_result(derivatives: Path) -> Callable[..., Path]:
    """Return a function that adds a scan to the dataset."""

    def add(stem: str, **options: Any) -> Path:
        return write_result(derivatives, stem, **options)

    return add


@pytest.fixture
def sidecar_facts() -> Callable[..., dict[str, Any]]:
    """Return a function that makes a sidecar with some keys changed."""
    return facts
