"""The retrain kit: training imports nothing that the kit does not bring."""

import subprocess
import sys

import pytest

# Dependencies of the package that are not among the wheels of recipes/pack.sh.
ABSENT = ('bids', 'cc3d', 'niworkflows', 'nipype', 'openvino', 'surface_distance', 'yaml')
PROGRAM = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {ABSENT!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import brainchop_bids.cli.train
import brainchop_bids.training.export
import brainchop_bids.training.generate
import brainchop_bids.training.loop
import brainchop_bids.training.page
"""


def test_training_needs_no_other_package() -> None:
    pytest.importorskip('torch', reason='torch is not installed')
    result = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        capture_output=True,
        text=True,
        env={'KERAS_BACKEND': 'torch', 'PATH': ''},
    )
    assert result.returncode == 0, result.stderr
