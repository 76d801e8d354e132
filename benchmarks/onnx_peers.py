"""Networks of PyTorch, exported as ONNX and run by brainchop-segment, beside PyTorch itself.

    pip install monai onnxscript
    python benchmarks/onnx_peers.py SCAN [FOLDER]

Weights are random. Each network is exported by both exporters of `torch.onnx.export`: the older
one with open sizes, the newer one (dynamo) for cubes of 64 voxels. Prints a Markdown table: the
largest difference of logits relative to the largest logit, in the middle 64^3 voxels of the scan
at 4 mm, and the number of its voxels whose label by brainchop-segment is another one than
PyTorch's. FOLDER keeps the model folders.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from medical_zoo import ResidualUNet, VNet
from monai.networks.nets import DynUNet, SegResNet, UNet

from brainchop_bids.image.conform import ConformOptions, conform
from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.stages import read_scan
from brainchop_bids.inference.tiles import cubes, whole
from brainchop_bids.models.spec import load_spec

CLASSES, SIDE, VOXEL_MM = 4, 64, 4
NETWORKS = {
    'MONAI UNet': lambda: UNet(3, 1, CLASSES, (8, 16, 32, 64), (2, 2, 2), num_res_units=2),
    'MONAI SegResNet': lambda: SegResNet(3, 8, 1, CLASSES),
    'MONAI DynUNet': lambda: DynUNet(
        3, 1, CLASSES, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[8, 16, 32, 64]
    ),
    'MedicalZoo UNet3D': lambda: ResidualUNet(1, CLASSES),
    'MedicalZoo VNet': lambda: VNet(1, CLASSES),
}


def export(network: torch.nn.Module, file: Path, *, dynamo: bool) -> None:
    """Write a network as ONNX."""
    given, names = torch.zeros(1, 1, SIDE, SIDE, SIDE), {'input_names': ['in']}
    names['output_names'] = ['out']
    if not dynamo:
        names['dynamic_axes'] = {name: {2: 'x', 3: 'y', 4: 'z'} for name in ('in', 'out')}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(network, (given,), file, dynamo=dynamo, verbose=False, **names)


def main(scan: str, kept: str | None = None) -> None:
    """Print the table."""
    options = ConformOptions(voxel_size=VOXEL_MM)
    data = conform(read_scan(Path(scan), options=options), options).data
    middle = tuple(slice((n - SIDE) // 2, (n + SIDE) // 2) for n in data.shape)
    print('| network | exporter | weights | input | logits | labels |')
    print('|---|---|---:|---|---:|---:|')
    with tempfile.TemporaryDirectory() as made:
        for name, make in NETWORKS.items():
            torch.manual_seed(0)
            network = make().eval()
            for exporter in ('older', 'dynamo'):
                folder = Path(kept or made) / f'{name.replace(" ", "-")}-{exporter}'
                folder.mkdir(parents=True, exist_ok=True)
                export(network, folder / 'model.onnx', dynamo=exporter == 'dynamo')
                spec = load_spec(folder)
                expected = computed(network, normalise(data[middle], Normalization()))
                off = np.abs(OpenvinoEngine(spec).logits(data[middle]) - expected).max()
                row = f'| {name} | {exporter} | {spec.parameters:,} '
                row += f'| {"64^3" if spec.block else "open"} '
                row += f'| {off / np.abs(expected).max():.1g} '
                print(
                    row + f'| {labels_off(scan, folder, network, data, spec.block)} |', flush=True
                )


def labels_off(
    scan: str, folder: Path, network: torch.nn.Module, data: np.ndarray, block: object
) -> str:
    """Return the number of voxels of the scan whose labels differ."""
    if isinstance(network, VNet):
        return 'not run: 5.5 10^12 multiplications'
    volume = normalise(data, Normalization())
    labels = np.zeros(data.shape, np.uint8)
    for tile in cubes(data.shape, (SIDE,) * 3) if block else whole(data.shape):
        labels[tile.own] = computed(network, volume[tile.outer]).argmax(-1)
    with tempfile.TemporaryDirectory() as made:
        found = segment(scan, folder, Path(made) / 'labels.nii.gz')
    # Labels outside of the field of view are removed.
    inside = data > 0
    return f'{(labels != found)[inside].sum()} of {inside.sum()}'


def computed(network: torch.nn.Module, volume: np.ndarray) -> np.ndarray:
    """Return PyTorch's logits, (X, Y, Z, classes)."""
    with torch.no_grad():
        made = network(torch.from_numpy(np.ascontiguousarray(volume))[None, None])
    return made[0].numpy().transpose(1, 2, 3, 0)


def segment(scan: str, model: Path, out: Path) -> np.ndarray:
    """Return the labels that brainchop-segment writes."""
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', scan, str(out)]
    command += ['--model', str(model), '--voxel-size', str(VOXEL_MM), '--space', 'conform']
    command += ['--components', 'none', '--crop', 'none']
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return np.asarray(nib.load(out).dataobj)


if __name__ == '__main__':
    main(*sys.argv[1:])
