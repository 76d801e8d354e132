"""Shared fixtures: where the real data lies, if it is there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Make a skip a failure where everything is there (CI sets BRAINCHOP_NO_SKIP)."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, 'wasxfail') and os.environ.get('BRAINCHOP_NO_SKIP'):
        report.outcome = 'failed'
        report.longrepr = f'skipped where nothing may be: {report.longrepr}'


@pytest.fixture(scope='session')
def shared() -> Path:
    """Return the folder of real scans, reference volumes and upstream's weights."""
    folder = os.environ.get('BRAINCHOP_TEST_DATA')
    if not folder:
        pytest.skip('real data: set BRAINCHOP_TEST_DATA to the folder of scans and models')
    path = Path(folder).resolve()
    assert path.is_dir(), f'BRAINCHOP_TEST_DATA names {path}, which is no folder'
    return path
