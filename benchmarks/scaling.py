"""Seconds and memory against voxels, scans and participants: a table, and a plot.

    python benchmarks/scaling.py SCAN OUT.png

See README.md in this folder.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from ours import conform
from processes import run
from segment_one import existing, machine
from stages import Stages

HERE = Path(__file__).resolve().parent
SIDES = (96, 128, 160, 192, 224, 256, 288, 320)
SCANS = (1, 2, 4, 8)
PARTICIPANTS = 1000


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=existing, help='T1w scan')
    parser.add_argument('plot', type=Path, help='the picture to write')
    parser.add_argument('--model', default='tissue')
    parser.add_argument('--repeats', type=int, default=3)
    options = parser.parse_args()
    facts = machine()
    print(f'{options.scan.name}, {options.model}, {facts["cpu"]}, {facts["cores"]} cores; medians')
    print(f'of {options.repeats}\n')
    with tempfile.TemporaryDirectory(prefix='brainchop-scaling-') as name:
        voxels = by_voxels(options, Path(name))
        scans = by_scans(options, Path(name))
        start_up(options, Path(name))
    draw(voxels, scans, options.plot)


def by_voxels(options: argparse.Namespace, folder: Path) -> list[tuple[int, float, float]]:
    """Label volumes of the scan's middle, or with air around it, in a process each."""
    from brainchop_bids.models.zoo import find_model

    conform(folder, Stages(), str(options.scan))
    whole = np.load(folder / 'conformed.npy')
    print('| voxels | network, s | ns a voxel | peak, MB |\n|---|---:|---:|---:|', flush=True)
    rows = []
    for side in SIDES:
        wide = [(max(0, side - n) // 2, max(0, side - n + 1) // 2) for n in whole.shape]
        data = np.pad(whole, wide)
        x, y, z = (slice((n - side) // 2, (n - side) // 2 + side) for n in data.shape)
        np.save(folder / 'conformed.npy', np.asfortranarray(data[x, y, z]))
        found = []
        for _ in range(options.repeats):
            stats = folder / 'stats.json'
            command = [HERE / 'ours.py', 'network', folder, stats, find_model(options.model), '2']
            run([sys.executable, *map(str, command)])
            told = json.loads(stats.read_text())
            found.append((told['seconds']['second'], max(told['peak_mb'].values())))
        seconds, peak = (median(values) for values in zip(*found, strict=True))
        print(
            f'| {side}^3 | {seconds:.2f} | {seconds / side**3 * 1e9:.0f} | {peak:,.0f} |',
            flush=True,
        )
        rows.append((side, seconds, peak))
    return rows


def by_scans(options: argparse.Namespace, folder: Path) -> list[tuple[int, float, float]]:
    """Run the App on datasets of so many copies of the scan."""
    print('\n| scans | brainchop, s | each further one, s | peak, MB |\n|---|---:|---:|---:|')
    rows: list[tuple[int, float, float]] = []
    for number in SCANS:
        found = []
        for turn in range(options.repeats):
            place = folder / f'scans-{number}-{turn}'
            make_dataset(place / 'bids', options.scan, number)
            taken = run([*app(place), '--model', options.model, '--skip-bids-validation'])
            found.append((taken.seconds, taken.peak_mb))
        seconds, peak = (median(values) for values in zip(*found, strict=True))
        further = f'{(seconds - rows[0][1]) / (number - 1):.1f}' if rows else ''
        print(f'| {number} | {seconds:.1f} | {further} | {peak:,.0f} |', flush=True)
        rows.append((number, seconds, peak))
    return rows


def start_up(options: argparse.Namespace, folder: Path) -> None:
    """Ask for one participant of many, up to the first node."""
    print('\n| participants | `--dry-run` for one of them, s |\n|---|---:|')
    for number in (1, PARTICIPANTS):
        place = folder / f'participants-{number}'
        make_dataset(place / 'bids', options.scan, number)
        command = [*app(place), '--dry-run', '--participant-label', '0001']
        seconds = median(run(command).seconds for _ in range(options.repeats))
        print(f'| {number} | {seconds:.2f} |', flush=True)


def make_dataset(bids: Path, scan: Path, number: int) -> None:
    """Make a dataset of links to one scan."""
    for index in range(1, number + 1):
        anat = bids / f'sub-{index:04}' / 'anat'
        anat.mkdir(parents=True)
        (anat / f'sub-{index:04}_T1w.nii.gz').symlink_to(scan)
    description = {'Name': 'copies of a scan', 'BIDSVersion': '1.10.0'}
    (bids / 'dataset_description.json').write_text(json.dumps(description))


def app(place: Path) -> list[str]:
    """Return the command line of the App."""
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', str(place / 'bids')]
    return [*command, str(place / 'out'), 'participant', '-w', str(place / 'work')]


def draw(
    voxels: list[tuple[int, float, float]], scans: list[tuple[int, float, float]], path: Path
) -> None:
    """Draw both tables side by side."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for axis, rows, what, scale in (
        (axes[0], voxels, 'million voxels', lambda side: side**3 / 1e6),
        (axes[1], scans, 'scans', float),
    ):
        places = [scale(number) for number, _, _ in rows]
        axis.plot(places, [seconds for _, seconds, _ in rows], 'o-', color='tab:blue')
        axis.set(xlabel=what, ylim=(0, None), xlim=(0, None))
        axis.set_ylabel('seconds', color='tab:blue')
        other = axis.twinx()
        other.plot(places, [peak / 1e3 for _, _, peak in rows], 's--', color='tab:orange')
        other.set(ylim=(0, None))
        other.set_ylabel('peak memory, GB', color='tab:orange')
    axes[0].set_title('network alone, whole volume')
    axes[1].set_title('brainchop, everything written')
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    main()
