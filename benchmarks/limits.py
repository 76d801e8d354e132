"""Every model under memory limits: what it takes, and whether its labels stay the same.

    python benchmarks/limits.py SCAN MODELS_DIR [--app]

With ``--app`` it is the whole ``brainchop``, all of its processes counted; else
``brainchop-segment``. See README.md in this folder.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from processes import run
from segment_one import existing

LIMITS = (None, '4GB', '2GB')


def main() -> None:
    """Run each model three times, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=existing, help='T1w scan')
    parser.add_argument('models_dir', type=existing, help='folder of model folders')
    parser.add_argument('--models', nargs='+', help='only these, by name')
    parser.add_argument('--app', action='store_true', help='the whole App')
    options = parser.parse_args()
    names = options.models or [
        'tissue',
        *sorted(path.name for path in options.models_dir.iterdir() if path.is_dir()),
    ]
    print('| model | limit | peak, MB | s | labels as without, % | how |')
    print('|---|---|---:|---:|---:|---|', flush=True)
    with tempfile.TemporaryDirectory(prefix='brainchop-limits-') as place:
        for name in names:
            labels: dict[str | None, np.ndarray] = {}
            for limit in LIMITS:
                measure = _app if options.app else _segment
                folder = Path(place) / f'{name}-{limit}'
                folder.mkdir()
                more = [] if limit is None else ['--mem', limit]
                common = ['--model', name, '--models-dir', str(options.models_dir), *more]
                peak, seconds, how, labels[limit] = measure(options.scan, folder, common)
                equal = 100 * float((labels[limit] == labels[None]).mean())
                print(
                    f'| {name} | {limit or "none"} | {peak:,.0f} | {seconds:.1f} | {equal:.4f} | '
                    f'{how} |',
                    flush=True,
                )


def _segment(scan: Path, folder: Path, common: list[str]) -> tuple[float, float, str, np.ndarray]:
    """Segment one file; labels before clean-up, in the conformed grid."""
    out, stats = folder / 'labels.nii', folder / 'stats.json'
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', str(scan), str(out)]
    command += ['--space', 'conform', '--components', 'none', '--stats', str(stats), *common]
    taken = run(command)
    how = json.loads(stats.read_text())['plan']
    return taken.peak_mb, taken.seconds, how, np.asarray(nib.load(out).dataobj)


def _app(scan: Path, folder: Path, common: list[str]) -> tuple[float, float, str, np.ndarray]:
    """Run the App on a dataset of this one scan."""
    anat = folder / 'bids' / 'sub-01' / 'anat'
    anat.mkdir(parents=True)
    (anat / 'sub-01_T1w.nii.gz').symlink_to(scan)
    description = {'Name': 'one scan', 'BIDSVersion': '1.10.0'}
    (folder / 'bids' / 'dataset_description.json').write_text(json.dumps(description))
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', str(folder / 'bids')]
    command += [str(folder / 'out'), 'participant', '-w', str(folder / 'work'), '-v', *common]
    taken = run([*command, '--skip-bids-validation'])
    (found,) = (folder / 'out' / 'sub-01' / 'anat').glob('*space-conform_seg-*_dseg.nii.gz')
    return taken.peak_mb, taken.seconds, 'brainchop', np.asarray(nib.load(found).dataobj)


if __name__ == '__main__':
    main()
