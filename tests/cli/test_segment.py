import gzip
import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainchop_bids import __version__
from brainchop_bids.cli.run import main as app_main
from brainchop_bids.cli.segment import main
from brainchop_bids.image import channels as channels_module
from brainchop_bids.image.io import read_volume
from brainchop_bids.image.smooth import Smoothing, smooth_labels
from brainchop_bids.inference import outputs as outputs_module
from tests.builders import head, write_dataset, write_model, write_scan

AFFINE = np.array([[-1.0, 0, 0, 20], [0, 0, 1, -20], [0, -1, 0, 20], [0, 0, 0, 1]])


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp('models') / 'net')


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path / 'T1w.nii.gz')


def run(capsys, *arguments):
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert captured.out == ''
    return code, captured.err


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_everything_in_the_scans_own_grid(tmp_path, model, scan, capsys):
    out, mask, volumes = (tmp_path / name for name in ('dseg.nii.gz', 'mask.nii.gz', 'v.tsv'))
    probseg, stats = tmp_path / 'p.nii', tmp_path / 's.json'
    outputs = ['--mask', mask, '--volumes', volumes, '--probseg', probseg, '--stats', stats]
    assert run(capsys, scan, out, '--model', model, *outputs, '-v')[0] == 0
    assert files(tmp_path) == [
        'T1w.nii.gz',
        'dseg.nii.gz',
        'mask.nii.gz',
        'p.nii',
        's.json',
        'v.tsv',
    ]
    source, labels = nib.load(scan), nib.load(out)
    np.testing.assert_array_equal(labels.affine, source.affine)
    data = np.asarray(labels.dataobj)
    assert (data.shape, data.dtype) == (source.shape, np.uint8)
    assert labels.header.get_intent()[0] == 'label'
    # The scan is a bright ellipsoid: brighter at one end, air outside.
    assert (data[24, 28, 24], data[45, 28, 24], data[0, 0, 0]) != (0, 0, 0)
    assert data[0, 0, 0] == 0

    rows = [line.split('\t') for line in volumes.read_text().splitlines()]
    assert rows[0] == ['index', 'name', 'voxels', 'volume', 'confidence']
    counts = np.bincount(data.ravel(), minlength=3)
    assert [int(row[2]) for row in rows[1:]] == counts.tolist()
    assert [float(row[3]) for row in rows[1:]] == (counts * 64.0).tolist()

    probabilities = nib.load(probseg)
    np.testing.assert_array_equal(probabilities.affine, source.affine)
    assert (probabilities.shape, probabilities.get_data_dtype()) == ((*data.shape, 3), np.float32)
    values = np.asarray(probabilities.dataobj)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-4)
    assert (values.argmax(-1) == data).mean() > 0.98
    assert np.asarray(nib.load(mask).dataobj)[data > 0].mean() > 0.99

    said = json.loads(stats.read_text())
    assert said['version'] == __version__
    assert said['engine'].split()[0] in ('keras', 'openvino')
    assert said['normalization'] == 'minmax'
    assert said['model']['name'] == 'net'
    assert len(said['model']['sha256']) == 64
    assert said['seconds']['total'] >= said['seconds']['segment'] > 0
    assert said['peak_mb'] > 100
    assert said['components']['rule'] == 'largest'
    assert any('normalisation of its input' in warning for warning in said['warnings'])


@pytest.mark.parametrize(
    'rule', ['largest+open:3', 'per-label+min:20+fill', 'groups:1,2', 'none', 'none+within:2']
)
def test_each_rule_is_told_in_the_stats(tmp_path, model, scan, capsys, rule):
    stats = tmp_path / 'stats.json'
    arguments = (scan, tmp_path / 'out.nii.gz', '--model', model, '--components', rule)
    assert run(capsys, *arguments, '--stats', stats)[0] == 0
    told = json.loads(stats.read_text())['components']
    assert told['rule'] == rule
    assert type(told['removed_voxels']) is int


def test_labels_are_smoothed_as_the_model_has_it(tmp_path, scan, capsys):
    model, labels, stats = write_model(tmp_path / 'net'), {}, tmp_path / 'stats.json'
    rules = {'smooth': {'voxels': 0.9}, 'mask': {'open_mm': 1, 'closing_mm': 2}}
    for name, facts in (('plain', {}), ('smooth', rules)):
        (model / 'brainchop.json').write_text(json.dumps(facts))
        out = tmp_path / f'{name}.nii.gz'
        common = ('--model', model, '--components', 'none', '--space', 'conform')
        assert run(capsys, scan, out, *common, '--stats', stats)[0] == 0
        labels[name] = np.asarray(nib.load(out).dataobj)
    expected = smooth_labels(labels['plain'], Smoothing(0.9))
    assert (expected != labels['plain']).any()
    np.testing.assert_array_equal(labels['smooth'], expected)
    told = json.loads(stats.read_text())
    assert told['smoothing']['voxels'] == 0.9
    assert told['mask'] == {'exclude': [], 'open_mm': 1.0, 'closing_mm': 2.0}


STRUCTURES = ['Unknown', 'Right-Cerebral-White-Matter', 'Left-Cerebral-Cortex']


def name_structures(folder, names=STRUCTURES):
    labels = [{'index': i, 'name': name} for i, name in enumerate(names)]
    (folder / 'brainchop.json').write_text(json.dumps({'labels': labels}))
    return folder


def test_the_border_of_the_mask_is_in_mm(tmp_path, model, capsys):
    """On a grid with voxels of 2.5, 4 and 6 mm, against SciPy's distances."""
    scan = write_scan(tmp_path / 'T1w.nii.gz', head((70, 48, 32)))
    affine = np.diag([-2.5, 4, 6, 1])
    affine[:3, 3] = 87, -96, -96
    nib.Nifti1Image(np.asarray(nib.load(scan).dataobj), affine).to_filename(scan)
    found, facts = {}, {}
    for border in (0.0, 6.5, -4.0):
        mask, brain, stats = (tmp_path / name for name in ('m.nii', 'b.nii', 's.json'))
        outputs = ['--mask', mask, '--brain', brain, '--stats', stats, '--border', border]
        assert run(capsys, scan, tmp_path / 'out.nii', '--model', model, *outputs)[0] == 0
        found[border] = np.asarray(nib.load(mask).dataobj) > 0
        expected = np.where(found[border], nib.load(scan).dataobj, 0)
        np.testing.assert_array_equal(nib.load(brain).dataobj, expected)
        facts[border] = json.loads(stats.read_text())
        assert facts[border].pop('border_mm', 0.0) == border
    plain = found[0.0]
    outwards, inwards = (
        ndimage.distance_transform_edt(side, sampling=(2.5, 4, 6)) for side in (~plain, plain)
    )
    np.testing.assert_array_equal(found[6.5], outwards <= 6.5)
    np.testing.assert_array_equal(found[-4.0], inwards > 4)
    assert 0 < found[-4.0].sum() < plain.sum() < found[6.5].sum()
    # Flags and measures are those of the brain.
    for key in ('flags', 'quality', 'components'):
        assert facts[6.5][key] == facts[-4.0][key] == facts[0.0][key]


@pytest.mark.parametrize(('suffix', 'space'), [('.nii.gz', 'conform'), ('.mgz', 'native')])
def test_freesurfers_format(tmp_path, model, capsys, suffix, space):
    """Images are those of NIfTI, as nibabel reads both."""
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    if suffix == '.mgz':
        image, scan = nib.load(scan), tmp_path / 'T1w.mgz'
        turn = image.affine.copy()
        turn[:3, :3] = 4 * Rotation.from_euler('xyz', [20, 15, 10], degrees=True).as_matrix()
        nib.MGHImage(np.asarray(image.dataobj), turn.astype('f4')).to_filename(scan)
    made = {}
    for kind, ending, volumes in (('nifti', '.nii.gz', '.nii'), ('mgh', '.mgz', '.mgh')):
        names = [tmp_path / f'{kind}_{name}{ending}' for name in ('dseg', 'mask', 'brain')]
        names.append(tmp_path / f'{kind}_p{volumes}')
        out, mask, brain, probseg = names
        options = ['--mask', mask, '--brain', brain, '--space', space]
        if space == 'native':
            options += ['--probseg', probseg]
        else:
            names.remove(probseg)
        assert run(capsys, scan, out, '--model', model, *options)[0] == 0
        made[kind] = [nib.load(name) for name in names]
    for ours, nifti in zip(made['mgh'], made['nifti'], strict=True):
        assert isinstance(ours, nib.MGHImage)
        np.testing.assert_array_equal(ours.dataobj, nifti.dataobj)
        np.testing.assert_allclose(ours.affine, nifti.affine, rtol=0, atol=2e-5)
        assert ours.get_data_dtype() == nifti.get_data_dtype().newbyteorder('>')
    assert np.asarray(made['mgh'][0].dataobj).any()
    if suffix == '.mgz' and space == 'native':
        np.testing.assert_array_equal(made['mgh'][0].affine, nib.load(scan).affine)


@pytest.mark.parametrize('space', ['native', 'conform'])
def test_freesurfers_codes(tmp_path, scan, capsys, space):
    named = name_structures(write_model(tmp_path / 'named'))
    found = []
    for codes in ('model', 'freesurfer'):
        out, table = tmp_path / f'{codes}.nii.gz', tmp_path / f'{codes}.tsv'
        options = ['--space', space, '--label-codes', codes, '--volumes', table]
        assert run(capsys, scan, out, '--model', named, *options)[0] == 0
        rows = [line.split('\t') for line in table.read_text().splitlines()[1:]]
        found.append((np.asarray(nib.load(out).dataobj), rows))
    (own, rows), (coded, coded_rows) = found
    np.testing.assert_array_equal(coded, np.choose(own, [0, 41, 3]))
    assert [row[0] for row in coded_rows] == ['0', '3', '41']
    assert sorted(row[1:] for row in rows) == sorted(row[1:] for row in coded_rows)


@pytest.mark.parametrize('space', ['native', 'conform'])
def test_tissues_and_intracranial_volume_of_structures(tmp_path, scan, capsys, space):
    names = ['Unknown', 'CSF', 'Left-Cerebral-White-Matter']
    model = name_structures(write_model(tmp_path / 'named'), names)
    facts = json.loads((model / 'brainchop.json').read_text())
    facts |= {'derived': {'tissue': 'aseg_to_tissue'}, 'mask': {'exclude': [1]}}
    (model / 'brainchop.json').write_text(json.dumps(facts))
    out, tissue, stats = (tmp_path / name for name in ('out.nii', 'tissue.nii.gz', 's.json'))
    options = ['--model', model, '--space', space, '--label-codes', 'freesurfer']
    options += ['--derived', f'tissue={tissue}', '--stats', stats]
    assert run(capsys, scan, out, *options)[0] == 0
    codes, found = nib.load(out), nib.load(tissue)
    labels = np.asarray(codes.dataobj)
    assert set(np.unique(labels)) == {0, 2, 24}
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.dataobj, np.choose(labels // 2, [0, 2] + [3] * 11))
    np.testing.assert_array_equal(found.affine, codes.affine)
    if space == 'conform':
        # One component already; voxels of 1 mm.
        filled = np.count_nonzero(ndimage.binary_fill_holes(labels))
        told = json.loads(stats.read_text())
        assert told['intracranial_mm3'] == filled
        assert told['brain_measures'] == {
            'lhCerebralWhiteMatter': np.count_nonzero(labels == 2),
            'EstimatedTotalIntraCranialVol': filled,
        }
        assert filled > 1.02 * np.count_nonzero(labels == 2)

    code, error = run(capsys, scan, out, '--model', model, '--derived', f'lobes={tissue}')
    assert code == 2
    assert "no 'lobes' follows from its labels; --derived can be: tissue" in error
    assert error.count('\n') == 1


def test_labels_without_a_code(tmp_path, scan, capsys):
    named = name_structures(write_model(tmp_path / 'named'), ['Unknown', 'Amygdala', 'Lesion'])
    options = ['--model', named, '--label-codes', 'freesurfer']
    out, own = tmp_path / 'out.nii.gz', tmp_path / 'own.nii.gz'
    for path, given in ((out, options), (own, options[:2])):
        code, error = run(capsys, scan, path, *given)
        assert code == 0, error
    indices = np.asarray(nib.load(own).dataobj)
    assert set(np.unique(indices)) == {0, 1, 2}
    expected = np.choose(indices, [0, 30001, 30002])
    np.testing.assert_array_equal(nib.load(out).dataobj, expected)


@pytest.mark.parametrize('kind', ['int16', 'float32', 'scaled'])
def test_the_scan_without_its_skull(tmp_path, model, capsys, kind):
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    image = nib.load(scan)
    if kind == 'scaled':
        image.header.set_slope_inter(0.25, 3)
        nib.Nifti1Image(
            np.asarray(image.dataobj) * 0.25 + 3, image.affine, image.header
        ).to_filename(scan)
    elif kind == 'float32':
        nib.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine).to_filename(scan)
    brain, mask = tmp_path / 'brain.nii.gz', tmp_path / 'mask.nii.gz'
    options = ['--model', model, '--brain', brain, '--mask', mask]
    assert run(capsys, scan, tmp_path / 'out.nii.gz', *options)[0] == 0
    source, found = nib.load(scan), nib.load(brain)
    inside = np.asarray(nib.load(mask).dataobj) > 0
    assert 0.1 < inside.mean() < 0.9
    np.testing.assert_array_equal(found.affine, source.affine)
    expected = np.where(inside, source.get_fdata(dtype=np.float32), 0)
    np.testing.assert_allclose(found.get_fdata(dtype=np.float32), expected, rtol=1e-6)
    if kind != 'scaled':
        assert found.get_data_dtype() == kind


def test_two_channels(tmp_path, model, scan, capsys):
    """A network that looks at the second scan alone, which has a grid of its own."""
    pair = write_model(tmp_path / 'pair', in_channels=2)
    image = nib.load(scan)
    values = np.asarray(image.dataobj)
    values[20:] //= 2
    t2w, part = tmp_path / 'T2w.nii.gz', tmp_path / 'part.nii.gz'
    nib.Nifti1Image(values, image.affine).to_filename(t2w)
    moved = image.affine.copy()
    moved[:3, 3] += image.affine[:3, :3] @ (2, 3, 1)
    nib.Nifti1Image(values[2:-2, 3:, 1:-3], moved).to_filename(part)
    found = []
    for network, t1w, more in (
        (model, t2w, ()),
        (pair, scan, ('--channel', t2w)),
        (pair, scan, ('--channel', part)),
    ):
        out = tmp_path / f'{len(found)}.nii.gz'
        assert run(capsys, t1w, out, '--model', network, *more)[0] == 0
        found.append(np.asarray(nib.load(out).dataobj))
    np.testing.assert_array_equal(found[1], found[0])
    inside = (slice(4, -4), slice(5, -2), slice(3, -5))
    # Its window of intensities is that of its own field of view.
    assert (found[2][inside] == found[0][inside]).mean() > 0.99
    code, error = run(capsys, scan, tmp_path / 'none.nii.gz', '--model', pair)
    assert (code, error.count('\n')) == (2, 1)
    assert 'takes 2 scans (T1w, T2w); given are 1' in error
    far = moved.copy()
    far[0, 3] += 9000
    nib.Nifti1Image(values, far).to_filename(t2w)
    code, error = run(capsys, scan, tmp_path / 'far.nii.gz', '--model', pair, '--channel', t2w)
    assert (code, error.count('\n')) == (1, 1)
    assert f'{t2w}: has nothing where' in error


def test_labels_that_cover_no_brain_make_no_mask(tmp_path, scan, capsys):
    partial = write_model(tmp_path / 'partial')
    (partial / 'brainchop.json').write_text('{"mask": null}')
    arguments = (scan, tmp_path / 'out.nii.gz', '--model', partial)
    code, error = run(capsys, *arguments, '--mask', tmp_path / 'mask.nii.gz')
    assert (code, error.count('\n')) == (2, 1)
    assert 'cover no whole brain' in error
    assert run(capsys, *arguments)[0] == 0


def test_the_conformed_grid(tmp_path, model, scan, capsys):
    out, probseg = tmp_path / 'dseg.nii', tmp_path / 'p.nii'
    code, told = run(
        capsys, scan, out, '--model', 'net', '--models-dir', model.parent,
        '--space', 'conform', '--components', 'none', '--probseg', probseg,
        '--normalization', 'quantile:0.02:0.98:clip', '--voxel-size', '4', '--omp-nthreads', '1',
    )  # fmt: skip
    assert code == 0
    image = nib.load(out)
    assert nib.aff2axcodes(image.affine) == tuple('LIA')
    assert (image.shape, image.header.get_zooms()) == ((256,) * 3, (4.0,) * 3)
    probabilities = nib.load(probseg)
    np.testing.assert_array_equal(probabilities.affine, image.affine)
    values = np.asarray(probabilities.dataobj[100:156, 100:156, 100:156])
    np.testing.assert_array_equal(values.argmax(-1), image.dataobj[100:156, 100:156, 100:156])
    # Nothing had to be assumed of the model: its normalisation was given.
    assert 'normalisation of its input' not in told


def test_a_conformed_scan_is_taken_as_it_is(tmp_path, model, capsys, monkeypatch):
    data = np.random.default_rng(0).integers(0, 256, (256, 256, 256), dtype=np.uint8)
    data[:40] = 0
    path = tmp_path / 'orig.nii'
    affine = AFFINE.copy()
    affine[:3, 3] = 128, -128, 128
    nib.Nifti1Image(data, affine).to_filename(path)
    seen = []
    genuine = channels_module.conform

    def watched(volume, *arguments, **options):
        seen.append(genuine(volume, *arguments, **options))
        return seen[-1]

    monkeypatch.setattr(channels_module, 'conform', watched)
    out = tmp_path / 'dseg.nii'
    assert run(capsys, path, out, '--model', model, '--components', 'none')[0] == 0
    assert seen[0].unchanged
    np.testing.assert_array_equal(seen[0].data, data)
    assert not np.asarray(nib.load(out).dataobj)[:40].any()


def test_one_frame_of_several(tmp_path, model, capsys):
    frames = np.random.default_rng(0).integers(1, 900, (9, 8, 7, 3)).astype(np.int16)
    path = write_scan(tmp_path / 'bold.nii', frames)
    code, told = run(capsys, path, tmp_path / 'o.nii', '--model', model)
    assert code == 1
    assert '--frame' in told
    options = ['--voxel-size', '4', '--frame', '2']
    assert run(capsys, path, tmp_path / 'o.nii', '--model', model, *options)[0] == 0
    assert nib.load(tmp_path / 'o.nii').shape == (9, 8, 7)


def bad_scans(folder):
    """Write each kind of scan that cannot be segmented; yield its path."""
    folder.mkdir()
    good = nib.Nifti1Image(np.arange(720, dtype=np.int16).reshape(9, 10, 8), np.diag([9, 9, 9, 1]))
    good.to_filename(folder / 'good.nii.gz')
    content = (folder / 'good.nii.gz').read_bytes()
    (folder / 'good.nii.gz').unlink()
    (folder / 'truncated.nii.gz').write_bytes(content[: len(content) // 2])
    (folder / 'text.nii.gz').write_text('this is no image')
    (folder / 'zipped_text.nii.gz').write_bytes(gzip.compress(b'this is no image either'))
    (folder / 'empty.nii').write_bytes(b'')
    kinds = {
        'zeros': np.zeros((9, 10, 8), np.int16),
        'constant': np.full((9, 10, 8), 7, np.int16),
        'complex': np.ones((9, 10, 8), np.complex64),
        'slice': np.ones((9, 10), np.int16),
    }
    for name, data in kinds.items():
        nib.Nifti1Image(data, np.diag([9, 9, 9, 1])).to_filename(folder / f'{name}.nii.gz')
    singular = nib.Nifti1Header()
    singular.set_data_shape((9, 10, 8))
    singular['sform_code'] = 1
    singular['srow_x'] = singular['srow_y'] = 1, 0, 0, 0
    image = nib.Nifti1Image(np.arange(720).reshape(9, 10, 8).astype(np.int16), None, singular)
    image.to_filename(folder / 'singular.nii.gz')
    (folder / 'loop.nii.gz').symlink_to('loop.nii.gz')
    return [*folder.iterdir(), folder / 'missing.nii.gz']


def test_scans_that_cannot_be_segmented(tmp_path, model, capsys):
    outputs = tmp_path / 'out'
    outputs.mkdir()
    scans = bad_scans(tmp_path / 'bad')
    assert len(scans) == 11
    for path in scans:
        code, told = run(capsys, path, outputs / 'dseg.nii.gz', '--model', model)
        lines = told.splitlines()
        assert (code, len(lines)) == (1, 1), (path, told)
        assert lines[0].startswith('brainchop-segment: error: ')
        assert str(path) in lines[0]
        assert files(outputs) == []


@pytest.mark.parametrize(
    ('options', 'found'),
    [
        (['--model', 'nowhere'], 'no such model folder'),
        (['--normalization', 'median'], 'median'),
        (['--voxel-size', '-1'], 'voxel size'),
        (['--probseg', 'p.nii.gz'], 'uncompressed'),
        (['--mask', 'mask.png'], 'no NIfTI name'),
        (['--mask', 'missing/mask.nii'], 'folder does not exist'),
        (['--mask', 'dseg.nii'], 'different names'),
        (['--stats', 'T1w.nii.gz'], 'different names'),
        (['--volumes', '.'], 'is a folder'),
        (['--border', '2'], 'add --mask or --brain'),
        (['--border', 'nan', '--mask', 'm.nii'], 'expected -50 to 50 mm'),
        (['--border', 'wide', '--mask', 'm.nii'], 'invalid number of millimetres value'),
    ],
)
def test_usage_errors(tmp_path, model, scan, capsys, monkeypatch, options, found):
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    arguments = ['T1w.nii.gz', 'dseg.nii', '--model', str(model), *options]
    code, told = run(capsys, *arguments)
    assert code == 2
    assert told.startswith('brainchop-segment: error: ')
    assert found in told
    assert len(told.splitlines()) == 1
    assert files(tmp_path) == before


def test_a_damaged_model_is_a_usage_error(tmp_path, scan, capsys):
    folder = write_model(tmp_path / 'net')
    shard = folder / 'weights.bin'
    shard.write_bytes(shard.read_bytes()[:-4])
    code, told = run(capsys, scan, tmp_path / 'dseg.nii', '--model', folder)
    assert code == 2
    assert f'{shard}: weight file has {shard.stat().st_size} bytes' in told


@pytest.mark.parametrize(
    'arguments',
    [[], ['a', 'b', '--frame', '-1'], ['a', 'b', '--voxel-size', '2', '--conform-min']],
)
def test_the_parser_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, model, scan, capsys, monkeypatch):
    """Old results stay, new ones do not appear in part."""
    out = tmp_path / 'dseg.nii.gz'
    out.write_text('the result of an earlier run')

    def full_disk(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(outputs_module, 'tabulate_volumes', full_disk)
    outputs = ['--mask', tmp_path / 'mask.nii', '--volumes', tmp_path / 'v.tsv']
    code, told = run(capsys, scan, out, '--model', model, *outputs)
    assert code == 1
    assert 'v.tsv: cannot be written: No space left on device' in told.splitlines()[-1]
    assert files(tmp_path) == ['T1w.nii.gz', 'dseg.nii.gz']
    assert out.read_text() == 'the result of an earlier run'


def test_memory_that_runs_out_is_one_line(tmp_path, model, scan, capsys, monkeypatch):
    def exhausted(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(channels_module, 'conform', exhausted)
    code, told = run(capsys, scan, tmp_path / 'dseg.nii', '--model', model)
    assert (code, len(told.splitlines())) == (1, 1)
    assert 'memory ran out' in told


def test_help_and_version_are_quick():
    for option, found in (('--help', '--normalization'), ('--version', __version__)):
        start = time.perf_counter()
        command = [sys.executable, '-m', 'brainchop_bids.cli.segment', option]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found in done.stdout
        # Half a second when nothing else runs; a busy machine needs longer.
        assert time.perf_counter() - start < 2


def test_a_whole_head_by_the_command(shared, tmp_path):
    """The counts that upstream's command line gives for this scan and model."""
    scan = shared / 'data' / 't1w' / 'brainchop_t1_crop.nii.gz'
    out, stats = tmp_path / 'dseg.nii.gz', tmp_path / 'stats.json'
    command = [
        sys.executable, '-m', 'brainchop_bids.cli.segment', str(scan), str(out),
        '--model', str(shared / 'models' / 'brainchop' / 'model5_gw_ae'), '--stats', str(stats),
        '--components', 'none', '--normalization', 'quantile:0.02:0.98:clip',
        '--omp-nthreads', '2', '-q',
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    counts = np.bincount(read_volume(out).data.ravel())
    np.testing.assert_allclose(counts[1:], (502_702, 751_235), rtol=1e-3)
    said = json.loads(stats.read_text())
    assert said['warnings'] == []
    assert said['peak_mb'] < 1500


def test_warnings_and_flags_are_those_of_the_app(tmp_path, model, capsys):
    dataset = write_dataset(tmp_path / 'bids', [])
    # Turned, so that labels are interpolated over the edge of what was set to 0; with an outlier.
    data = head((96, 112, 96))
    data[:40] = 0
    data[80, 90, 80] = -32768
    turn = np.eye(4)
    turn[:3, :3] = 1.5 * Rotation.from_euler('xyz', [20, 15, 10], degrees=True).as_matrix()
    turn[:3, 3] = -turn[:3, :3] @ np.array([48, 56, 48])
    scan = dataset / 'sub-01/anat/sub-01_T1w.nii.gz'
    scan.parent.mkdir(parents=True)
    nib.Nifti1Image(data, turn).to_filename(scan)
    out, stats = tmp_path / 'dseg.nii.gz', tmp_path / 's.json'
    code, error = run(capsys, scan, out, '--model', model, '--stats', stats)
    assert code == 0
    app = [dataset, tmp_path / 'out', 'participant', '--model', model, '-w', tmp_path / 'work']
    assert app_main([*map(str, app), '--skip-bids-validation']) == 0
    made = tmp_path / 'out/sub-01/anat/sub-01_seg-net_dseg.nii.gz'
    sidecar = json.loads(made.with_name('sub-01_seg-net_dseg.json').read_text())
    facts = json.loads(stats.read_text())
    assert facts['flags'] == sidecar['Flags']
    assert facts['warnings'] == sidecar['Warnings']
    assert any('1 voxel at -32768' in line for line in facts['warnings'])
    lines = [f'brainchop-segment: warning: {line}' for line in facts['warnings']]
    lines += [f'brainchop-segment: flag: {f["Name"]}: {f["Reason"]}' for f in facts['flags']]
    assert error.splitlines()[1:-1] == lines
    assert 'asymmetry' in {flag['Name'] for flag in facts['flags']}
    labels = np.asarray(nib.load(out).dataobj)
    np.testing.assert_array_equal(labels, np.asarray(nib.load(made).dataobj))
    assert labels.any()
    assert not labels[data == 0].any()
