"""Derivatives of many scans, as far as the group level reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from brainchop_bids.bids.derivatives import ScanOutputs
from brainchop_bids.bids.names import ScanName

SOURCE, MODEL = 'ab' * 32, 'cd' * 32


def write_labels(root: Path, names: list[str], slug: str = 'x') -> None:
    """Write a label table, background first."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ['index\tname\tabbreviation\tcolor\tmapping\tfreesurfer', '0\tBackground\tBG\t#000000']
    lines += [f'{index}\t{name}\tL{index}\t#c04060' for index, name in enumerate(names, 1)]
    (root / f'seg-{slug}_dseg.tsv').write_text('\n'.join(lines) + '\n')


def write_scan(
    root: Path, stem: str, volumes: dict[str, float], *, slug: str = 'x', **entries: Any
) -> Path:
    """Write what is read of one finished scan; return the path of its sidecar."""
    parts = stem.removesuffix('_T1w').split('_')
    folder = root.joinpath(*(part for part in parts if part.startswith(('sub-', 'ses-'))), 'anat')
    folder.mkdir(parents=True, exist_ok=True)
    name = f'{stem.removesuffix("_T1w")}_seg-{slug}_dseg'
    metadata = {
        'BrainVolume': sum(volumes.values()),
        'Model': {'SHA256': MODEL},
        'Brainchop': {'SourceSHA256': SOURCE},
        **entries,
    }
    (folder / f'{name}.json').write_text(json.dumps(metadata))
    lines = ['index\tname\tvoxels\tvolume', '0\tBackground\t9\t9.0']
    lines += [
        f'{index}\t{label}\t{int(volume)}\t{volume:.3f}'
        for index, (label, volume) in enumerate(volumes.items(), 1)
    ]
    (folder / f'{name}.tsv').write_text('\n'.join(lines) + '\n')
    (folder / f'{name}.nii.gz').write_bytes(b'its content is not read')
    return folder / f'{name}.json'


def write_page(root: Path, participant: str, anchors: list[str]) -> None:
    """Write a page with places to link to."""
    marks = ''.join(f'<h2 id="{anchor}">{anchor}</h2>' for anchor in anchors)
    (root / f'{participant}.html').write_text(f'<!DOCTYPE html><title>p</title>{marks}')


def write_mosaic(
    root: Path, stem: str, slug: str = 'x', rows: tuple[int, ...] = (220, 9, 9)
) -> None:
    """Write figures of three rows, each evenly grey, with black between them."""
    height, gap = 100, 14
    picture = np.zeros((3 * height + 4 * gap, 700, 3), np.uint8)
    for place, grey in enumerate(rows):
        top = gap + place * (height + gap)
        picture[top : top + height] = grey
    outputs = ScanOutputs(root, ScanName.parse(f'{stem}.nii.gz'), slug)
    outputs.figure('cuts').parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(outputs.figure('cuts'), quality=90)
    clear = np.zeros((*picture.shape[:2], 4), np.uint8)
    Image.fromarray(clear).save(outputs.figure('labels'), lossless=True)


def write_group(root: Path, scans: int, structures: int, seed: int = 0) -> np.ndarray:
    """Write many scans, one of them far off; return their volumes, shape (scans, structures)."""
    random = np.random.default_rng(seed)
    names = [f'Structure {index}' for index in range(1, structures + 1)]
    write_labels(root, names)
    sizes = random.lognormal(8, 1, structures)
    heads = random.normal(1, 0.1, (scans, 1))
    volumes = sizes * heads * random.normal(1, 0.05, (scans, structures))
    if scans > 3:
        volumes[3, 0] *= 2
    volumes = volumes.round(3)
    for scan in range(scans):
        stem = f'sub-{scan:04d}_T1w'
        flags = [{'Name': 'holes', 'Value': 0.1, 'Reason': 'It has holes.'}] * (scan % 50 == 7)
        write_scan(
            root,
            stem,
            dict(zip(names, map(float, volumes[scan]), strict=True)),
            Measures={'snr_gm': random.normal(12, 2), 'cjv': random.normal(0.4, 0.05)},
            Flags=flags,
        )
        write_page(root, f'sub-{scan:04d}', [f'sub-{scan:04d}_T1w_seg-x'])
    return volumes
