"""Datasets that are almost BIDS: each function adds one fault to a dataset.

It returns the path that the message names, and words of the message.
"""

import os
from collections.abc import Callable
from pathlib import Path

from tests.builders import write_scan

Fault = Callable[[Path], tuple[str, str]]


def underscore_in_a_label(root: Path) -> tuple[str, str]:
    write_scan(root / 'sub-ID_01' / 'anat' / 'sub-ID_01_T1w.nii.gz')
    return (
        'sub-ID_01',
        'a label has only letters and digits; rename it and its files, e.g. sub-ID01',
    )


def extension_in_capitals(root: Path) -> tuple[str, str]:
    return _named(root, 'sub-11', 'sub-11_T1w.NII.GZ'), 'is .NII.GZ; rename it to .nii.gz'


def mgz(root: Path) -> tuple[str, str]:
    return _named(root, 'sub-12', 'sub-12_T1w.mgz'), 'no .mgz scans; convert it to .nii.gz'


def analyze(root: Path) -> tuple[str, str]:
    return _named(root, 'sub-13', 'sub-13_T1w.img'), 'no .img scans; convert it to .nii.gz'


def only_unit1(root: Path) -> tuple[str, str]:
    where = _named(root, 'sub-14', 'sub-14_UNIT1.nii.gz')
    return where, 'give {"t1w": {"suffix": "UNIT1"}} with --bids-filter-file'


def session_without_anat(root: Path) -> tuple[str, str]:
    write_scan(root / 'sub-15' / 'ses-1' / 'sub-15_ses-1_T1w.nii.gz')
    return 'sub-15/ses-1/sub-15_ses-1_T1w.nii.gz', 'is not in a folder anat'


def empty_session(root: Path) -> tuple[str, str]:
    (root / 'sub-16' / 'ses-1' / 'func').mkdir(parents=True)
    return 'sub-16/ses-1', 'has no folder anat, where BIDS has T1w scans'


def small_suffix(root: Path) -> tuple[str, str]:
    return _named(root, 'sub-17', 'sub-17_t1w.nii.gz'), 'its suffix is t1w; rename it to T1w'


def short_suffix(root: Path) -> tuple[str, str]:
    return _named(root, 'sub-18', 'sub-18_T1.nii.gz'), 'its suffix is T1; rename it to T1w'


def anat_in_capitals(root: Path) -> tuple[str, str]:
    write_scan(root / 'sub-21' / 'Anat' / 'sub-21_T1w.nii.gz')
    return 'sub-21/Anat/sub-21_T1w.nii.gz', 'is not in a folder anat'


def participant_without_dash(root: Path) -> tuple[str, str]:
    write_scan(root / 'sub22' / 'anat' / 'sub22_T1w.nii.gz')
    return 'sub22', 'is no participant; BIDS has folders named sub-LABEL'


def participant_that_is_not_utf8(root: Path) -> tuple[str, str]:
    write_scan(root / os.fsdecode(b'sub-\xff') / 'anat' / 'sub-x_T1w.nii.gz')
    return 'sub-\\xff', 'its name is not UTF-8, left out; rename it'


def scan_that_is_not_utf8(root: Path) -> tuple[str, str]:
    write_scan(root / 'sub-23' / 'anat' / os.fsdecode(b'sub-23_acq-\xe4_T1w.nii.gz'))
    return 'sub-23/anat/sub-23_acq-\\xe4_T1w.nii.gz', 'its name is not UTF-8'


FAULTS: tuple[Fault, ...] = (
    underscore_in_a_label,
    extension_in_capitals,
    mgz,
    analyze,
    only_unit1,
    session_without_anat,
    empty_session,
    small_suffix,
    short_suffix,
    anat_in_capitals,
    participant_without_dash,
    participant_that_is_not_utf8,
    scan_that_is_not_utf8,
)


def _named(root: Path, participant: str, name: str) -> str:
    """Write bytes, since a scan with such a name is not read."""
    path = root / participant / 'anat' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'no image')
    return path.relative_to(root).as_posix()
