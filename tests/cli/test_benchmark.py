"""``brainchop-localise --benchmark``: what it measures and writes, with few small frames."""

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainchop_bids.cli import localise
from brainchop_bids.inference.localise import benchmark
from brainchop_bids.models.formats import read_network
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.models.networks import write_localiser

load_tensorflow()


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_localiser(tmp_path_factory.mktemp('models') / 'finder')


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """800 frames of 512 x 512 take half a gigabyte, and seconds."""
    monkeypatch.setattr(benchmark.time_engines, '__defaults__', ((1, 3),))
    monkeypatch.setattr(benchmark.time_shrinking, '__defaults__', (5, 96))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file, delimiter='\t'))


def test_table_and_charts(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    scan = tmp_path / 'scan.nii.gz'
    data = np.random.default_rng(0).integers(0, 99, (20, 24, 28), np.int16)
    nib.Nifti1Image(data, np.diag([4, 4, 4, 1])).to_filename(scan)
    command = ['--model', str(folder), '--benchmark', str(out), '--omp-nthreads', '1', str(scan)]
    assert localise.main(command) == 0
    said = capsys.readouterr()
    found = rows(out / 'benchmark.tsv')
    network = [row for row in found if row['step'] == 'network']
    engines = list(dict.fromkeys(row['engine'].rpartition(' ')[0] for row in network))
    assert engines == ['OpenVINO', 'ONNX Runtime', 'TensorFlow']
    assert [row['frames'] for row in network] == ['1', '3'] * 3
    table = [line.split()[0] for line in said.out.splitlines()]
    assert table[1:4] == ['frames', '1', '3']
    others = [row['step'] for row in found if row['step'] != 'network']
    assert others == ['read the scan', 'localise in it', 'shrink', 'shrink and network']
    for row in found:
        assert float(row['seconds']) > 0
        each = float(row['seconds']) / int(row['frames'])
        assert float(row['seconds_per_frame']) == pytest.approx(each, abs=1e-6)
        assert row['step'] != 'network' or row['engine'] in said.out
    for name in ('seconds.png', 'seconds_per_frame.png'):
        picture = Image.open(out / name)
        assert picture.format == 'PNG'
        # Three lines of different colours, beside axes and grid in grey.
        pixels = np.asarray(picture.convert('RGB')).reshape(-1, 3).astype(int)
        assert len(np.unique(pixels[np.ptp(pixels, 1) > 100], axis=0)) >= 3


def test_engines_that_are_not_installed_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None makes their import fail.
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    frames = benchmark.frames_of(None, (1, 1, 1), 1)
    timing, *left_out = benchmark.time_engines(read_network(folder)[0], frames, 1, (2,))
    assert isinstance(timing, benchmark.Timing)
    assert (timing.engine.partition(' ')[0], timing.frames) == ('OpenVINO', 2)
    for line, name in zip(left_out, ('ONNX Runtime', 'TensorFlow'), strict=True):
        assert str(line).startswith(f'{name} is left out: ')


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ([], 'no scan given'),
        (['--benchmark', 'out', 'a.nii', 'b.nii'], 'one scan at most'),
        (['--benchmark', 'out', '--json', 'x.json'], 'no --json'),
    ],
)
def test_commands_that_make_no_sense(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert localise.main(given) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
