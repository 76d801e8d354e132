"""Seconds and memory of networks alone, whole and boxed, beside PyPI's brainchop 0.2.5.

    python benchmarks/networks.py SCAN MODEL... --peer-python PYTHON

Each measurement is a process of its own that labels the conformed scan twice; all ways by turns,
so that whatever else the machine does falls on all of them. See README.md in this folder.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from ours import conform
from processes import run
from segment_one import existing, machine
from stages import Stages
from theirs import peer_model, run_peer

HERE = Path(__file__).resolve().parent
WAYS = ('whole', 'head box', 'bf16', 'tensorflow')
PEER = 'brainchop 0.2.5'


def main() -> None:
    """Measure, and print a table for each model."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix='brainchop-benchmark-') as name:
        folder = Path(name)
        conform(folder, Stages(), str(options.scan))
        if options.side:
            data = np.load(folder / 'conformed.npy')
            x, y, z = (slice((n - options.side) // 2, (n + options.side) // 2) for n in data.shape)
            np.save(folder / 'conformed.npy', np.ascontiguousarray(data[x, y, z]))
        shape = np.load(folder / 'conformed.npy', mmap_mode='r').shape
        facts = machine()
        print(f'{options.scan.name}, {"x".join(map(str, shape))} voxels; medians of ', end='')
        print(f'{options.repeats}, {facts["cpu"]}, {facts["cores"]} cores.\n')
        print('| model | way | first, s | second, s | peak, MB | ratio | equal, % | labelled, % |')
        print('|---|---|---:|---:|---:|---:|---:|---:|', flush=True)
        for model in options.models:
            _model(options, model, folder)


def _model(options: argparse.Namespace, model: Path, folder: Path) -> None:
    stats = folder / 'stats.json'
    ways = [*options.ways, *([PEER] if options.peer_python else [])]
    if options.peer_python:
        peer = peer_model(model, folder / f'peer-{model.name}')
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    labels: dict[str, np.ndarray] = {}
    for number in range(options.repeats):
        for way in ways:
            print(f'{model.name}, round {number + 1}: {way}', file=sys.stderr)
            if way == PEER:
                array, out = folder / 'conformed.npy', folder / 'labels.npy'
                run_peer(options.peer_python, folder, 'network', array, peer, out, stats)
            else:
                command = [HERE / 'ours.py', 'network', folder, stats, model, options.threads, way]
                command.append(options.calls)
                run([sys.executable, *map(str, command)])
            told = json.loads(stats.read_text())
            seconds, peaks = told['seconds'], told['peak_mb']
            second = seconds.get('second', seconds['first'])
            found[way].append((seconds['first'], second, max(peaks.values())))
            labels[way] = np.load(folder / 'labels.npy')
    for way in ways:
        first, second, peak = (median(values) for values in zip(*found[way], strict=True))
        ratio = ''
        if options.peer_python and way != PEER:
            # Of each round, so that both were measured at about the same time.
            pairs = zip(found[PEER], found[way], strict=True)
            ratio = f'{median(theirs[1] / ours[1] for theirs, ours in pairs):.1f}'
        same = labels[way] == labels[ways[0]]
        inside = (labels[way] != 0) | (labels[ways[0]] != 0)
        print(
            f'| {model.name} | {way} | {first:.2f} | {second:.2f} | {peak:,.0f} | {ratio} | '
            f'{100 * same.mean():.4f} | {100 * same[inside].mean():.3f} |',
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=existing, help='T1w scan')
    parser.add_argument('models', type=existing, nargs='+', help='model folders')
    parser.add_argument('--peer-python', type=existing, help='Python with brainchop 0.2.5')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--side', type=int, help='only a cube of so many voxels, of the middle')
    parser.add_argument('--calls', choices=['1', '2'], default='2', help='ours, of each process')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


if __name__ == '__main__':
    main()
