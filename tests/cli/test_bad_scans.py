"""A run over scans of the corpus: each is told in one line, and the good ones are finished."""

import csv
import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.builders import write_dataset, write_model, write_scan
from tests.corpus import scans

WRITERS = (
    scans.thick_voxels,
    scans.millimetres_called_metres,
    scans.offset_that_is_no_number,
    scans.dimensions_that_wrap,
)


def test_each_is_one_line_and_the_others_are_done(tmp_path: Path) -> None:
    good = 'sub-good/anat/sub-good_T1w.nii.gz'
    dataset = write_dataset(tmp_path / 'bids', [good])
    words = {case.name: case.says for case in (*scans.REFUSED, *scans.MENDED)}
    for number, write in enumerate((*WRITERS, scans.no_thickness)):
        name = f'sub-{number}/anat/sub-{number}_T1w.nii.gz'
        (dataset / name).parent.mkdir(parents=True)
        shutil.move(write(tmp_path), dataset / name)
    # 784 mm need a grid of half a GB, which --mem does not grant.
    write_scan(dataset / 'sub-wide' / 'anat' / 'sub-wide_T1w.nii.gz', scans.DATA, 28.0)
    out = tmp_path / 'out'
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', dataset, out, 'participant']
    command += [
        '--model',
        write_model(tmp_path / 'model'),
        '-w',
        tmp_path / 'work',
        '--mem',
        '900M',
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert '2 scans done, 0 already done, 5 failed' in done.stdout
    for number, write in enumerate(WRITERS):
        [line] = [line for line in done.stderr.splitlines() if f'sub-{number}_T1w' in line]
        assert all(part in line for part in words[write.__name__]), line
        assert not (out / f'sub-{number}').exists()
    [line] = [line for line in done.stderr.splitlines() if 'sub-wide_T1w' in line]
    assert 'needs 0.6 GB of memory to be read and conformed' in line
    assert 'granted are 0.5 GB (the 0.9 GB of all processes, less 0.4 GB for those' in line
    label = len(WRITERS)
    for done_label in ('good', label):
        assert (
            out / f'sub-{done_label}' / 'anat' / f'sub-{done_label}_seg-model_dseg.nii.gz'
        ).exists()
    sidecar = out / f'sub-{label}' / 'anat' / f'sub-{label}_seg-model_dseg.json'
    warnings = json.loads(sidecar.read_text())['Warnings']
    assert any('were completed by the sform' in warning for warning in warnings)

    # The group level has a row for every scan of the dataset, also for one that came later.
    write_scan(dataset / 'sub-late' / 'anat' / 'sub-late_T1w.nii.gz', scans.DATA, 1.0)
    command[5] = 'group'
    group = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert group.returncode == 1, group.stderr
    with (out / 'group_seg-model_dseg.tsv').open() as file:
        rows = {row['bids_name']: row for row in csv.DictReader(file, delimiter='\t')}
    status = {name: row['status'] for name, row in rows.items()}
    bad = dict.fromkeys([f'sub-{n}_T1w' for n in range(len(WRITERS))] + ['sub-wide_T1w'], 'failed')
    fine = dict.fromkeys(['sub-good_T1w', f'sub-{label}_T1w'], 'done')
    assert status == {**bad, **fine, 'sub-late_T1w': 'missing'}
    page = (out / 'group_seg-model.html').read_text()
    for name in (*bad, 'sub-late_T1w'):
        [line] = [line for line in group.stderr.splitlines() if f'{name}:' in line]
        assert f'{status[name]}: {name}: {rows[name]["reason"]}' in line
        assert html.escape(rows[name]['reason']) in page
    for number, write in enumerate(WRITERS):
        assert all(part in rows[f'sub-{number}_T1w']['reason'] for part in words[write.__name__])
