"""Seconds and memory of training cubes from a label map: patch by patch, and from whole volumes.

    python benchmarks/generator.py LABEL_MAP [--side 128] [--repeats 20]

One thread; each way is a process of its own. See README.md in this folder.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from segment_one import existing, machine

from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.training.augment.synthesis import synthesise
from brainchop_bids.training.augment.tissues import t1_prior
from brainchop_bids.training.data.label_maps import build_atlas
from brainchop_bids.training.data.patches import draw_patch
from brainchop_bids.training.data.sampling import draw_box
from brainchop_bids.training.data.sources import load_label_map
from brainchop_bids.training.options import SynthesisOptions

MAPPING = 'aseg_to_subcortical'
RULE = Normalization('quantile')
# As far as a training of ours goes.
OPTIONS = SynthesisOptions(rotation=30, neck=0.4, thickness=6.5, bias=0.5, t1=0.5)
WAYS = ('patches', 'volumes')


def main() -> None:
    """Measure both ways and print a table, or measure one and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('label_map', type=existing)
    parser.add_argument('--side', type=int, default=128, help='of the cubes, voxels')
    parser.add_argument('--repeats', type=int, default=20, help='images of each way')
    parser.add_argument('--cubes', type=int, default=8, help='cut from each whole volume')
    parser.add_argument('--way', choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(_measured(options)))
        return
    facts = machine()
    print(f'{options.side}^3, one thread; medians of {options.repeats}; {facts["cpu"]}\n')
    print('| way | an image, s | its CPU time, s | cubes/s | images/s | peak above the map, MB |')
    print('|---|---:|---:|---:|---:|---:|')
    for way in WAYS:
        found = json.loads(_run(way))
        seconds, cpu = median(found['seconds']), median(found['cpu'])
        cubes = options.cubes if way == 'volumes' else 1
        print(
            f'| {way} | {seconds:.2f} | {cpu:.2f} | {cubes / seconds:.2f} | {1 / seconds:.2f} '
            f'| {found["peak_mb"]:.0f} |',
            flush=True,
        )
    load = ', '.join(f'{value:.1f}' for value in os.getloadavg())
    print(f'\nLoad average at the end: {load}.')


def _run(way: str) -> str:
    threads = {f'{name}_NUM_THREADS': '1' for name in ('OMP', 'OPENBLAS', 'MKL')}
    command = [sys.executable, *sys.argv, '--way', way]
    done = subprocess.run(
        command, env={**os.environ, **threads}, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _measured(options: argparse.Namespace) -> dict[str, object]:
    mapping, prior = read_mapping(MAPPING), t1_prior()
    codes = load_label_map(Path(options.label_map), mapping)
    atlas = build_atlas(codes, mapping)
    if options.way == 'patches':
        del codes
    # What loading the map took is given back, and forgotten.
    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')
    before = _memory('VmRSS')
    seconds, cpu = [], []
    for number in range(options.repeats):
        rng = np.random.default_rng(number)
        start, used = time.perf_counter(), time.process_time()
        if options.way == 'patches':
            draw_patch(
                atlas, rng, OPTIONS, (options.side,) * 3, centred=0.8, rule=RULE, prior=prior
            )
        else:
            image, moved = synthesise(codes, rng, OPTIONS, prior=prior)
            scaled, labels = normalise(image, RULE), mapping.apply(moved)
            inside = np.flatnonzero(labels)
            for _ in range(options.cubes):
                box = draw_box(labels.shape, (options.side,) * 3, inside, rng, 0.8)
                scaled[box].copy(), labels[box].copy()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {'seconds': seconds, 'cpu': cpu, 'peak_mb': (_memory('VmHWM') - before) / 1e6}


def _memory(key: str) -> int:
    """Return a figure of this process's memory, bytes."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


if __name__ == '__main__':
    main()
