"""Seconds and peak memory for one scan, beside PyPI's brainchop 0.2.5 in the same run.

    python benchmarks/segment_one.py SCAN MODEL --peer-python PYTHON --peer-model DIR

See README.md in this folder. Prints Markdown tables and writes every number as JSON.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from ours import NORMALIZATION
from processes import run
from theirs import run_peer

HERE = Path(__file__).resolve().parent
OURS, PEER = 'brainchop-bids', 'brainchop 0.2.5'

# One measurement: name of the tool, name of what was done, seconds, peak in MB.
Row = tuple[str, str, float, float]


def main() -> None:
    """Measure, print and write."""
    options = _options()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix='brainchop-benchmark-') as name:
        folder = Path(name)
        # The first round warms caches (files, tinygrad's compiled kernels) and is not counted.
        first = measure(options, folder)
        for number in range(options.repeats):
            print(f'round {number + 1} of {options.repeats}', file=sys.stderr)
            rows += measure(options, folder)
        agreement = compare(folder) if options.peer_python else {}
    table = summarise(rows)
    print(markdown(table, agreement, options.repeats))
    options.json.write_text(
        json.dumps(
            {
                'scan': options.scan.name,
                'model': options.model.name,
                'repeats': options.repeats,
                'machine': machine(),
                'medians': table,
                'rounds': rows,
                'warm_up': first,
                'labels': agreement,
            },
            indent=1,
        )
    )


def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Do everything once, ours and the peer's by turns."""
    stats = folder / 'stats.json'
    scan, model, threads = str(options.scan), str(options.model), str(options.threads)
    rows: list[Row] = []

    command = ['-m', 'brainchop_bids.cli.segment', scan, str(folder / 'ours.nii.gz')]
    command += ['--model', model, '--normalization', NORMALIZATION]
    command += ['--omp-nthreads', threads, '--stats', str(stats)]
    whole = run([sys.executable, *command])
    rows.append((OURS, 'whole command', whole.seconds, whole.peak_mb))
    told = json.loads(stats.read_text())['seconds']
    rows += [(OURS, f'command: {step}', value, 0.0) for step, value in told.items()]
    if options.peer_python:
        rows += _peer(options, 'whole', scan, folder / 'peer.nii.gz', stats)
    for stage, more in (
        ('conform', [scan]),
        ('network', [model, threads]),
        ('components', []),
        ('resample', [scan]),
        ('figures', []),
    ):
        run([sys.executable, str(HERE / 'ours.py'), stage, str(folder), str(stats), *more])
        prefix = 'network: ' if stage == 'network' else ''
        rows += _stages(OURS, prefix, stats)
    if options.peer_python:
        array = str(folder / 'conformed.npy')
        rows += _peer(options, 'network', array, folder / 'peer.npy', stats)
    return rows


def _peer(
    options: argparse.Namespace, what: str, source: str, out: Path, stats: Path
) -> list[Row]:
    """Let the peer do something."""
    taken = run_peer(options.peer_python, out.parent, what, source, options.peer_model, out, stats)
    prefix = 'network: ' if what == 'network' else 'command: '
    rows = _stages(PEER, prefix, stats)
    if what == 'whole':
        rows.append((PEER, 'whole command', taken.seconds, taken.peak_mb))
    return rows


def _stages(tool: str, prefix: str, stats: Path) -> list[Row]:
    """Read what a worker measured of itself."""
    told = json.loads(stats.read_text())
    seconds, peaks = told['seconds'], told['peak_mb']
    rows = [(tool, prefix + name, seconds[name], peaks[name]) for name in seconds]
    if 'first' in seconds:
        # How start-up work is split differs: only the sum compares.
        parts = ('import', 'build', 'first')
        total, peak = sum(seconds[name] for name in parts), max(peaks[name] for name in parts)
        rows.append((tool, f'{prefix}import to first labels', total, peak))
    return rows


def compare(folder: Path) -> dict[str, Any]:
    """Compare labels of both networks for the same conformed array."""
    ours, peer = np.load(folder / 'labels.npy'), np.load(folder / 'peer.npy')
    return {
        'equal': float((ours == peer).mean()),
        'differing': int((ours != peer).sum()),
        OURS: np.bincount(ours.ravel()).tolist(),
        PEER: np.bincount(peer.ravel()).tolist(),
    }


def summarise(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Take medians over the rounds.

    Returns
    -------
    dict
        What was done, tool, ``seconds`` and ``peak_mb``.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for what in dict.fromkeys(row[1] for row in rows):
        table[what] = {}
        for tool in (OURS, PEER):
            mine = [row for row in rows if row[:2] == (tool, what)]
            if mine:
                table[what][tool] = {
                    'seconds': median(row[2] for row in mine),
                    'peak_mb': median(row[3] for row in mine),
                }
    return table


def markdown(
    table: Mapping[str, Mapping[str, Mapping[str, float]]],
    agreement: Mapping[str, Any],
    repeats: int,
) -> str:
    """Write the medians as tables."""
    both = {what: tools for what, tools in table.items() if len(tools) == 2}
    single = {what: tools for what, tools in table.items() if len(tools) == 1}
    lines = [f'Medians of {repeats}, {machine()["cpu"]}, {os.cpu_count()} cores.', '']
    if both:
        lines += [
            f'| | {OURS}, s | {PEER}, s | ratio | {OURS}, MB | {PEER}, MB | ratio |',
            '|---|---:|---:|---:|---:|---:|---:|',
        ]
    for what, tools in both.items():
        cells = [what]
        for key, form in (('seconds', '{:.2f}'), ('peak_mb', '{:,.0f}')):
            ours, peer = tools[OURS][key], tools[PEER][key]
            cells += [form.format(ours) if ours else '', form.format(peer)]
            cells.append(f'{ours / peer:.2f}' if ours and peer else '')
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', '| one of them | | s | MB |', '|---|---|---:|---:|']
    for what, tools in single.items():
        for tool, cost in tools.items():
            peak = f'{cost["peak_mb"]:,.0f}' if cost['peak_mb'] else ''
            lines.append(f'| {tool} | {what} | {cost["seconds"]:.2f} | {peak} |')
    if agreement:
        lines += [
            '',
            f'Labels for the same array: {100 * agreement["equal"]:.4f} % of voxels equal, '
            f'{agreement["differing"]:,} differ.',
        ]
    return '\n'.join(lines)


def machine() -> dict[str, Any]:
    """Describe what this ran on, and how busy it was."""
    names = [
        line.partition(':')[2].strip()
        for line in Path('/proc/cpuinfo').read_text().splitlines()
        if line.startswith('model name')
    ]
    return {
        'cpu': names[0] if names else platform.machine(),
        'cores': os.cpu_count(),
        'python': platform.python_version(),
        'load_average': os.getloadavg(),
    }


def _options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=existing, help='T1w scan')
    parser.add_argument('model', type=existing, help='model folder, as brainchop-segment takes')
    parser.add_argument('--peer-python', type=existing, help='Python with brainchop 0.2.5')
    parser.add_argument('--peer-model', type=existing, help='the same model in its form')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--json', type=Path, default=Path('segment_one.json'))
    options = parser.parse_args()
    if bool(options.peer_python) != bool(options.peer_model):
        parser.error('--peer-python and --peer-model go together')
    return options


def existing(text: str) -> Path:
    """Take a path that must exist; not resolved, as a link to a Python is that Python."""
    path = Path(text).absolute()
    if not path.exists():
        raise argparse.ArgumentTypeError(f'{text} does not exist')
    return path


if __name__ == '__main__':
    main()
