"""Networks run in Node."""

import subprocess
from pathlib import Path

import numpy as np


def run_node(script: str, node_modules: Path, model: Path, given: np.ndarray) -> np.ndarray:
    """Return what a script beside this file computes with a model, as a flat float32 array."""
    folder = model if model.is_dir() else model.parent
    files = [folder / 'input.raw', folder / 'output.raw']
    given.astype('<f4').tofile(files[0])
    command = ['node', Path(__file__).with_name(script), node_modules, model, *files, *given.shape]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.fromfile(files[1], '<f4')
