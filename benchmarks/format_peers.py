"""Models in the formats of other frameworks: imported, verified, run, and beside their framework.

    python format_peers.py prepare SCAN FOLDER
    PYTHON format_networks.py KIND FOLDER [UPSTREAM]       for each framework
    python format_peers.py compare SCAN FOLDER [PATTERN [MOST]]

See README.md in this folder. The second step prints a Markdown table: the largest difference of
logits relative to the largest logit, in one cube of 32 voxels of the scan at 8 mm, by the files as
they are and as `brainchop-models import` has written them; what `brainchop-models verify` says of
both; and the number of the scan's voxels whose label by `brainchop-segment` is another one than
the framework's. Networks with more than MOST (1.5e12) multiplications in 256^3 voxels are run by
the engine on the one cube alone.
"""

import contextlib
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from format_networks import SIDE

from brainchop_bids.cli.models import main as models_main
from brainchop_bids.image.conform import ConformOptions, conform
from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.stages import read_scan
from brainchop_bids.models.spec import load_spec

VOXEL_MM = 8
# The same scaling for each part of the volume.
RULE = 'window:0:255'
# At 8 mm a head lies within these voxels of the conformed 256^3.
MIDDLE = (slice(128 - SIDE, 128 + SIDE),) * 3


def conformed(scan: str) -> np.ndarray:
    """Return a scan on the grid of 8 mm, (256, 256, 256) uint8."""
    options = ConformOptions(voxel_size=VOXEL_MM)
    return conform(read_scan(Path(scan), options=options), options).data


def prepare(scan: str, folder: str) -> None:
    """Write what the frameworks compute: the volume, and the cube with the most of the head."""
    data = conformed(scan)[MIDDLE]
    signal = (data > 0).reshape(2, SIDE, 2, SIDE, 2, SIDE).sum((1, 3, 5))
    corner = np.unravel_index(signal.argmax(), signal.shape)
    Path(folder).mkdir(parents=True, exist_ok=True)
    volume = normalise(data, Normalization.parse(RULE)).astype(np.float32)
    np.savez(Path(folder) / 'given.npz', volume=volume, corner=corner)


def compare(scan: str, folder: str, pattern: str = '*', most: str = '1.5e12') -> None:
    """Print the table."""
    data = conformed(scan)
    corner = np.load(Path(folder) / 'given.npz')['corner']
    cube = data[MIDDLE][tuple(slice(SIDE * i, SIDE * (i + 1)) for i in corner)]
    print('| model | by | weights | logits | imported | verify | labels that differ |')
    print('|---|---|---:|---:|---:|---|---|')
    for file in sorted(Path(folder).glob(f'{pattern}.npz')):
        if file.stem != 'given':
            row(scan, file, data, cube, float(most))


def row(scan: str, file: Path, data: np.ndarray, cube: np.ndarray, most: float) -> None:
    """Print the row of a model."""
    model, expected = file.with_suffix(''), np.load(file)
    with tempfile.TemporaryDirectory() as made:
        models('import', model, '--models-dir', made, '--name', 'imported')
        imported = Path(made) / 'imported'
        verified = models('verify', model, imported)
        specs = [load_spec(model), load_spec(imported)]
        logits, largest = expected['logits'], np.abs(expected['logits']).max()
        rule = Normalization.parse(RULE)
        engines = [OpenvinoEngine(spec, normalization=rule) for spec in specs]
        # A single channel is the logit of the second class, beside 0 for the first.
        found = [engine.logits(cube)[..., -logits.shape[-1] :] for engine in engines]
        off = [f'{np.abs(one - logits).max() / largest:.1g}' for one in found]
        if specs[0].products * data.size < most:
            labels = segmented(scan, imported, Path(made) / 'labels.nii.gz')[MIDDLE]
            inside = data[MIDDLE] > 0
            wrong = (labels != expected['labels'])[inside].sum()
            told = f'{wrong} of {inside.sum():,} (brainchop-segment)'
        else:
            theirs = logits.argmax(-1) if logits.shape[-1] > 1 else logits[..., 0] > 0
            wrong = (engines[1].segment(cube) != theirs).sum()
            told = f'{wrong} of {cube.size:,} (engine, one cube)'
    agreed = ', '.join(re.findall(r'to (\S+)$', verified, re.MULTILINE))
    print(
        f'| {file.stem} | {expected["by"]} | {specs[0].parameters:,} | {" | ".join(off)} '
        f'| {agreed} | {told} |',
        flush=True,
    )


def models(*arguments: object) -> str:
    """Run brainchop-models; return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = models_main([str(argument) for argument in arguments])
    if code:
        raise SystemExit(f'brainchop-models {arguments}: exit code {code}\n{out.getvalue()}')
    return out.getvalue()


def segmented(scan: str, model: Path, out: Path) -> np.ndarray:
    """Return the labels that brainchop-segment writes, cube by cube."""
    call = [sys.executable, '-m', 'brainchop_bids.cli.segment', scan, out, '--model', model]
    call += ['--voxel-size', VOXEL_MM, '--space', 'conform', '--normalization', RULE]
    call += ['--subvolumes', SIDE, '--components', 'none', '--crop', 'none']
    subprocess.run([str(part) for part in call], check=True, stderr=subprocess.DEVNULL)
    return np.asarray(nib.load(out).dataobj)


if __name__ == '__main__':
    {'prepare': prepare, 'compare': compare}[sys.argv[1]](*sys.argv[2:])
