"""A run over very many scans: seconds a scan, and whether the memory of the App stays.

    python benchmarks/many_scans.py OUT.png [--scans 500]

See README.md in this folder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.builders import head, write_dataset, write_model, write_scan

_PAGE_MB = 4096 / 1e6
_INTERVAL = 1.0


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('plot', type=Path, help='the picture to write')
    parser.add_argument('--scans', type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='brainchop-many-') as name:
        times, memory, busy, done = measure(Path(name), options.scans)
    tenth = max(1, len(done) // 10)
    gaps = np.diff([0.0, *done])
    settled = [value for when, value in zip(times, memory, strict=True) if when > done[tenth]]
    print(f'{len(done)} scans in {done[-1]:.0f} s: first {done[0]:.1f} s, then median of')
    print(f'{median(gaps[1:]):.2f} s each (first tenth {median(gaps[1 : tenth + 1]):.2f} s,')
    print(f'last tenth {median(gaps[-tenth:]):.2f} s). Memory of the App after the first tenth:')
    print(f'{min(settled):.0f} to {max(settled):.0f} MB, at the end {memory[-1]:.0f} MB.')
    print(f'Processor time of the App itself: {busy / len(done):.2f} s a scan')
    draw(times, memory, done, options.plot)


def measure(folder: Path, scans: int) -> tuple[list[float], list[float], float, list[float]]:
    """Run the App and look at it each second.

    Returns times (s) and its memory (MB), its processor time (s), when each scan was done (s).
    """
    dataset = write_dataset(folder / 'bids', [])
    small = head((12, 14, 12))
    for number in range(scans):
        label = f'sub-{number:04d}'
        write_scan(dataset / label / 'anat' / f'{label}_T1w.nii.gz', small, 16.0)
    model = write_model(folder / 'tiny')
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', str(dataset), str(folder / 'out')]
    command += ['participant', '--model', str(model), '-w', str(folder / 'work')]
    command += ['--clean-workdir', '--skip-bids-validation']
    begun = time.perf_counter()
    log = folder / 'log'
    times: list[float] = []
    memory: list[float] = []
    busy = 0.0
    with log.open('w') as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            pages = Path(f'/proc/{process.pid}/statm').read_text().split()
            if len(pages) > 1 and int(pages[1]):
                times.append(time.perf_counter() - begun)
                memory.append(int(pages[1]) * _PAGE_MB)
                ticks = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
                busy = sum(map(int, ticks[11:13])) / os.sysconf('SC_CLK_TCK')
            time.sleep(_INTERVAL)
    if process.returncode:
        raise SystemExit(log.read_text()[-2000:])
    # Pages are written when a scan is done.
    start = time.time() - (time.perf_counter() - begun)
    pages = sorted(path.stat().st_mtime for path in (folder / 'out').glob('sub-*.html'))
    return times, memory, busy, [when - start for when in pages]


def draw(times: list[float], memory: list[float], done: list[float], path: Path) -> None:
    """Plot scans and memory against time."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout='constrained')
    left.plot(done, range(1, len(done) + 1))
    left.set(xlabel='s', ylabel='scans done', title='Scans')
    right.plot(times, memory)
    right.set(xlabel='s', ylabel='MB', title='Memory of the App itself', ylim=(0, None))
    figure.savefig(path, dpi=100)


if __name__ == '__main__':
    main()
