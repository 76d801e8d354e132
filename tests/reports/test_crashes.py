"""Crash files as Nipype writes them, read back for the pages."""

import os
from pathlib import Path

import pytest

from brainchop_bids.reports.crashes import find_failures, read_crashes
from brainchop_bids.reports.participant.page import write_participant_page
from tests.reports.crash_files import crash


def test_a_scan_that_failed_has_a_section_with_its_reason(derivatives: Path) -> None:
    crash(derivatives, 'sub-01_ses-A_run-2_T1w', 'x.nii.gz: is <b>empty</b>; fetch it again')
    (failure,) = find_failures(derivatives, 'sub-01')
    assert failure.title == 'sub-01_ses-A_run-2_T1w'
    assert failure.step == 'conform'
    assert failure.line == 'x.nii.gz: is <b>empty</b>; fetch it again'
    assert 'Traceback' in failure.text
    page = write_participant_page(derivatives, '01')
    assert page is not None
    html = page.read_text()
    assert 'sub-01_ses-A_run-2_T1w</bdi> failed' in html
    assert '&lt;b&gt;empty' in html
    assert find_failures(derivatives, '01', 'A') == (failure,)
    assert find_failures(derivatives, '01', 'B') == find_failures(derivatives, '0') == ()


def test_a_participant_without_results_has_a_page_that_says_why(tmp_path: Path) -> None:
    assert write_participant_page(tmp_path, '07') is None
    crash(tmp_path, 'sub-07_T1w', 'is cut short')
    page = write_participant_page(tmp_path, '07')
    assert page is not None
    assert 'is cut short' in page.read_text()


def test_what_was_done_since_is_no_failure(derivatives: Path) -> None:
    path = crash(derivatives, 'sub-01_T1w', 'was bad')
    done = derivatives / 'sub-01/anat/sub-01_seg-gw_dseg.nii.gz'
    assert len(find_failures(derivatives, '01')) == 1
    later = path.stat().st_mtime + 10
    os.utime(done, (later, later))
    assert find_failures(derivatives, '01') == ()


def test_the_last_of_several_counts(tmp_path: Path) -> None:
    first = crash(tmp_path, 'sub-01_T1w', 'first')
    first.rename(first.with_name('crash-old.txt'))
    os.utime(first.with_name('crash-old.txt'), (1000, 1000))
    crash(tmp_path, 'sub-01_T1w', 'second')
    (failure,) = find_failures(tmp_path, '01')
    assert failure.line == 'second'
    assert len(list(read_crashes(tmp_path / 'logs', since=2000))) == 1


@pytest.mark.parametrize('text', ['', '\x00\xff', 'Node: \n', 'Node: a.b.c\nsub-01_T1w.nii'])
def test_files_that_are_no_crash_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / 'logs').mkdir()
    (tmp_path / 'logs' / 'crash-1.txt').write_bytes(text.encode('latin-1'))
    assert find_failures(tmp_path, '01') == ()
