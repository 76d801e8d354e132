"""Shared fixtures: where the real data lies, if it is there."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.browser import axe, browser, html_faults, npm_packages, open_page

__all__ = ['axe', 'browser', 'html_faults', 'npm_packages', 'open_page']

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
    wanting = any(word in reason for word in ('real data', 'torch', 'browser:'))
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
