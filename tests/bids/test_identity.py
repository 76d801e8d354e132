"""Whose scan a file is: its folder and its name must agree, or it is nobody's."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.bids.names import scan_node_name
from brainchop_bids.bids.query import find_scans, find_siblings
from tests.builders import write_dataset, write_scan
from tests.corpus.files import MISPLACED, misplace

TRUE = ['sub-24/ses-3/anat/sub-24_ses-3_T1w.nii.gz', 'sub-25/anat/sub-25_T1w.nii.gz']


@pytest.mark.parametrize('name', MISPLACED)
def test_a_scan_in_another_s_folder_is_left_out(tmp_path: Path, name: str) -> None:
    dataset = write_dataset(tmp_path, TRUE)
    misplace(dataset, name, dataset / TRUE[0])
    selection = find_scans(dataset)
    assert [scan.relative for scan in selection.scans] == TRUE
    folder, own = MISPLACED[name]
    path = dataset / name
    assert selection.missing == (
        f'{path}: left out: its folder says {folder}, its name {own}; move or rename it',
    )
    for label, scan in zip(('24', '25'), TRUE, strict=True):
        chosen = find_scans(dataset, participants=(label,))
        assert [scan.relative for scan in chosen.scans] == [scan]


def test_another_s_second_contrast_is_not_taken(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, TRUE)
    write_scan(dataset / 'sub-25/anat/sub-24_T2w.nii.gz')
    own = write_scan(dataset / 'sub-25/anat/sub-25_acq-x_T2w.nii.gz')
    scan = find_scans(dataset, participants=('25',)).scans[0]
    assert find_siblings(scan, ['T2w']) == [own]


@settings(deadline=None)
@given(st.lists(st.text('aB0-+_é', min_size=1, max_size=6), min_size=2, max_size=6, unique=True))
def test_two_scans_never_share_a_workflow(labels: list[str]) -> None:
    stems = [f'sub-{label}_T1w' for label in labels]
    assert len(set(map(scan_node_name, stems))) == len(stems)
