"""Time training steps, before and after, against the machine's own matrix product.

    python benchmarks/trainer.py LABEL_MAPS [--rounds 5] [--steps 5]

Each way runs in a process of its own, all by turns, on a batch that is at hand: what is timed is
the network, its loss and the update. GFLOP/s count the multiplications and additions of the
convolutions, forward once and backward twice; the share is of a product of 2048 x 2048 float32
matrices (bfloat16 where that is what the network computes with) in the same process. Prints
Markdown; `generator.py` beside this times the images.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RECIPES = Path(__file__).parent.parent / 'recipes'
_PLACES = ["init.model=''", 'model.space_to_depth=2', 'stages.0.stride=1', 'stages.0.subvoxels=2']
# Name, recipe, stage, backend, and what is changed in the recipe.
WAYS: dict[str, tuple[str, int, str, list[str]]] = {
    'tissue, every second voxel, TensorFlow': ('tissue', 1, 'tensorflow', []),
    'tissue, every second voxel, PyTorch': ('tissue', 1, 'torch', []),
    'aseg, every second voxel, PyTorch': ('aseg', 0, 'torch', []),
    'aseg, MeshNet on 2 mm places': (
        'aseg',
        0,
        'torch',
        [*_PLACES, 'model.channels=24', 'model.dilations=[1, 1, 2, 4, 8, 16, 4, 2, 1]'],
    ),
    'aseg, light U-Net on 2 mm places': (
        'aseg',
        0,
        'torch',
        [*_PLACES, 'model.architecture=light_unet'],
    ),
    'aseg, MeshNet on 2 mm places, 32 channels, batch norm': (
        'aseg',
        0,
        'torch',
        [
            *_PLACES,
            'stages.0.norm=batch',
            'model.channels=32',
            'model.dilations=[1, 1, 2, 4, 8, 4, 2, 1]',
        ],
    ),
    'aseg, light U-Net on 2 mm places, batch norm': (
        'aseg',
        0,
        'torch',
        [*_PLACES, 'stages.0.norm=batch', 'model.architecture=light_unet'],
    ),
}
_SIDE = 2048


def main() -> None:
    """Run all ways by turns, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('label_maps', type=Path)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=5, help='timed steps of each round')
    parser.add_argument('--way', choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.label_maps, arguments.steps)))
        return
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for number in range(arguments.rounds):
        for way, rows in found.items():
            rows.append(_run(way, arguments))
            print(f'{number}: {way}: {rows[-1]["seconds"]:.2f} s', file=sys.stderr)
    print('| way | s a step | least | GFLOP a step | GFLOP/s | of the product | precision | MB |')
    print('|---|---:|---:|---:|---:|---:|---|---:|')
    for way, rows in found.items():
        middle = {
            key: statistics.median(row[key] for row in rows) for key in rows[0] if key != 'policy'
        }
        least = min(row['least'] for row in rows)
        print(
            f'| {way} | {middle["seconds"]:.2f} | {least:.2f} | {middle["gflop"]:.0f} | '
            f'{middle["gflop"] / middle["seconds"]:.0f} | '
            f'{middle["gflop"] / middle["seconds"] / middle["product"]:.0%} | '
            f'{rows[0]["policy"]} | {middle["peak_mb"]:.0f} |'
        )


def _run(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, str(arguments.label_maps), '--way', way]
    command += ['--steps', str(arguments.steps)]
    environment = {**os.environ, 'KERAS_BACKEND': WAYS[way][2], 'TF_CPP_MIN_LOG_LEVEL': '3'}
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def measure(way: str, label_maps: Path, steps: int) -> dict[str, Any]:
    """Time steps of one way, in this process.

    Returns
    -------
    dict
        Median and least ``seconds`` of a step, its ``gflop``, the matrix ``product``'s GFLOP/s,
        the dtype ``policy`` and ``peak_mb``.
    """
    from brainchop_bids.models.mapping import read_mapping
    from brainchop_bids.system.resources import peak_mb
    from brainchop_bids.training.config import read_training_config
    from brainchop_bids.training.devices import configure_keras
    from brainchop_bids.training.loop import stage_builder

    recipe, number, _, changes = WAYS[way]
    config = read_training_config(
        RECIPES / f'{recipe}.toml', [*changes, f"data.label_maps='{label_maps}'"]
    )
    policy = configure_keras(config.precision)
    classes = read_mapping(config.data.mapping).classes
    model = stage_builder(config, classes)(number)
    stage = config.stages[number]
    rng = np.random.default_rng(0)
    image = rng.random((stage.batch, *stage.shape, 1), dtype=np.float32)
    given: Any = image
    if stage.subvoxels:
        given = [image, np.tile(np.arange(stage.subvoxels, dtype=np.int32), (stage.batch, 1))]
    shape = model.output_shape[1:-1]
    labels = rng.integers(0, classes, (stage.batch, *shape)).astype(np.int32)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        model.train_on_batch(given, labels)
        seconds.append(time.perf_counter() - start)
    return {
        'seconds': statistics.median(seconds[2:]),
        'least': min(seconds[2:]),
        'gflop': 3 * 2 * products(model) / 1e9,
        'product': _matrix_product(policy),
        'policy': policy,
        'peak_mb': peak_mb(),
    }


def products(model: Any) -> float:
    """Return the multiplications of a step's convolutions, forward."""
    total = 0.0
    for layer in model.layers:
        head = getattr(layer, 'head', None)
        kernel = getattr(head or layer, 'kernel', None)
        if kernel is None:
            continue
        voxels = _size(layer.output.shape[1:-1])
        # A transposed convolution's kernel meets each voxel of its input; of a head on places
        # each voxel of the output has a part of the kernel.
        total += voxels * _size(kernel.shape) / (_size(kernel.shape[:3]) if head else 1)
    return total


def _size(shape: Sequence[int]) -> float:
    return float(np.prod(shape, dtype=float))


def _matrix_product(policy: str) -> float:
    """Return GFLOP/s of a product of two square matrices."""
    try:
        import torch
    except ImportError:
        values = np.random.default_rng(0).random((_SIDE, _SIDE), dtype=np.float32)
    else:
        values = torch.rand(_SIDE, _SIDE)
        if 'bfloat16' in policy:
            values = values.to(torch.bfloat16)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        values @ values
        times.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / statistics.median(times[1:]) / 1e9


if __name__ == '__main__':
    main()
