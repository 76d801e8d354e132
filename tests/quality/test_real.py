"""The default model on a real scan, whole and broken, through the BIDS App."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.test_run import check_valid, run

GOOD = ('sub-01', 'sub-02', 'sub-03', 'sub-04', 'sub-05', 'sub-06')
SOURCE = 'sub-04'
# A brain of three years has some 1 L, as this one then has: that is no reason for a flag.
EXPECTED = {
    'upsidedown': {'orientation', 'header-orientation', 'not-localised'},
    'half': {'brain-volume', 'asymmetry', 'field-edge'},
    'noise': {'empty-result', 'not-localised'},
    'doubled': set(),
    'stripped': {'skull-stripped'},
    'inverted': {
        'asymmetry',
        'brain-volume',
        'components-removed',
        'grey-white-ratio',
        'intensity-inverted',
        'low-contrast',
        'not-localised',
    },
    'small': set(),
    'cropped': {'field-edge'},
}


def records(out: Path) -> dict[str, dict]:
    """Return the sidecars of labels by participant."""
    paths = out.glob('sub-*/anat/sub-*_seg-tissue_dseg.json')
    return {
        path.parts[-3]: json.loads(path.read_text()) for path in paths if 'space-' not in path.name
    }


def write_broken(root: Path, scan: Path, mask: Path) -> None:
    """Write a dataset of one scan broken in eight ways."""
    image = nib.load(scan)
    data, affine = np.asarray(image.dataobj).astype(np.int32), image.affine
    assert nib.aff2axcodes(affine) == ('L', 'A', 'S')
    brain = np.asarray(nib.load(mask).dataobj) > 0
    places = np.argwhere(brain)
    middle, top = places[:, 0].mean().round().astype(int), np.quantile(places[:, 2], 0.75)
    half = data.copy()
    half[middle:] = 0
    noise = np.abs(np.random.default_rng(0).normal(0, np.median(data[brain]) / 2, data.shape))
    smaller = affine.copy()
    smaller[:3, :3] *= 0.88
    made = {
        'upsidedown': (data[:, :, ::-1], affine),
        'half': (half, affine),
        'noise': (noise, affine),
        'doubled': (2 * data, affine),
        'stripped': (data * brain, affine),
        'inverted': (data.max() - data, affine),
        'small': (data, smaller),
        'cropped': (data[:, :, : int(top)], affine),
    }
    for name, (values, placed) in made.items():
        path = root / f'sub-{name}' / 'anat' / f'sub-{name}_T1w.nii.gz'
        path.parent.mkdir(parents=True)
        nib.Nifti1Image(values.astype(np.int16), placed).to_filename(path)
    (root / 'dataset_description.json').write_text('{"Name": "broken", "BIDSVersion": "1.10.0"}')


def test_good_scans_have_measures_and_no_untrue_flags(real_derivatives: Path) -> None:
    found = records(real_derivatives)
    flags = {name: [flag['Name'] for flag in record['Flags']] for name, record in found.items()}
    assert flags == {
        **{name: [] for name in (*GOOD, 'sub-pumi', 'sub-fnndsc', 'sub-studyforrest')},
        # Its labels are there, its skull is not.
        'sub-voxelmorph': ['skull-stripped'],
    }
    for record in found.values():
        measures = record['Measures']
        assert 0.4 < measures['cjv'] < 1
        assert 1.5 < measures['fwhm_avg'] < 7
        assert measures['icvs_gm'] > measures['icvs_wm'] > measures['icvs_csf'] > 0.05
        assert 0 < record['Seconds']['quality'] < 30
    assert 20 < found[SOURCE]['Measures']['snrd_wm'] < 45
    check_valid(real_derivatives)


@pytest.mark.slow
def test_broken_scans_and_their_flags(
    shared: Path, real_derivatives: Path, tmp_path: Path
) -> None:
    anat = Path(SOURCE) / 'anat'
    scan = shared / 'data' / 'ds000011' / anat / f'{SOURCE}_T1w.nii.gz'
    write_broken(
        tmp_path / 'bids', scan, real_derivatives / anat / f'{SOURCE}_desc-brain_mask.nii.gz'
    )
    out = tmp_path / 'out'
    done = run(tmp_path / 'bids', out, 'participant', '-w', tmp_path / 'work', cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(out)
    flags = {name: {flag['Name'] for flag in found[f'sub-{name}']['Flags']} for name in EXPECTED}
    assert flags == EXPECTED
    for record in found.values():
        for flag in record['Flags']:
            assert set(flag) == {'Name', 'Value', 'Reason'}
            assert flag['Reason'].endswith('.')
    # Twice as bright is the same scan, and only the voxels of a smaller one are smaller.
    good = records(real_derivatives)[SOURCE]['Measures']
    assert found['sub-doubled']['Measures'] == pytest.approx(good, rel=1e-4)
    assert found['sub-small']['BrainVolume'] < 1.2e6
    assert 'snrd_wm' not in found['sub-stripped']['Measures']
    check_valid(out)
