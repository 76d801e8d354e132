"""Crash files as Nipype writes them, read back for the pages."""

import os
from pathlib import Path

import pytest
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.tools import report_crash

from brainchop_bids.bids.names import scan_node_name
from brainchop_bids.interfaces import Conform
from brainchop_bids.reports.crashes import find_failures, read_crashes
from brainchop_bids.reports.participant.page import write_participant_page
from brainchop_bids.system.errors import InputError


def crash(root: Path, stem: str, message: str, when: float = 0.0) -> Path:
    """Let Nipype write the crash file of a scan's conform step."""
    scan = root / f'{stem}.nii.gz'
    scan.write_bytes(b'')
    workflow = pe.Workflow('app_wf', base_dir=str(root / 'work'))
    inner = pe.Workflow(scan_node_name(stem))
    node = pe.Node(Conform(in_file=str(scan)), name='conform')
    inner.add_nodes([node])
    workflow.add_nodes([inner])
    logs = root / 'logs'
    logs.mkdir(exist_ok=True)
    workflow.config['execution'] = {'crashdump_dir': str(logs), 'crashfile_format': 'txt'}
    found = workflow._create_flat_graph().nodes()
    (flat,) = found
    flat.config = {'execution': workflow.config['execution']}
    text = f'Traceback (most recent call last):\n{InputError.__module__}.InputError: {message}\n'
    path = Path(report_crash(flat, traceback=text.splitlines(keepends=True)))
    if when:
        os.utime(path, (when, when))
    return path


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
