"""Scans of the corpus: what is said about each, and what it takes."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.segment import main
from brainchop_bids.image.conform import ConformOptions, to_uint8
from brainchop_bids.image.io import read_volume, save_nifti
from brainchop_bids.inference.stages import read_scan
from brainchop_bids.system.errors import InputError, MemoryLimitError
from brainchop_bids.system.resources import Granted
from tests.builders import write_model, write_scan
from tests.corpus import scans
from tests.corpus.scans import MENDED, REFUSED, Case

MEASURE = """
import sys
from brainchop_bids.inference.stages import read_scan
from brainchop_bids.system.errors import BrainchopError
from brainchop_bids.system.resources import peak_mb
for path in sys.argv[1:]:
    try:
        read_scan(path)
    except BrainchopError:
        pass
    print(peak_mb())
"""


@pytest.mark.parametrize('case', REFUSED, ids=lambda case: case.name)
def test_it_is_refused_in_one_line(tmp_path: Path, case: Case) -> None:
    path = case.write(tmp_path)
    with pytest.raises(InputError) as error:
        read_scan(path)
    message = str(error.value)
    assert message.startswith(f'{path.with_suffix("")}.')
    assert all(words in message for words in case.says), message
    found, advice = message.rsplit('; ', 1)
    assert len(found) < 400
    assert advice.split()[0] in {'correct', 'fetch', 'convert', 'check', 'give'}


@pytest.mark.parametrize('case', MENDED, ids=lambda case: case.name)
def test_it_is_read_as_if_nothing_were_wrong(tmp_path: Path, case: Case) -> None:
    good = read_scan(scans.scan(tmp_path, 'good.nii.gz'))
    assert good.warnings == ()
    volume = read_scan(case.write(tmp_path))
    [warning] = volume.warnings
    assert all(words in warning for words in case.says), warning
    assert volume.geometry.matches(good.geometry)
    # What the network sees is the same, even where a power of two was taken out.
    np.testing.assert_array_equal(to_uint8(volume.data)[0], to_uint8(good.data)[0])


def test_memory_is_that_of_the_header_not_of_the_file(tmp_path: Path) -> None:
    made = [scans.scan(tmp_path, 'good.nii.gz')]
    for write in (scans.bomb, scans.dimensions_that_wrap, scans.thick_voxels):
        folder = tmp_path / write.__name__
        folder.mkdir()
        made.append(write(folder))
    done = subprocess.run(
        [sys.executable, '-c', MEASURE, *map(str, made)],
        check=True,
        capture_output=True,
        text=True,
    )
    peaks = [float(line) for line in done.stdout.split()]
    assert len(peaks) == 4
    assert max(peaks) < peaks[0] + 16


def test_a_few_outliers_are_left_out_rather_than_all_scaled(tmp_path: Path) -> None:
    data = scans.DATA.astype(np.float64)
    data[:3, 0, 0] = 1e300
    volume = read_volume(scans.scan(tmp_path, data=data))
    assert volume.warnings == ('3 values beyond 8.5e+37, too large for float32, became 0',)
    data[:3, 0, 0] = 0
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))


def test_what_is_made_of_a_mended_scan_is_not_damaged(tmp_path: Path) -> None:
    for write in (scans.no_thickness, scans.sform_of_zeros, scans.no_frames):
        path = write(tmp_path)
        made = nib.Nifti1Image.from_filename(
            save_nifti(tmp_path / 'labels.nii', scans.DATA, like=path)
        )
        np.testing.assert_allclose(made.affine, scans.AFFINE, atol=1e-4)
        np.testing.assert_allclose(made.header.get_zooms(), 8, atol=1e-5)


def test_a_large_field_of_view_is_counted_before_it_is_conformed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scan(tmp_path / 'T1w.nii.gz', scans.DATA, 28.0)  # 784 mm
    with pytest.raises(MemoryLimitError, match=r'needs 0\.6 GB.* granted are 0\.5 GB \(--mem\)'):
        read_scan(path, memory=Granted(0.5, '--mem'))
    assert read_scan(path, memory=Granted(0.7, '--mem')).data.shape == scans.SHAPE
    # Not where the grid is small whatever the field of view.
    small = ConformOptions(voxel_size=4)
    assert read_scan(path, options=small, memory=Granted(0.5, '--mem')).data.any()
    model = write_model(tmp_path / 'model')
    arguments = [path, tmp_path / 'out.nii', '--model', model, '--mem', '500M']
    assert main([str(argument) for argument in arguments]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f'brainchop-segment: error: {path}: needs 0.6 GB of memory to be read')
    assert line.endswith('grant more, or resample the scan')
    assert not (tmp_path / 'out.nii').exists()
