"""The BIDS App on real scans with upstream's weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.test_run import check_valid, run


def volumes(anat: Path) -> dict[str, float]:
    [table] = anat.glob('*_dseg.tsv')
    rows = [line.split('\t') for line in table.read_text().splitlines()[1:]]
    return {row[1]: float(row[3]) / 1e3 for row in rows}


def check_anatomy(out: Path, participant: str) -> None:
    """Volumes of an adult (mL), labels inside the mask, white matter brighter than grey."""
    anat = out / participant / 'anat'
    found = volumes(anat)
    assert 300 < found['White Matter'] < 800
    assert 370 < found['Grey Matter'] < 900
    record = json.loads(next(anat.glob(f'{participant}_seg-*_dseg.json')).read_text())
    assert 900e3 < record['BrainVolume'] < 1900e3
    scan = np.asarray(nib.load(next(anat.glob('*_desc-preproc_T1w.nii.gz'))).dataobj)
    labels = np.asarray(nib.load(next(anat.glob('*_space-conform_seg-*_dseg.nii.gz'))).dataobj)
    assert scan[labels == 1].mean() > scan[labels == 2].mean() > scan[labels == 0].mean()
    native = np.asarray(nib.load(next(anat.glob(f'{participant}_seg-*_dseg.nii.gz'))).dataobj)
    mask = np.asarray(nib.load(next(anat.glob('*_desc-brain_mask.nii.gz'))).dataobj)
    assert (mask[native > 0] == 1).mean() > 0.995


def test_one_scan_and_one_that_is_cut_short(shared: Path, tmp_path: Path) -> None:
    dataset = tmp_path / 'bids'
    shutil.copytree(shared / 'data' / 'pumi-minitest', dataset)
    whole = dataset / 'sub-001' / 'anat' / 'sub-001_T1w.nii.gz'
    cut = dataset / 'sub-002' / 'anat' / 'sub-002_T1w.nii.gz'
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole.read_bytes()[:500_000])
    model = shared / 'models' / 'brainchop' / 'model5_gw_ae'
    out = tmp_path / 'out'
    # Its scalp is brighter than its brain: min-max, the model's own, leaves too little range.
    how = ('--normalization', 'quantile:0.02:0.98:clip', '-w', tmp_path / 'work')
    done = run(dataset, out, 'participant', '--model', model, *how, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'sub-002_T1w.nii.gz' in done.stderr
    assert not (out / 'sub-002').exists()
    check_anatomy(out, 'sub-001')
    check_valid(out)
    page = (out / 'sub-001.html').read_text()
    assert 'data:image/webp;base64,' in page
    assert f'{volumes(out / "sub-001" / "anat")["Grey Matter"]:,.0f}'.split(',')[0] in page


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_six_scans_of_ds000011(shared: Path, tmp_path: Path) -> None:
    dataset, model = shared / 'data' / 'ds000011', shared / 'models' / 'brainchop' / 'model5_gw_ae'
    out = tmp_path / 'out'
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', dataset, out, 'participant']
    command += ['--model', model, '-w', tmp_path / 'work']
    first = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    for number in range(1, 7):
        check_anatomy(out, f'sub-{number:02d}')
    check_valid(out)
    again = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert again.returncode == 0
    assert '0 scans done, 6 already done, 0 failed' in again.stdout
