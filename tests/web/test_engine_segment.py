"""Whole scans in the browser's engine, against ``brainchop-segment`` and ``-localise``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.models.formats.web_manifest import write_model
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from tests.browser import NpmPackages
from tests.web.engine import EngineError, ask

PUMI = 'data/pumi-minitest/sub-001/anat/sub-001_T1w.nii.gz'
HEAD = 'data/ds000011/sub-02/anat/sub-02_T1w.nii.gz'
MODELS = ('tissue', 'aseg', 'locate-brain')


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the packaged models as the browser has them."""
    folder = tmp_path_factory.mktemp('models')
    for name in MODELS:
        (folder / name).mkdir()
        write_model(load_spec(find_model(name)), folder / name)
    return folder


def command(*arguments: object) -> None:
    program = [sys.executable, '-m', *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def images(folder: Path) -> dict[str, Path]:
    return {name: folder / f'{name}.nii.gz' for name in ('labels', 'mask')}


def differ(path: Path, other: Path) -> float:
    """Return the share of voxels that differ, after a check of the grids."""
    one, two = nib.load(path), nib.load(other)
    np.testing.assert_array_equal(one.affine, two.affine)
    for key in ('sform_code', 'qform_code', 'pixdim', 'xyzt_units', 'intent_code', 'datatype'):
        np.testing.assert_array_equal(one.header[key], two.header[key])
    return float(np.mean(np.asarray(one.dataobj) != np.asarray(two.dataobj)))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['tissue', 'aseg'])
@pytest.mark.parametrize('scan', [PUMI, HEAD])
def test_equal_to_brainchop_segment(
    shared: Path, models: Path, npm_packages: NpmPackages, tmp_path: Path, scan: str, name: str
) -> None:
    modules = npm_packages('onnxruntime-web@1.30.0')
    theirs = tmp_path / 'theirs.nii.gz'
    command(
        'brainchop_bids.cli.segment', shared / scan, theirs, '--model', name,
        '--mask', tmp_path / 'theirs_mask.nii.gz', '--volumes', tmp_path / 'theirs.tsv',
    )  # fmt: skip
    out = images(tmp_path)
    found = ask(
        'segment', scan={'path': shared / scan}, model=models / name, threads=2,
        localiser=models / 'locate-brain', modules=modules, out=out,
    )  # fmt: skip
    assert differ(out['labels'], theirs) <= 1e-4
    assert differ(out['mask'], tmp_path / 'theirs_mask.nii.gz') <= 1e-4
    rows = [line.split('\t') for line in (tmp_path / 'theirs.tsv').read_text().splitlines()[1:]]
    volumes = {index: float(volume) / 1000 for index, _, _, volume, _ in rows}
    for one in found['volumes']:
        assert one['mL'] == pytest.approx(volumes[str(one['index'])], rel=1e-3, abs=0.02)
    order = ['read', 'localise', 'conform', 'network', 'components', 'resample']
    assert found['steps'] == order
    assert [*found['seconds']] == [*order, 'total']
    assert found['peak'] < 2000  # MB


@pytest.mark.parametrize('scan', [PUMI, pytest.param(HEAD, marks=pytest.mark.slow)])
def test_equal_to_brainchop_localise(
    shared: Path, models: Path, npm_packages: NpmPackages, tmp_path: Path, scan: str
) -> None:
    modules = npm_packages('onnxruntime-web@1.30.0')
    command('brainchop_bids.cli.localise', shared / scan, '--json', tmp_path / 'theirs.json')
    theirs: Any = json.loads((tmp_path / 'theirs.json').read_text())
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    found = ask(
        'localise', scan={'path': shared / scan}, localiser=models / 'locate-brain',
        modules=modules,
    )  # fmt: skip
    ends = [[axis['first'], axis['last']] for axis in theirs['axes']]
    np.testing.assert_allclose(found['BoxVoxels'], ends, atol=1)
    assert found['Certainty'] == pytest.approx(theirs['certainty'], abs=0.01)
    assert found['Orientation']['Seen'] == ''.join(theirs['orientation']['seen'])


def test_cancelled(shared: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        ask(
            'segment', scan={'path': shared / PUMI}, model=models / 'tissue', threads=2,
            cancel=True, out=images(tmp_path),
        )  # fmt: skip
    assert error.value.args[0] == 'AbortError'
    assert not images(tmp_path)['labels'].exists()


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'labels': []}, 'no list of labels'),
        ({'components': 'most'}, 'component rule'),
        ({'normalization': 'best'}, 'is not understood'),
        ({'task': 'localise'}, 'labels no voxels'),
    ],
)
def test_manifests_that_are_wrong(
    shared: Path, models: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    content = json.loads((models / 'tissue' / 'manifest.json').read_text())
    (tmp_path / 'manifest.json').write_text(json.dumps({**content, **changes}))
    (tmp_path / 'model.onnx').write_bytes((models / 'tissue' / 'model.onnx').read_bytes())
    with pytest.raises(EngineError, match=said) as error:
        ask(
            'segment', scan={'path': shared / PUMI}, model=tmp_path, threads=1,
            out=images(tmp_path),
        )  # fmt: skip
    assert error.value.args[0] == 'UserError'
    assert error.value.args[1].startswith('tissue: ')
