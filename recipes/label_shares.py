"""Make brainchop_bids/data/label_shares.tsv from label maps with FreeSurfer's codes.

    python recipes/label_shares.py LABEL_MAPS > brainchop_bids/data/label_shares.tsv

Shares are of the brain without the fluid around it (code 24), for structures by their side and
for both sides together. Grey and white matter are shares of both, fluid of all three.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from brainchop_bids.image.io import load_labels
from brainchop_bids.image.lookup import histogram
from brainchop_bids.models.freesurfer import freesurfer_code
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.sides import lateral_pairs

HEAD = """\
# Lowest and highest share of structures in 20 label maps of adults, made by
# recipes/label_shares.py from the training label maps of SynthSeg (Billot et al. 2023,
# https://doi.org/10.1016/j.media.2023.102789; Apache-2.0).
"""
# SynthSeg's own codes, and lesions: part of the structure they lie in.
PARTS = {136: 4, 137: 5, 163: 43, 164: 44, 25: 2, 57: 41}
FLUID_AROUND = 24
STRUCTURES = (
    'Cerebral-White-Matter',
    'Cerebral-Cortex',
    'Lateral-Ventricle',
    'Inf-Lat-Vent',
    'Cerebellum-White-Matter',
    'Cerebellum-Cortex',
    'Thalamus',
    'Caudate',
    'Putamen',
    'Pallidum',
    'Hippocampus',
    'Amygdala',
    'Accumbens-area',
    'VentralDC',
)
SINGLE = ('3rd-Ventricle', '4th-Ventricle', 'Brain-Stem')


def main(folder: Path) -> None:
    """Write the table to standard output."""
    counts = np.array([_counts(path) for path in sorted(folder.glob('*.nii.gz'))])
    print(HEAD + 'freesurfer\tmapping\tname\tlowest\thighest')
    for row in _rows(counts):
        print('\t'.join(row))


def _counts(path: Path) -> np.ndarray:
    counts = histogram(load_labels(path)[0], 600)[:600].astype(float)
    for part, whole in PARTS.items():
        counts[whole] += counts[part]
        counts[part] = 0
    return counts


def _rows(counts: np.ndarray) -> Iterator[tuple[str, ...]]:
    brain = counts[:, 1:500].sum(axis=1) - counts[:, FLUID_AROUND]
    names = {freesurfer_code(name): name for name in SINGLE}
    names |= {
        freesurfer_code(f'{side}-{name}'): f'{side}-{name}'
        for side in ('Left', 'Right')
        for name in STRUCTURES
    }
    for code, name in names.items():
        yield str(code), 'n/a', name, *_range(counts[:, code] / brain)
    for left, right in lateral_pairs(names):
        both = counts[:, left] + counts[:, right]
        yield 'n/a', 'n/a', names[left].removeprefix('Left-'), *_range(both / brain)
    tissue = {mapped: np.zeros(len(counts)) for mapped in (1, 2, 3)}
    for code, mapped in read_mapping('aseg_to_tissue').indices.items():
        if mapped and code < counts.shape[1]:
            tissue[mapped] += counts[:, code]
    solid = tissue[1] + tissue[2]
    for mapped, name in ((1, 'Gray Matter'), (2, 'White Matter'), (3, 'Cerebrospinal Fluid')):
        whole = solid + tissue[3] if mapped == 3 else solid
        yield 'n/a', str(mapped), name, *_range(tissue[mapped] / whole)


def _range(shares: np.ndarray) -> tuple[str, str]:
    return f'{shares.min():.6f}', f'{shares.max():.6f}'


if __name__ == '__main__':
    main(Path(sys.argv[1]))
