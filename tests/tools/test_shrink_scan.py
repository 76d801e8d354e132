"""The demonstration scan: small, free to pass on, and what its README says it was made from."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.builders import DEMO

ROOT = Path(__file__).parents[2]
SCAN = DEMO / 'sub-06' / 'anat' / 'sub-06_T1w.nii.gz'


def test_it_is_small_and_free() -> None:
    assert SCAN.stat().st_size < 1.2e6
    description = json.loads((DEMO / 'dataset_description.json').read_text('utf-8'))
    assert description['License'] == 'PDDL-1.0'
    assert 'Public Domain Dedication and License (PDDL) v1.0' in (DEMO / 'README').read_text()
    header = nib.load(SCAN).header
    assert (header['qform_code'], header['sform_code']) == (1, 1)
    assert nib.aff2axcodes(header.get_best_affine()) == ('R', 'A', 'S')


def test_it_is_made_from_the_published_scan(shared: Path, tmp_path: Path) -> None:
    published = shared / 'data' / 'ds000011' / 'sub-06' / 'anat' / SCAN.name
    made = tmp_path / 'made.nii.gz'
    script = ROOT / 'tools' / 'shrink_scan.py'
    subprocess.run([sys.executable, script, published, made], check=True)
    small, committed = nib.load(made), nib.load(SCAN)
    assert small.header == committed.header
    # Another processor may round the other way.
    data = [np.asarray(image.dataobj).astype(int) for image in (small, committed)]
    assert np.abs(data[0] - data[1]).max() <= 1
