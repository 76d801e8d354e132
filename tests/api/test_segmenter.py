"""Segmentation in Python: the labels of the command, from paths, images and arrays."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import brainchop_bids as bc
from brainchop_bids.cli.segment import main
from tests.builders import extension_text, write_model, write_scan

ROOT = Path(__file__).parents[2]
POSITION = ('sform_code', 'qform_code', 'srow_x', 'srow_y', 'srow_z', 'pixdim', 'xyzt_units')


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('models') / 'net')


def by_command(folder: Path, scan: Path, *options: object) -> tuple[nib.Nifti1Image, ...]:
    """Return the label image and the mask of the command."""
    out, mask = folder / 'labels.nii.gz', folder / 'mask.nii.gz'
    arguments = [scan, out, '--mask', mask, '--volumes', folder / 'v.tsv', *options]
    assert main(list(map(str, arguments))) == 0
    return nib.load(out), nib.load(mask)


def same(found: nib.Nifti1Image, expected: nib.Nifti1Image) -> None:
    assert type(found) is type(expected)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_array_equal(found.affine, expected.affine)
    for name in (*POSITION, 'datatype', 'intent_code'):
        np.testing.assert_array_equal(found.header[name], expected.header[name])
    texts = [
        [extension_text(extension) for extension in image.header.extensions]
        for image in (found, expected)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize('kind', ['path', 'text', 'image', 'mgh', 'array', 'bool'])
def test_labels_are_those_of_the_command(tmp_path: Path, model: Path, kind: str) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    image = nib.load(scan)
    values, affine = np.asarray(image.dataobj), image.affine
    if kind == 'bool':
        values = values > 400
        scan = tmp_path / 'bool.nii'
        nib.Nifti1Image(values.astype(np.uint8), affine).to_filename(scan)
    if kind == 'mgh':
        image, scan = nib.MGHImage(values, affine), tmp_path / 'T1w.mgz'
        image.to_filename(scan)
    given = {'path': (scan,), 'text': (str(scan),), 'image': (image,), 'mgh': (image,)}
    found = bc.segment(*given.get(kind, (values, affine)), model=model, voxel_size=4)
    labels, mask = by_command(tmp_path, scan, '--model', model, '--voxel-size', '4')
    assert np.asarray(labels.dataobj).any()
    if kind in ('array', 'bool'):
        # The header of an image that was made of them.
        np.testing.assert_array_equal(found.labels.dataobj, labels.dataobj)
        np.testing.assert_array_equal(found.labels.affine, labels.affine)
    else:
        same(found.labels, labels)
        assert found.mask is not None
        same(found.mask, mask)
    rows = [line.split('\t') for line in (tmp_path / 'v.tsv').read_text().splitlines()]
    assert [[str(row[key]) for key in ('index', 'name', 'voxels')] for row in found.volumes] == [
        row[:3] for row in rows[1:]
    ]
    assert found.volumes[1]['volume'] == pytest.approx(found.volumes[1]['voxels'] * 64)
    assert found.facts['model']['name'] == 'net'
    assert found.flags == found.facts['flags']
    assert any('normalisation of its input' in warning for warning in found.warnings)
    assert found.quality['confidence'] == pytest.approx(
        np.mean([row['confidence'] for row in found.volumes if row['confidence'] is not None]),
        abs=1e-4,
    )
    assert [row[4] for row in rows[1:]] == [
        'n/a' if row['confidence'] is None else str(row['confidence']) for row in found.volumes
    ]


def test_options_are_those_of_the_command(tmp_path: Path, model: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    found = bc.segment(
        scan, model='net', models_dir=model.parent, space='conform', components='largest+fill',
        tta=True, border=3, normalization='max', voxel_size=4, label_codes='freesurfer',
        no_scale=True, mem='4G', omp_nthreads=1, roi_subset=['grey matter'],
    )  # fmt: skip
    options = [
        '--model', 'net', '--models-dir', model.parent, '--space', 'conform', '--components',
        'largest+fill', '--tta', '--border', '3', '--normalization', 'max', '--voxel-size', '4',
        '--label-codes', 'freesurfer', '--no-scale', '--mem', '4G', '--omp-nthreads', '1',
        '--roi-subset', 'grey matter',
    ]  # fmt: skip
    labels, mask = by_command(tmp_path, scan, *options)
    same(found.labels, labels)
    assert found.mask is not None
    same(found.mask, mask)
    assert set(np.unique(labels.dataobj)) == {0, 30002}


def test_a_frame_and_channels(tmp_path: Path, model: Path) -> None:
    pair = write_model(tmp_path / 'pair', in_channels=2)
    image = nib.load(write_scan(tmp_path / 'T1w.nii.gz'))
    one = bc.segment(image, model=pair, channels=[image], voxel_size=4)
    np.testing.assert_array_equal(
        one.labels.dataobj, bc.segment(image, model=model, voxel_size=4).labels.dataobj
    )
    frames = np.stack([np.zeros(image.shape, np.int16), np.asarray(image.dataobj)], -1)
    again = bc.segment(frames, image.affine, model, frame=1, voxel_size=4)
    np.testing.assert_array_equal(again.labels.dataobj, one.labels.dataobj)
    with pytest.raises(bc.BrainchopError, match='takes 2 scans'):
        bc.segment(image, model=pair)


def test_a_segmenter_keeps_the_network_until_it_is_closed(tmp_path: Path, model: Path) -> None:
    scan, made = write_scan(tmp_path / 'T1w.nii.gz'), []
    with bc.Segmenter(model, voxel_size=4) as segmenter:
        for _ in range(2):
            made.append(segmenter.segment(scan).facts['seconds']['load'])
            assert segmenter._engines is not None
            made.append(segmenter._engines._last[1])
    assert made[1] is made[3]
    with pytest.raises(bc.BrainchopError, match='is closed'):
        segmenter.segment(scan)


@pytest.mark.parametrize(
    ('arguments', 'options', 'said'),
    [
        (('nothing.nii.gz',), {}, 'nothing.nii.gz: no such file'),
        ((np.ones((4, 4, 4)),), {}, 'the array has no affine'),
        ((np.ones((40, 40, 40)), np.diag([4, 4, 4, 1])), {}, 'every voxel is 1'),
        ((np.ones((4, 4, 4)), np.eye(3)), {}, 'has shape (3, 3); expected (4, 4)'),
        ((np.full((4, 4, 4), 'a'), np.eye(4)), {}, 'which is not known'),
        ((3,), {}, 'int: is no scan'),
        (('a.nii', np.eye(4)), {}, 'affine= is for an array'),
        (('a.nii',), {'modle': 'tissue'}, "no option 'modle'; did you mean model?"),
        (('a.nii',), {'model': 'nowhere'}, 'nowhere: no such model folder'),
        (('a.nii',), {'space': 'mni'}, "space 'mni' is none of native, conform"),
        (('a.nii',), {'components': 'some'}, 'some'),
        (('a.nii',), {'mem': 'much'}, "memory 'much' is no size"),
        (('a.nii',), {'roi_subset': ['Gray Mater']}, 'did you mean Gray Matter?'),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple, options: dict, said: str) -> None:
    with pytest.raises(bc.BrainchopError) as caught:
        bc.segment(*arguments, **options)
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_damaged_image_of_nibabel_is_one_line(tmp_path: Path, model: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    scan.write_bytes(scan.read_bytes()[:9000])
    with pytest.raises(bc.BrainchopError, match=r'T1w\.nii\.gz: cannot be read'):
        bc.segment(nib.load(scan), model=model)


def test_no_file_is_written(tmp_path: Path, model: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    code = """
import sys
written = []
def seen(event, arguments):
    if event == 'open' and any(letter in str(arguments[1]) for letter in 'wxa+'):
        written.append(arguments[0])
    elif event in ('tempfile.mkstemp', 'tempfile.mkdtemp', 'os.mkdir'):
        written.append(arguments[0])
sys.addaudithook(seen)
import brainchop_bids as bc
bc.segment(sys.argv[1], model=sys.argv[2], tta=True, voxel_size=4)
print(sorted({str(path) for path in written if not str(path).startswith(('/dev/', '/proc/'))}))
"""
    command = [sys.executable, '-B', '-c', code, str(scan), str(model)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '[]\n'), done.stderr


def test_importing_takes_milliseconds_and_all_names_are_seen() -> None:
    code = (
        'import sys, time; start = time.process_time(); import brainchop_bids; '
        'print(time.process_time() - start, {"numpy", "nibabel"} & set(sys.modules))'
    )
    told = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    seconds, others = told.stdout.split(maxsplit=1)
    assert float(seconds) < 0.1
    assert others == 'set()\n'
    assert set(bc.__all__) <= set(dir(bc))
    assert all(getattr(bc, name).__name__ == name for name in bc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bc.nothing
    # What type checkers see.
    tree = ast.parse(Path(bc.__file__).read_text('utf-8'))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen == set(bc.__all__)
    assert Path(bc.__file__).with_name('py.typed').exists()


def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / 'README.md').read_text('utf-8')
    section = readme.partition('## In Python\n')[2].partition('\n## ')[0]
    lines = re.findall(r'^    (.*)$', section, re.MULTILINE)
    assert lines[0] == 'import brainchop_bids as bc'
    write_scan(tmp_path / 'T1w.nii.gz')
    monkeypatch.chdir(tmp_path)
    exec('\n'.join(lines), {})  # noqa: S102, our own text
    assert nib.load('labels.nii.gz').shape == nib.load('T1w.nii.gz').shape


def test_a_real_head(shared: Path, tmp_path: Path) -> None:
    scan = shared / 'data' / 'ds000011' / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz'
    found = bc.segment(scan)
    labels, mask = by_command(tmp_path, scan)
    same(found.labels, labels)
    assert found.mask is not None
    same(found.mask, mask)
    assert np.asarray(found.labels.dataobj).any()
    scores = bc.evaluate(found.labels, tmp_path / 'labels.nii.gz', surfaces=False)
    assert [row['dice'] for row in scores] == [1] * 4
    place = bc.localise(scan)
    assert place.box is not None
