"""What a new user may try first: each answer is one line that says what to do."""

import importlib
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainchop_bids.image import dicom
from tests.builders import extension_text, head, write_model, write_scan
from tests.image.test_dicom import write_series


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('models') / 'net')


def run(
    capsys: pytest.CaptureFixture[str], command: str, *arguments: object
) -> tuple[int, str, str]:
    main = importlib.import_module(f'brainchop_bids.cli.{command}').main
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('run T1.nii.gz', 'run brainchop-segment T1.nii.gz OUT.nii.gz'),
        ('run T1.nii.gz -o out.nii.gz', 'run brainchop-segment T1.nii.gz out.nii.gz'),
        ('run -i T1.mgz -o out.nii.gz -m x', 'run brainchop-segment T1.mgz out.nii.gz'),
        ('run T1.nii.gz out.nii.gz', 'run brainchop-segment T1.nii.gz out.nii.gz'),
        ('run T1.nii.gz out participant', 'run brainchop-segment T1.nii.gz OUT.nii.gz'),
        ('run d o participant --modle tissue', 'no option --modle; did you mean --model?'),
        ('run d o participant --modle=tissue', 'no option --modle; did you mean --model?'),
        ('run d o participant --xyzzy', 'no option --xyzzy (help'),
        ('run d o participant --nprocs 0', "--nprocs: expected a whole number from 1 on, not '0'"),
        ('run d o participant --n_cpus x', "--nprocs: expected a whole number from 1 on, not 'x'"),
        ('run d o participant --mem-mb 0', "--mem: memory '0' is no size: give megabytes"),
        ('run d o participant --mem-mb', '--mem: expected one argument, SIZE: maximum memory'),
        ('run d o participant --frame -1', "--frame: expected a whole number from 0 on, not '-1'"),
        ('segment a.nii b.nii --modle tissue', 'no option --modle; did you mean --model?'),
        ('segment a.nii b.nii --borders 2', 'no option --borders; did you mean --border?'),
        ('segment a.nii b.nii --preview b.jpg', 'b.jpg: is no name of a picture'),
        ('segment a.nii b.nii --roi-subset hippo', "no label is called 'hippo'; labels: Gray"),
        ('segment a.nii b.nii -q -v', 'not allowed with argument'),
        ('models lst', "invalid choice: 'lst'"),
        ('models list --jsn', 'no option --jsn; did you mean --json?'),
        ('evaluate a b --maping x', 'no option --maping; did you mean --mapping?'),
        ('localise a --margin -1', "--margin: expected a number of 0 or more, not '-1'"),
        ('train c.toml --plann x', 'no option --plann; did you mean --plan?'),
    ],
)
def test_what_is_said(capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    code, out, error = run(capsys, *line.split())
    assert (code, out, error.count('\n')) == (2, '', 1)
    assert said in error


def test_the_beginning_of_an_option_with_two_spellings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (tmp_path / 'none', tmp_path / 'out', 'participant', '--parti', '01')
    code, _, error = run(capsys, 'run', *line)
    assert code == 2
    assert 'ambiguous' not in error
    assert f'{tmp_path / "none"}' in error
    # Two options, as before.
    code, _, error = run(capsys, 'run', *line[:3], '--bids', 'x')
    assert 'ambiguous option: --bids could match --bids-filter-file, --bids-database-dir' in error


@pytest.mark.parametrize('kind', ['folder', 'slice', 'many'])
def test_dicom_is_segmented(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    series = tmp_path / 'series'
    write_series(series, head((240, 180, 72)))
    with dicom.as_nifti(series) as path:
        nib.load(path).to_filename(tmp_path / 'converted.nii.gz')
    given = series if kind != 'slice' else sorted(series.iterdir())[20]
    expected, out = tmp_path / 'expected.nii.gz', tmp_path / 'labels.nii.gz'
    model_of = ('--model', model, '--voxel-size', '4', '-q')
    arguments = [tmp_path / 'converted.nii.gz', expected, *model_of]
    assert run(capsys, 'segment', *arguments) == (0, '', '')
    if kind == 'many':
        out = tmp_path / 'out' / 'series_dseg.nii.gz'
        arguments = [given, tmp_path / 'converted.nii.gz', '--out', tmp_path / 'out', *model_of]
    else:
        arguments = [given, out, *model_of]
    assert run(capsys, 'segment', *arguments) == (0, '', '')
    found, wanted = nib.load(out), nib.load(expected)
    assert np.asarray(wanted.dataobj).any()
    np.testing.assert_array_equal(found.dataobj, wanted.dataobj)
    np.testing.assert_array_equal(found.affine, wanted.affine)


def test_dicom_without_its_converter(
    tmp_path: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_series(tmp_path / 'series', head((12, 10, 8)))
    monkeypatch.setattr(dicom, '_program', lambda: None)
    for scan in (tmp_path / 'series', tmp_path / 'series' / '1_3.dcm'):
        arguments = (scan, tmp_path / 'out.nii.gz', '--model', model, '-q')
        code, _, error = run(capsys, 'segment', *arguments)
        assert (code, error.count('\n')) == (1, 1)
        assert 'pip install "brainchop-bids[dicom]"' in error


def test_scans_are_not_scored_as_labels(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head_of = shared / 'data' / 't1w' / 'voxelmorph-test-scan'
    scan, labels = head_of / 'vol.nii.gz', head_of / 'seg.nii.gz'
    image = nib.load(scan)
    whole = np.asarray(image.dataobj, np.float32)
    rounded = tmp_path / 'rounded.nii.gz'
    levels = np.rint(whole / whole.max() * 255).astype(np.uint8)
    nib.Nifti1Image(levels, image.affine).to_filename(rounded)
    for pair in ((rounded, rounded), (rounded, labels), (labels, rounded)):
        code, out, error = run(capsys, 'evaluate', *pair)
        assert (code, out, error.count('\n')) == (1, '', 1)
        assert f'{rounded}: looks like a scan, not like labels' in error
    # 33 structures are labels.
    assert run(capsys, 'evaluate', labels, labels, '--no-surfaces')[0] == 0


def test_progress_and_what_was_written(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, out, mask = write_scan(tmp_path / 'T1.nii.gz'), tmp_path / 'o.nii', tmp_path / 'm.nii'
    arguments = (scan, out, '--mask', mask, '--model', model, '--voxel-size', '4')
    code, _, error = run(capsys, 'segment', *arguments)
    lines = [line.removeprefix('brainchop-segment: ') for line in error.splitlines()]
    assert code == 0
    assert lines[0] == f'{scan}: segmenting with net'
    assert lines[-1].startswith(f'wrote {out}, {mask} in ')
    assert all(line.startswith(('warning: ', 'flag: ')) for line in lines[1:-1])
    assert run(capsys, 'segment', *arguments, '-q') == (0, '', '')
    provisional = shutil.copytree(model, tmp_path / 'p')
    (provisional / 'brainchop.json').write_text('{"status": "provisional"}')
    _, _, error = run(capsys, 'segment', scan, out, '--model', provisional, '--voxel-size', '4')
    assert 'is provisional: look at the labels before' in error.splitlines()[-1]
    code, _, error = run(capsys, 'segment', tmp_path / 'none.nii', out, '--model', model, '-q')
    assert (code, error.count('\n')) == (1, 1)


def test_a_subset_with_names_in_the_header_and_a_picture(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_scan(tmp_path / 'T1.nii.gz')
    found = {}
    for name, options in (('all', ()), ('some', ('--roi-subset', 'WhiteMatter'))):
        out, table, png = (tmp_path / f'{name}{end}' for end in ('.nii.gz', '.tsv', '.png'))
        options = ('--volumes', table, '--preview', png, '--voxel-size', '4', *options)
        assert run(capsys, 'segment', scan, out, '--model', model, '-q', *options)[0] == 0
        image = nib.load(out)
        names = [row.split('\t')[1] for row in table.read_text().splitlines()[1:]]
        (extension,) = image.header.extensions
        assert extension.get_code() == 30
        labels = ElementTree.fromstring(extension_text(extension)).iter('Label')  # noqa: S314
        told = {label.text: (int(label.get('Key')), label.get('Red')) for label in labels}
        assert list(told) == names
        with Image.open(png) as picture:
            found[name] = np.asarray(image.dataobj), np.asarray(picture), told
    (whole, drawn, told), (part, less, fewer) = found['all'], found['some']
    assert list(told) == ['background', 'White Matter', 'Grey Matter']
    assert list(fewer) == ['background', 'White Matter']
    np.testing.assert_array_equal(part, np.where(whole == 1, 1, 0))
    assert (whole == 2).any()
    assert drawn.shape == less.shape
    assert (drawn != less).any()
    # The colour of `write_model`.
    assert float(told['Grey Matter'][1]) == pytest.approx(166 / 255, abs=1e-5)


def test_models_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / 'mine')
    broken = write_model(tmp_path / 'broken')
    (broken / 'weights.bin').write_bytes(b'')
    code, out, error = run(capsys, 'models', 'list', '--json', '--models-dir', tmp_path)
    assert (code, error) == (0, '')
    models = {model['name']: model for model in json.loads(out)}
    assert models['mine']['labels'] == ['background', 'White Matter', 'Grey Matter']
    assert models['mine']['folder'] == str(tmp_path / 'mine')
    assert models['tissue']['classes'] == 4
    assert 'weights.bin' in models['broken']['error']
    fetched = [model for model in models.values() if 'get' in model]
    assert all(model['get'].startswith('brainchop-models get ') for model in fetched)
