"""The scripts in examples/, run as their users run them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.segment import main as segment
from tests.builders import head, write_dataset, write_model, write_scan

EXAMPLES = Path(__file__).parents[1] / 'examples'
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs an example in a folder of its own, with a Nipype that looks often."""
    config = tmp_path / 'nipype'
    config.mkdir()
    (config / 'nipype.cfg').write_text('[execution]\npoll_sleep_duration = 0.05\n')

    def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        # The scripts must find this very package.
        paths = [str(EXAMPLES.parent), os.environ.get('PYTHONPATH', '')]
        environment = {
            **os.environ,
            'NIPYPE_CONFIG_DIR': str(config),
            'NO_ET': '1',
            'PYTHONPATH': os.pathsep.join(filter(None, paths)),
        }
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run_example


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def segmented(scan: Path, model: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return labels, mask and volumes as brainchop-segment makes them, with no pipeline."""
    folder.mkdir(parents=True)
    dseg, mask, volumes = (folder / name for name in ('dseg.nii', 'mask.nii', 'volumes.tsv'))
    arguments = [scan, dseg, '--model', model, '--mask', mask, '--volumes', volumes]
    assert segment([str(argument) for argument in arguments]) == 0
    return read(dseg), read(mask), volumes.read_text()


def check(found: Path, scan: Path, model: Path, folder: Path) -> None:
    dseg, mask, volumes = segmented(scan, model, folder)
    assert (dseg > 0).any()
    np.testing.assert_array_equal(read(found / 'dseg.nii'), dseg)
    np.testing.assert_array_equal(read(found / 'brain_mask.nii'), mask)
    assert (found / 'volumes.tsv').read_text() == volumes


def test_behind_a_bias_correction(tmp_path: Path, run: Run) -> None:
    pytest.importorskip('SimpleITK')
    inside = head() > 300
    noise = np.random.default_rng(1).normal(0, 8, inside.shape)
    y = np.linspace(-1, 1, inside.shape[1])[None, :, None]
    biased = np.where(inside, 600 + noise, np.abs(noise)) * np.exp(0.5 * y)
    scan = write_scan(tmp_path / 'T1w.nii.gz', biased.astype(np.int16))
    model = write_model(tmp_path / 'model')
    done = run('after_bias_correction.py', scan, 'out', '--model', model)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / 'out'
    corrected = read(out / 'corrected.nii')
    np.testing.assert_array_equal(nib.load(out / 'corrected.nii').affine, nib.load(scan).affine)

    def spread(data: np.ndarray) -> float:
        return float(data[inside].std() / data[inside].mean())

    assert spread(biased) > 0.15
    assert spread(corrected) < 0.05
    # Of one tissue, and so labelled: what was dark by the field alone is bright now.
    bright = [
        (segmented(path, model, tmp_path / name)[0][inside] == 2).mean()
        for name, path in (('raw', scan), ('corrected', out / 'corrected.nii'))
    ]
    assert bright[0] < 0.8
    assert bright[1] > 0.97
    check(out, out / 'corrected.nii', model, tmp_path / 'alone')


@pytest.mark.parametrize(
    'plugin', [[], ['--plugin', 'MultiProc', '--plugin-args', '{"n_procs": 2}']], ids=str
)
def test_fed_by_a_datagrabber(tmp_path: Path, run: Run, plugin: list[str]) -> None:
    names = [f'sub-{label}/anat/sub-{label}_T1w.nii.gz' for label in ('01', 'b')]
    dataset = write_dataset(tmp_path / 'bids', names)
    (dataset / 'sub-without').mkdir()
    model = write_model(tmp_path / 'model')
    done = run('from_datagrabber.py', dataset, 'out', '--model', model, *plugin)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['sub-01', 'sub-b']
    for name in names:
        subject = name.partition('/')[0]
        check(tmp_path / 'out' / subject, dataset / name, model, tmp_path / 'alone' / subject)


def test_a_datagrabber_is_told_which_scan_of_several(tmp_path: Path, run: Run) -> None:
    names = [f'sub-01/anat/sub-01_run-{number}_T1w.nii.gz' for number in (1, 2)]
    dataset = write_dataset(tmp_path / 'bids', names)
    done = run('from_datagrabber.py', dataset, 'out')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('sub-01: 2 scans fit')
    done = run('from_datagrabber.py', dataset, 'out', '--pattern', 'sub-%s/func/*_T1w.nii*')
    assert 'no scan fits' in done.stderr
    assert not (tmp_path / 'out').exists()


def test_iterated_over_models(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz', head(seed=3))
    folders = tmp_path / 'models'
    write_model(folders / 'first')
    write_model(folders / 'other', classes=2, dilations=(1,))
    (folders / 'other' / 'brainchop.json').write_text('{"components": "none"}')
    # One by its name and one by a path from here, as users give them.
    monkeypatch.setenv('BRAINCHOP_MODELS', str(folders))
    done = run('over_models.py', scan, 'out', '--models', 'first', 'models/other')
    assert done.returncode == 0, done.stdout + done.stderr
    rows = ['model\tindex\tname\tvoxels\tvolume\tconfidence']
    for name in ('first', 'other'):
        dseg, _, volumes = segmented(scan, folders / name, tmp_path / 'alone' / name)
        np.testing.assert_array_equal(read(tmp_path / 'out' / name / 'dseg.nii'), dseg)
        assert (tmp_path / 'out' / name / 'volumes.tsv').read_text() == volumes
        rows += [f'{name}\t{row}' for row in volumes.splitlines()[1:]]
    assert (tmp_path / 'out' / 'volumes_of_all.tsv').read_text().splitlines() == rows


def test_a_changed_model_is_noticed_by_a_pipeline_that_is_run_again(
    tmp_path: Path, run: Run
) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    model = write_model(tmp_path / 'model')
    found = []
    for rule in ('largest', 'largest', 'largest+min:9e6'):
        (model / 'brainchop.json').write_text(f'{{"components": "{rule}"}}')
        done = run('over_models.py', scan, 'out', '--models', model)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(read(tmp_path / 'out' / 'model' / 'dseg.nii').any())
        if len(found) == 2:
            assert 'Cached' in done.stdout + done.stderr
    assert found == [True, True, False]
