"""Shared fixtures: where the real data lies, if it is there."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def shared() -> Path:
    """Return the folder of real scans, reference volumes and upstream's weights."""
    folder = os.environ.get('BRAINCHOP_TEST_DATA')
    if not folder:
        pytest.skip('real data: set BRAINCHOP_TEST_DATA to the folder of scans and models')
    path = Path(folder).resolve()
    assert path.is_dir(), f'BRAINCHOP_TEST_DATA names {path}, which is no folder'
    return path
