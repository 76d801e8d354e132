"""Several scans in one call of brainchop-segment, and in a call each: seconds and memory.

    python benchmarks/many_files.py SCAN [--number 10] [--model tissue]

See README.md in this folder.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, '-m', 'brainchop_bids.cli.segment']


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=Path)
    parser.add_argument('--number', type=int, default=10)
    parser.add_argument('--model', default='tissue')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='brainchop-files-') as name:
        folder = Path(name)
        suffix = ''.join(options.scan.suffixes[-2:])
        scans = [folder / f'scan{number}{suffix}' for number in range(options.number)]
        for scan in scans:
            scan.symlink_to(options.scan.resolve())
        model = ['--model', options.model]
        one, busy = run([*map(str, scans), '--out', str(folder / 'one'), '--stats', *model])
        each = [run([str(scan), f'{scan}_dseg.nii.gz', *model]) for scan in scans]
        alone, alone_busy = (sum(values) for values in zip(*each, strict=True))
        same = [
            (folder / 'one' / f'scan{number}_dseg{suffix}').read_bytes()
            == Path(f'{scan}_dseg.nii.gz').read_bytes()
            for number, scan in enumerate(scans)
        ]
        peaks = [
            json.loads((folder / 'one' / f'scan{number}_stats.json').read_text())['peak_mb']
            for number in range(options.number)
        ]
    print(f'one call: {one:.1f} s, processors {busy:.1f} s')
    print(f'{options.number} calls: {alone:.1f} s, processors {alone_busy:.1f} s')
    print(f'ratio: {alone / one:.2f}, processors {alone_busy / busy:.2f}')
    print('peak of each scan in the one call, MB: ' + ' '.join(f'{peak:.0f}' for peak in peaks))
    print(f'the same files: {sum(same)} of {len(same)}')


def run(arguments: list[str]) -> tuple[float, float]:
    """Run the command; return seconds of wall time and of processors."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*COMMAND, *arguments], check=True, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, busy


if __name__ == '__main__':
    main()
