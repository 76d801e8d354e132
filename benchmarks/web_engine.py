"""Seconds and memory of the browser app's engine in Node, beside its peers.

    npm install onnxruntime-web @tensorflow/tfjs @tensorflow/tfjs-backend-wasm
    python benchmarks/web_engine.py node_modules SCAN [SCAN ...]

Prints two Markdown tables: each network on one cube of voxels, by our own code, by ONNX Runtime
Web and by TensorFlow.js, all as WebAssembly; and whole scans, beside ``brainchop-segment``. On a
machine that does other work, seconds of CPU compare better than seconds.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import run

from brainchop_bids.models.convert import write_network
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.formats.web_manifest import write_model
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model

SCRIPT = Path(__file__).with_name('web_engine.mjs')
MODELS = ('tissue', 'aseg')
# Chromium has fused multiplication and addition since version 114, Node 20 behind this flag.
FUSED = '--experimental-wasm-relaxed-simd'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('modules', type=Path, help='node_modules with the three packages')
    parser.add_argument('scans', type=Path, nargs='*')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--side', type=int, default=96, help='voxels along a side of the cube')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='brainchop-web-') as name:
        folder = Path(name)
        prepare(folder)
        print(f'| network | runtime | s, {options.side}^3 | CPU s | GFLOP/s of CPU | peak MB |')
        print('|---|---|---|---|---|---|')
        for model in MODELS:
            for runtime in ('ours', 'onnxruntime-web', 'tfjs'):
                found = node(options, 'cube', runtime, folder / model, options.side)
                speed = found['gflop'] / found['cpu']
                print(f'| {model} | {runtime} | {figures(found, f"{speed:.1f}")} |', flush=True)
        print('\n| scan | network | program | s | CPU s | network s | peak MB |')
        print('|---|---|---|---|---|---|---|')
        for scan in options.scans:
            for model in MODELS:
                found = node(options, 'scan', 'ours', folder / model, scan.resolve())
                parts = f'{found["parts"]["network"]:.1f}'
                print(f'| {scan.name} | {model} | page | {figures(found, parts)} |', flush=True)
                found = ours(scan, model, options.threads, folder)
                print(f'| {scan.name} | {model} | brainchop-segment | {figures(found, "")} |')


def figures(found: dict[str, Any], more: str) -> str:
    """Return the cells of a row."""
    return f'{found["seconds"]:.1f} | {found["cpu"]:.1f} | {more} | {found["peak_mb"]:.0f}'


def prepare(folder: Path) -> None:
    """Write the models, for the engine and for TensorFlow.js."""
    for name in (*MODELS, 'locate-brain'):
        spec = load_spec(find_model(name))
        (folder / name).mkdir()
        write_model(spec, folder / name)
        tfjs = folder / f'{name}-tfjs'
        tfjs.mkdir()
        write_network(read_network(spec.folder)[0], 'tfjs', tfjs)


def node(
    options: argparse.Namespace, what: str, runtime: str, model: Path, given: object
) -> dict[str, Any]:
    """Run one measurement in Node."""
    program = shutil.which('node')
    if program is None:
        raise SystemExit('node: not found; install Node 20 or later')
    command = [program, FUSED, SCRIPT, what, runtime, model, given, options.threads]
    command = [str(part) for part in (*command, options.modules.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'{" ".join(command)}\n{done.stderr[-2000:]}')
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(scan: Path, model: str, threads: int, folder: Path) -> dict[str, Any]:
    """Run ``brainchop-segment``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', str(scan)]
    command += [str(out / 'labels.nii.gz'), '--model', model, '--omp-nthreads', str(threads)]
    command += ['--mask', str(out / 'mask.nii.gz')]
    peak = run(command).peak_mb
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {'seconds': time.perf_counter() - start, 'cpu': cpu, 'peak_mb': peak}


if __name__ == '__main__':
    main()
