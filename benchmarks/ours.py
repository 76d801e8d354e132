"""One stage of brainchop-bids in a process of its own, as its workflow runs them.

    python ours.py STAGE FOLDER STATS [SCAN|MODEL] [THREADS] [WAY]

Stages hand over through arrays in FOLDER; reading those is not part of a stage.
"""

import sys
from pathlib import Path

import numpy as np
from stages import Stages

NORMALIZATION = 'quantile:0.02:0.98:clip'


def conform(folder: Path, stages: Stages, scan: str) -> None:
    """Read and conform a scan."""
    from brainchop_bids.image.conform import conform as conform_volume
    from brainchop_bids.image.io import read_volume

    with stages('conform'):
        conformed = conform_volume(read_volume(scan))
    np.save(folder / 'conformed.npy', conformed.data)


def network(
    folder: Path, stages: Stages, model: str, threads: str, way: str = 'whole', calls: str = '2'
) -> None:
    """Label the conformed array, without components, twice or once.

    ``way`` is ``whole``, ``head box``, ``bf16`` (of the whole) or ``tensorflow``.
    """
    with stages('import'):
        from brainchop_bids.image.head import head_box
        from brainchop_bids.image.normalise import Normalization
        from brainchop_bids.inference.options import InferenceOptions
        from brainchop_bids.inference.plan import make_engine, make_plan
        from brainchop_bids.models.spec import load_spec
        from brainchop_bids.system.resources import available_memory
    data = np.load(folder / 'conformed.npy')
    options = InferenceOptions(
        engine='tensorflow' if way == 'tensorflow' else 'openvino',
        device='cpu',
        precision='bf16' if way == 'bf16' else 'f32',
    )
    with stages('build'):
        spec = load_spec(Path(model))
        box = head_box(data, (4, 4, 4)) if way == 'head box' else None
        plan = make_plan(spec, data.shape, available_memory(), options, box=box)
        engine = make_engine(plan, spec, int(threads), Normalization.parse(NORMALIZATION))
    for name in ('first', 'second')[: int(calls)]:
        with stages(name):
            labels = engine.segment(data, tiles=plan.tiles)
    np.save(folder / 'labels.npy', labels)


def components(folder: Path, stages: Stages) -> None:
    """Keep the largest component."""
    from brainchop_bids.image.components import keep_components

    labels = np.load(folder / 'labels.npy')
    with stages('components'):
        kept, _ = keep_components(labels, 'largest')
    np.save(folder / 'kept.npy', kept)


def resample(folder: Path, stages: Stages, scan: str) -> None:
    """Bring labels back to the grid of the scan."""
    from brainchop_bids.image.conform import conform as conform_volume
    from brainchop_bids.image.io import read_volume
    from brainchop_bids.image.resample import labels_to_grid

    volume = read_volume(scan)
    source = conform_volume(volume).geometry
    labels = np.load(folder / 'kept.npy')
    with stages('resample'):
        labels_to_grid(labels, source, volume.geometry)


def figures(folder: Path, stages: Stages) -> None:
    """Draw what a page shows."""
    from brainchop_bids.image.io import save_nifti
    from brainchop_bids.reports.figures.draw import draw_labels, draw_scan

    files = [folder / 'conformed.nii', folder / 'kept.nii']
    for file in files:
        save_nifti(file, np.load(file.with_suffix('.npy')), affine=np.diag([-1, 1, 1, 1.0]))
    colors = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    with stages('figures'):
        draw_scan(None, files[0])
        draw_labels(*files, None, colors)


if __name__ == '__main__':
    measured = Stages()
    stage, place, stats = sys.argv[1:4]
    globals()[stage](Path(place), measured, *sys.argv[4:])
    measured.write(stats)
