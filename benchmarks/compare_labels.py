"""Compare our labels with those of PyPI's brainchop 0.2.5, for the same array.

    python benchmarks/compare_labels.py SHARED --peer-python PYTHON

model5_gw_ae labels the whole of ``brainchop_t1_crop``; model21_104class and model30chan18cls a
cube of 96 voxels in its middle, because the peer takes minutes for more. The peer reads what
``brainchop-models convert NAME safetensors`` writes. README.md beside this says how to install it.
"""

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from ours import NORMALIZATION
from theirs import peer_model, run_peer

from brainchop_bids.image.normalise import Normalization
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.models.spec import load_spec

SIDES = {'model5_gw_ae': 256, 'model21_104class': 96, 'model30chan18cls': 96}


def main() -> None:
    """Label with both, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('shared', type=Path, help='the folder of scans and upstream models')
    parser.add_argument('--peer-python', required=True, help='that has brainchop 0.2.5')
    options = parser.parse_args()
    scan = options.shared / 'data' / 't1w' / 'brainchop_t1_crop.nii.gz'
    whole = np.asarray(nib.load(scan).dataobj)
    centre = np.argwhere(whole).mean(0)
    print('| model | voxels | equal, % | differ | their largest margin, logits | labels |')
    print('|---|---:|---:|---:|---:|---:|')
    for name, side in SIDES.items():
        middle = zip(centre, whole.shape, strict=True)
        start = [int(np.clip(x - side / 2, 0, n - side)) for x, n in middle]
        cube = np.ascontiguousarray(whole[tuple(slice(x, x + side) for x in start)])
        folder = options.shared / 'models' / 'brainchop' / name
        engine = KerasEngine(load_spec(folder), normalization=Normalization.parse(NORMALIZATION))
        labels = engine.segment(cube)
        differ = labels != _peer(options.peer_python, folder, cube)
        margin = 0.0
        if differ.any():
            best = np.sort(engine.logits(cube)[differ], -1)
            margin = float((best[:, -1] - best[:, -2]).max())
        print(
            f'| {name} | {side}^3 | {100 * (1 - differ.mean()):.4f} | {differ.sum()} | '
            f'{margin:.1e} | {np.unique(labels).size} |',
            flush=True,
        )


def _peer(python: str, folder: Path, cube: np.ndarray) -> np.ndarray:
    """Let brainchop label a conformed array, without components."""
    with tempfile.TemporaryDirectory(prefix='brainchop-compare-') as name:
        work = Path(name)
        np.save(work / 'in.npy', cube)
        model = peer_model(folder, work / 'model')
        run_peer(
            Path(python), work, 'network', work / 'in.npy', model, work / 'out.npy', work / 'stats'
        )
        found: np.ndarray = np.load(work / 'out.npy')
        return found


if __name__ == '__main__':
    main()
