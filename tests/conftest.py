"""Shared fixtures: where the real data lies, if it is there."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.browser import axe, browser, html_faults, launch, npm_packages, open_page

__all__ = ['axe', 'browser', 'html_faults', 'launch', 'npm_packages', 'open_page']

# As `load_tensorflow` has it, for tests that import Keras themselves.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

# OpenVINO would report that it was imported.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]

# Machines are shared: an example may take long. CI tries the same examples each time; whoever
# runs the tests by hand tries new ones.
settings.register_profile('here', deadline=None)
settings.register_profile('ci', deadline=None, derandomize=True)
settings.load_profile('ci' if os.environ.get('CI') else 'here')


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Make a skip for want of what CI says is there a failure."""
    outcome = yield
    report = outcome.get_result()
    reason = str(report.longrepr)
    needs = ('real data', 'browser:', 'npm:', 'namespaces:')
    packages = ('torch', 'JAX', 'MONAI', 'SimpleITK', 'sphinx', 'boutiques')
    wanting = any(word in reason for word in (*needs, *packages))
    if report.skipped and wanting and os.environ.get('BRAINCHOP_NO_SKIP'):
        report.outcome = 'failed'
        report.longrepr = f'skipped where nothing may be: {reason}'


@pytest.fixture(scope='session')
def shared() -> Path:
    """Return the folder of real scans, reference volumes and upstream's weights."""
    folder = os.environ.get('BRAINCHOP_TEST_DATA')
    if not folder:
        pytest.skip('real data: set BRAINCHOP_TEST_DATA to the folder of scans and models')
    path = Path(folder).resolve()
    assert path.is_dir(), f'BRAINCHOP_TEST_DATA names {path}, which is no folder'
    return path


@pytest.fixture(scope='session')
def real_derivatives(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the App makes of ten real heads with its own model.

    They are ds000011's six, one of 2 mm, and three of ``t1w``: a child's, one of 0.7 mm and one
    without its skull.
    """
    own = tmp_path_factory.mktemp('real') / 'out'
    given = os.environ.get('BRAINCHOP_REAL_DERIVATIVES')
    if given:
        # For whoever works on pages: segmenting takes a minute.
        return Path(shutil.copytree(given, own))
    # Processes that share the tests make it once, and have a copy each.
    together = tmp_path_factory.getbasetemp()
    together = together.parent if 'PYTEST_XDIST_WORKER' in os.environ else together
    with (together / 'real.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = together / 'real_heads'
        if not folder.exists():
            _segment_real_heads(shared, folder)
    return Path(shutil.copytree(folder / 'out', own))


def _segment_real_heads(shared: Path, folder: Path) -> None:
    dataset = folder / 'bids'
    shutil.copytree(shared / 'data' / 'ds000011', dataset)
    others = {
        'fnndsc': 't1w/fnndsc-10yr-trio/T1w.nii.gz',
        'pumi': 'pumi-minitest/sub-001/anat/sub-001_T1w.nii.gz',
        'studyforrest': 't1w/studyforrest-philips-dicom/T1w.nii.gz',
        'voxelmorph': 't1w/voxelmorph-test-scan/vol.nii.gz',
    }
    for label, scan in others.items():
        anat = dataset / f'sub-{label}' / 'anat'
        anat.mkdir(parents=True)
        shutil.copyfile(shared / 'data' / scan, anat / f'sub-{label}_T1w.nii.gz')
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', dataset, folder / 'out']
    command += ['participant', '-w', folder / 'work', '--skip-bids-validation']
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
