"""Trials of readers in a process of their own, where the system sets no limits."""

import time
from pathlib import Path

import pytest

from brainchop_bids.models.formats import trial
from brainchop_bids.system.errors import ModelError

READER = """
import time

def refuse(path):
    from brainchop_bids.system.errors import ModelError
    raise ModelError(f'{path}: is no model')

def crash(path):
    import os
    os.abort()

def take_memory(path):
    kept = bytearray(10) * 70_000_000
    time.sleep(60)

def never_end(path):
    while True:
        pass
"""


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / 'some_readers.py').write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    # What the trial's own process limits itself to is left out.
    monkeypatch.setenv('PRETEND', 'windows')
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parents[1] / 'system' / 'portable'))
    monkeypatch.setattr(trial, 'MAX_BYTES', 0)
    monkeypatch.setattr(trial, '_IMPORT_SECONDS', 1)
    path = tmp_path / 'model.h5'
    path.write_bytes(b'model')
    return path


@pytest.mark.parametrize(
    ('reader', 'why'),
    [
        ('refuse', 'is no model'),
        ('crash', 'does not come to an end'),
        ('take_memory', 'does not come to an end'),
        ('never_end', 'does not come to an end'),
    ],
)
def test_a_trial_ends_whatever_its_reader_does(tried: Path, reader: str, why: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError, match=why):
        trial.try_reading(tried, 'some_readers', reader, seconds=1)
    assert time.monotonic() - begun < 40
