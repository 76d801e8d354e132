"""The BIDS App from its command line: what it refuses, what it writes, what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids import __version__
from brainchop_bids.cli.run import main, parse_settings
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from tests.builders import head, write_dataset, write_model, write_scan

SCANS = ['sub-01/anat/sub-01_T1w.nii.gz', 'sub-02/ses-A/anat/sub-02_ses-A_run-01_T1w.nii.gz']


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp('models') / 'tiny_model')


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / 'bids', SCANS)


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob('*') if path.is_file()}


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        'import sys\n'
        'from brainchop_bids.cli.run import main\n'
        'try: main([sys.argv[1]])\n'
        'except SystemExit: pass\n'
        'heavy = {"tensorflow", "bids", "nipype", "numpy", "nibabel"} & set(sys.modules)\n'
        'assert not heavy, heavy\n'
    )
    for option, expected in (('--version', __version__), ('--help', 'participant')):
        done = subprocess.run(
            [sys.executable, '-c', code, option], capture_output=True, text=True, check=True
        )
        assert expected in done.stdout


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run, expect a refusal, and return its one line."""
    try:
        code: object = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith('brainchop: error: ')
    assert error.count('\n') == 1
    return error


def test_folders_that_would_mix_with_the_input(
    dataset: Path, model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rest = ('participant', '--model', model)
    work = ('-w', tmp_path / 'work')
    assert 'is the input' in refused(capsys, dataset, dataset, *rest, *work)
    assert 'lies in the input' in refused(capsys, dataset, dataset / 'out', *rest, *work)
    inside = refused(capsys, dataset, tmp_path / 'out', *rest, '-w', dataset / 'work')
    assert 'the work folder' in inside
    assert not (dataset / 'out').exists()
    assert not (dataset / 'work').exists()
    allowed = ('--dry-run', *work)
    assert main(list(map(str, (dataset, dataset / 'derivatives' / 'x', *rest, *allowed)))) == 0


def test_what_cannot_run_is_refused_in_one_line(
    dataset: Path, model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, rest = tmp_path / 'out', ('participant', '-w', tmp_path / 'work', '--model', model)
    assert 'no such folder' in refused(capsys, tmp_path / 'none', out, *rest)
    (tmp_path / 'empty').mkdir()
    assert 'dataset_description.json' in refused(capsys, tmp_path / 'empty', out, *rest)
    assert 'there are: 01, 02' in refused(
        capsys, dataset, out, *rest, '--participant-label', 'sub-99'
    )
    assert 'sessions there: A' in refused(capsys, dataset, out, *rest, '--session-label', 'B')
    assert 'memory' in refused(capsys, dataset, out, *rest, '--mem', 'much')
    threads = ('--nprocs', 1, '--omp-nthreads', 2)
    assert '--omp-nthreads 2' in refused(capsys, dataset, out, *rest, *threads)
    assert 'no_such_model' in refused(capsys, dataset, out, *rest[:-1], 'no_such_model')
    filters = tmp_path / 'filters.json'
    filters.write_text('[]')
    assert '"t1w"' in refused(capsys, dataset, out, *rest, '--bids-filter-file', filters)


@pytest.mark.parametrize('damage', ['missing', 'short'])
def test_a_model_with_bad_weights(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    weights = write_model(tmp_path / 'model') / 'weights.bin'
    if damage == 'missing':
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-7])
    line = refused(
        capsys,
        dataset,
        tmp_path / 'out',
        'participant',
        '--model',
        tmp_path / 'model',
        '-w',
        tmp_path / 'work',
    )
    assert 'weights.bin' in line


def test_an_output_that_cannot_be_written(
    dataset: Path, model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    taken = tmp_path / 'out'
    taken.write_text('a file stands here')
    line = refused(
        capsys, dataset, taken, 'participant', '--model', model, '-w', tmp_path / 'work'
    )
    assert str(taken) in line


def test_config_file_and_command_line(dataset: Path, tmp_path: Path) -> None:
    config = tmp_path / 'config.toml'
    config.write_text(
        '[brainchop]\nmodel = "a"\ncomponents = "none"\nparticipant_label = ["sub-01"]\n'
    )
    arguments = [str(dataset), str(tmp_path / 'out'), 'participant', '--config-file', str(config)]
    settings = parse_settings([*arguments, '--model', 'b'])
    assert (settings.model, settings.components) == (('b',), 'none')
    assert parse_settings(arguments).model == ('a',)
    assert settings.participant_label == ('01',)
    repeated = tmp_path / 'again.toml'
    repeated.write_text(settings.to_toml())
    again = parse_settings([*arguments[:-1], str(repeated)])
    assert again == settings


def test_positionals_may_stand_behind_options_of_several_values(tmp_path: Path) -> None:
    bids, out = str(tmp_path / 'bids'), str(tmp_path / 'out')
    for option, values in (('--model', ('a', 'b')), ('--participant-label', ('01', '02'))):
        first = parse_settings([bids, out, 'participant', option, *values])
        assert parse_settings([option, *values, bids, out, 'participant']) == first
    assert first.participant_label == ('01', '02')


def test_a_typo_in_the_config_file(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / 'config.toml'
    config.write_text('[brainchop]\ncomponent = "none"\n')
    line = refused(capsys, dataset, tmp_path / 'out', 'participant', '--config-file', config)
    assert 'did you mean components' in line


def test_good_and_bad_scans_together(dataset: Path, model: Path, tmp_path: Path) -> None:
    whole = (dataset / SCANS[0]).read_bytes()
    for label, content in (('03', whole[: len(whole) // 2]), ('04', b'this is no image\n')):
        cut = dataset / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz'
        cut.parent.mkdir(parents=True)
        cut.write_bytes(content)
    constant = np.full((16, 16, 16), 7, np.int16)
    write_scan(dataset / 'sub-05' / 'anat' / 'sub-05_T1w.nii.gz', constant, 12.0)
    link = dataset / 'sub-06' / 'anat' / 'sub-06_T1w.nii.gz'
    link.parent.mkdir(parents=True)
    link.symlink_to('../../.git/annex/objects/absent.nii.gz')
    bad = ('03', '04', '05', '06')
    out = tmp_path / 'out'
    arguments = (dataset, out, 'participant', '--model', model, '-w', tmp_path / 'work')
    done = run(*arguments, '--probseg', cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert '2 done, 0 already done, 4 failed' in done.stdout.replace('scans ', '')
    assert 'Traceback' not in done.stdout + done.stderr
    for label in bad:
        [line] = [line for line in done.stderr.splitlines() if f'sub-{label}' in line]
        assert f'sub-{label}_T1w.nii.gz' in line
        assert not (out / f'sub-{label}').exists()
    written = files(out)
    assert {name for name in written if name.startswith('sub-02/')} == {
        f'sub-02/ses-A/anat/sub-02_ses-A_run-01_{rest}'
        for rest in (
            'seg-tinymodel_dseg.nii.gz',
            'seg-tinymodel_dseg.json',
            'seg-tinymodel_dseg.tsv',
            'space-conform_seg-tinymodel_dseg.nii.gz',
            'space-conform_seg-tinymodel_dseg.json',
            'space-conform_desc-preproc_T1w.nii.gz',
            'space-conform_desc-preproc_T1w.json',
            'desc-brain_mask.nii.gz',
            'desc-brain_mask.json',
            'seg-tinymodel_label-WhiteMatter_probseg.nii.gz',
            'seg-tinymodel_label-WhiteMatter_probseg.json',
            'seg-tinymodel_label-GreyMatter_probseg.nii.gz',
            'seg-tinymodel_label-GreyMatter_probseg.json',
        )
    } | {
        f'sub-02/figures/sub-02_ses-A_run-01_{name}'
        for name in (
            'desc-conform_T1w.webp',
            'desc-slices_T1w.webp',
            'desc-slices_T1w.json',
            'seg-tinymodel_desc-cuts_dseg.webp',
            'seg-tinymodel_desc-labels_dseg.webp',
            'seg-tinymodel_desc-outline_dseg.webp',
            'seg-tinymodel_desc-slices_dseg.gz',
        )
    }
    assert {'sub-01.html', 'sub-02.html', 'seg-tinymodel_dseg.tsv'} <= written
    assert not [name for name in written if '.brainchop-' in name]
    check_images(dataset / SCANS[1], out / 'sub-02' / 'ses-A' / 'anat')
    check_valid(out)

    for label in bad:
        (dataset / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz').unlink()
    again = run(*arguments, '--probseg', cwd=tmp_path)
    assert again.returncode == 0
    assert '0 scans done, 2 already done, 0 failed' in again.stdout
    changed = run(*arguments, '--components', 'none', '--dry-run', '-v', cwd=tmp_path)
    assert 'sub-01_T1w: to do (the settings have changed)' in changed.stdout
    write_scan(dataset / SCANS[0], head(seed=9))
    changed = run(*arguments, '--probseg', '--dry-run', cwd=tmp_path)
    assert 'sub-01_T1w: to do (the scan has changed)' in changed.stdout
    assert 'sub-02_ses-A_run-01_T1w: already done' in changed.stdout

    rating = {'participant_id': 'sub-01', 'bids_name': 'sub-01_T1w', 'model': 'tinymodel'}
    (out / 'ratings').mkdir()
    for path in (out / 'a_ratings.json', out / 'ratings' / 'b_ratings.json'):
        path.write_text(
            json.dumps({'Ratings': [{**rating, 'rating': 'fail', 'rater': path.stem}]})
        )
    group = run(dataset, out, 'group', cwd=tmp_path)
    assert group.returncode == 0, group.stderr
    rows = (out / 'group_seg-tinymodel_dseg.tsv').read_text().splitlines()
    assert len(rows) == 3
    assert 'fail\ta_ratings; b_ratings' in rows[1]
    assert (out / 'group_seg-tinymodel.html').exists()
    check_valid(out)


def test_uncertainty_and_border(dataset: Path, model: Path, tmp_path: Path) -> None:
    out, anat = tmp_path / 'out', tmp_path / 'out' / 'sub-01' / 'anat'
    arguments = [dataset, out, 'participant', '--model', model, '-w', tmp_path / 'work']
    arguments += ['--participant-label', '01', '--skip-bids-validation']
    options = ['--uncertainty', '--tta', '--border', '6']
    done = run(*arguments, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_valid(out)
    scan = nib.load(dataset / SCANS[0])
    found = {}
    for name in ('entropy', 'spread'):
        path = anat / f'sub-01_seg-tinymodel_desc-{name}_probseg.nii.gz'
        image, facts = (
            nib.load(path),
            json.loads(path.with_name(f'{path.name[:-7]}.json').read_text()),
        )
        assert image.affine.tobytes() == scan.affine.tobytes()
        assert image.get_data_dtype() == np.float32
        assert facts['Units'] == 'nat'
        assert facts['Model']['Name'] == 'tiny_model'
        found[name] = np.asarray(image.dataobj)
        assert found[name].min() >= 0
    assert 0.5 < found['entropy'].max() <= np.log(3)
    assert found['spread'].max() <= np.log(2)
    mask = anat / 'sub-01_desc-brain_mask.nii.gz'
    assert json.loads((anat / 'sub-01_desc-brain_mask.json').read_text())['Border'] == 6
    grown = np.count_nonzero(nib.load(mask).dataobj) * 64
    record = json.loads((anat / 'sub-01_seg-tinymodel_dseg.json').read_text())
    assert grown > 1.1 * record['BrainVolume']
    text = ' '.join((out / 'logs' / 'CITATION.md').read_text().split())
    assert 'grown by 6 mm' in text
    assert 'mutual information' in text

    figure = out / 'sub-01/figures/sub-01_seg-tinymodel_desc-entropy_dseg.webp'
    page = out / 'sub-01.html'
    layer = 'data-layer="uncertainty" hidden'
    assert layer in page.read_text()
    figure.unlink()
    run(*arguments, '--reports-only', cwd=tmp_path)
    assert figure.exists()
    assert layer in page.read_text()
    again = run(*arguments, *options, '--dry-run', '-v', cwd=tmp_path)
    assert '1 already done, 0 to do' in again.stdout
    (anat / 'sub-01_seg-tinymodel_desc-spread_probseg.json').unlink()
    again = run(*arguments, *options, '--dry-run', '-v', cwd=tmp_path)
    assert 'desc-spread_probseg.json is missing' in again.stdout


def test_a_network_that_is_not_certain_is_flagged(tmp_path: Path) -> None:
    scan = 'sub-01/anat/sub-01_T1w.nii.gz'
    root, out = write_dataset(tmp_path / 'bids', [scan]), tmp_path / 'out'
    model = write_model(tmp_path / 'unsure')
    limit = {'least': 1, 'dice': 0.7, 'hits': 8, 'bad': 9, 'false_alarms': 1, 'good': 7}
    (model / 'brainchop.json').write_text(json.dumps({'confidence': limit}))
    arguments = ['--model', model, '-w', tmp_path / 'work']
    done = run(root, out, 'participant', *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_valid(out)
    table = out / 'sub-01/anat/sub-01_seg-unsure_dseg.tsv'
    rows = [line.split('\t') for line in table.read_text().splitlines()]
    assert rows[0][4] == 'confidence'
    certain = {row[1]: float(row[4]) for row in rows[1:] if row[4] != 'n/a'}
    record = json.loads(table.with_suffix('.json').read_text())
    assert record['Confidence'] == certain
    mean = record['Measures']['confidence']
    assert mean == pytest.approx(np.mean(list(certain.values())), abs=1e-4)
    (flag,) = [flag for flag in record['Flags'] if flag['Name'] == 'low-confidence']
    assert flag['Value'] == pytest.approx(mean, abs=0.001)
    assert 'marked 8 of the 9 whose labels were bad' in flag['Reason']
    assert '1 of the 7 others' in flag['Reason']
    page = (out / 'sub-01.html').read_text()
    assert flag['Reason'] in page
    assert f'<td class="number">{certain["White Matter"]:.2f}</td>' in page
    run(root, out, 'group', cwd=tmp_path)
    group = [line.split('\t') for line in next(out.glob('group_*.tsv')).read_text().splitlines()]
    assert float(dict(zip(*group, strict=True))['confidence']) == pytest.approx(mean)
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', root / scan, tmp_path / 'l.nii']
    alone = subprocess.run([*command, '--model', model], capture_output=True, text=True)
    assert f'flag: low-confidence: {flag["Reason"]}' in alone.stdout + alone.stderr


def make_stripper(folder: Path) -> Path:
    """Write a model for skull-stripping."""
    write_model(folder, classes=2)
    (folder / 'brainchop.json').write_text('{"task": "skull-strip", "mask": {"closing_mm": 0}}')
    return folder


def modified(out: Path) -> dict[str, int]:
    return {name: (out / name).stat().st_mtime_ns for name in files(out) if 'anat' in name}


def test_several_models_share_the_conform_step(model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / 'bids', SCANS[:1])
    strip, partial = make_stripper(tmp_path / 'strip'), write_model(tmp_path / 'partial')
    (partial / 'brainchop.json').write_text('{"mask": null}')
    out, rest = tmp_path / 'out', ('-w', tmp_path / 'work', '--skip-bids-validation')
    done = run(dataset, out, 'participant', '--model', partial, model, strip, *rest, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'models partial, tiny_model, strip: 0 already done, 1 to do' in done.stdout
    assert len(list((tmp_path / 'work').rglob('conformed.nii'))) == 1
    anat = out / 'sub-01' / 'anat'
    page = (out / 'sub-01.html').read_text()
    for name in ('partial', 'tiny_model', 'strip'):
        slug = name.replace('_', '')
        assert (anat / f'sub-01_seg-{slug}_dseg.nii.gz').exists()
        assert (anat / f'sub-01_space-conform_seg-{slug}_dseg.nii.gz').exists()
        assert (out / f'seg-{slug}_dseg.tsv').exists()
        assert name in page
    # The mask is that of the model for skull-stripping, which is not the first one.
    stripped = np.asarray(nib.load(anat / 'sub-01_seg-strip_dseg.nii.gz').dataobj) > 0
    mask = np.asarray(nib.load(anat / 'sub-01_desc-brain_mask.nii.gz').dataobj) > 0
    np.testing.assert_array_equal(mask, stripped)
    scan = np.asarray(nib.load(dataset / SCANS[0]).dataobj)
    brain = np.asarray(nib.load(anat / 'sub-01_desc-brain_T1w.nii.gz').dataobj)
    np.testing.assert_array_equal(brain, np.where(mask, scan, 0))
    facts = json.loads((anat / 'sub-01_desc-brain_T1w.json').read_text())
    assert facts['SkullStripped'] is True
    assert (
        json.loads((anat / 'sub-01_desc-brain_mask.json').read_text())['Model']['Name'] == 'strip'
    )
    assert 'BrainVolume' not in json.loads((anat / 'sub-01_seg-partial_dseg.json').read_text())
    check_valid(out)
    text = ' '.join((out / 'logs' / 'CITATION.md').read_text().split())
    assert all(f'*{name}*' in text for name in ('partial', 'tiny_model', 'strip'))

    before = modified(out)
    again = run(dataset, out, 'participant', '--model', strip, partial, *rest, cwd=tmp_path)
    assert '1 already done' in again.stdout, again.stdout + again.stderr
    assert modified(out) == before
    # Alone, the second model has its own mask to write.
    alone = run(dataset, out, 'participant', '--model', model, *rest, '-v', cwd=tmp_path)
    assert 'the brain mask is that of another model' in alone.stdout, alone.stdout + alone.stderr
    facts = json.loads((anat / 'sub-01_desc-brain_mask.json').read_text())
    assert facts['Model']['Name'] == 'tiny_model'
    # One that is missing is made without the others.
    before = modified(out)
    (anat / 'sub-01_seg-partial_dseg.nii.gz').unlink()
    mended = run(dataset, out, 'participant', '--model', model, partial, *rest, cwd=tmp_path)
    assert '1 scan done' in mended.stdout, mended.stdout + mended.stderr
    changed = {name for name, when in modified(out).items() if when != before[name]}
    assert changed
    assert not [name for name in changed if 'tinymodel' in name or 'mask' in name]


def test_tissues_follow_from_structures(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / 'bids', SCANS[:1])
    model, codes = write_model(tmp_path / 'structures'), (0, 24, 42)
    labels = [{'index': index, 'freesurfer': code} for index, code in enumerate(codes)]
    facts = {'labels': labels, 'derived': {'tissue': 'aseg_to_tissue'}, 'mask': {'exclude': [1]}}
    facts |= {'status': 'provisional'}
    (model / 'brainchop.json').write_text(json.dumps(facts))
    out, rest = tmp_path / 'out', ('-w', tmp_path / 'work', '--skip-bids-validation')
    options = ('--model', model, '--label-codes', 'freesurfer', *rest)
    done = run(dataset, out, 'participant', *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'the model structures is provisional' in done.stdout.splitlines()[-1]
    anat = out / 'sub-01' / 'anat'
    for stem in ('sub-01', 'sub-01_space-conform'):
        found = nib.load(anat / f'{stem}_seg-structures_dseg.nii.gz')
        tissue = nib.load(anat / f'{stem}_seg-tissue_dseg.nii.gz')
        assert tissue.get_data_dtype() == np.uint8
        assert tissue.affine.tobytes() == found.affine.tobytes()
        expected = np.select([np.asarray(found.dataobj) == code for code in codes], [0, 3, 1])
        np.testing.assert_array_equal(tissue.dataobj, expected)
        told = json.loads((anat / f'{stem}_seg-tissue_dseg.json').read_text())
        assert told['DerivedBy'] == 'aseg_to_tissue'
        assert told['Sources'] == [f'bids::sub-01/anat/{stem}_seg-structures_dseg.nii.gz']
    rows = (anat / 'sub-01_seg-tissue_dseg.tsv').read_text().splitlines()
    tissue = nib.load(anat / 'sub-01_seg-tissue_dseg.nii.gz')
    counts = np.bincount(np.asarray(tissue.dataobj).ravel())
    assert [row.split('\t')[1:3] for row in rows[1:]] == [
        ['Background', str(counts[0])], ['Gray Matter', str(counts[1])],
        ['White Matter', '0'], ['Cerebrospinal Fluid', str(counts[3])],
    ]  # fmt: skip
    packaged = load_spec(find_model('tissue')).labels
    assert (out / 'seg-tissue_dseg.tsv').read_text() == packaged.to_tsv()
    record = json.loads((anat / 'sub-01_seg-structures_dseg.json').read_text())
    assert record['IntracranialVolume'] > 1.02 * record['BrainVolume']
    rows = (anat / 'sub-01_seg-structures_dseg.tsv').read_text().splitlines()
    right = next(row for row in rows if row.startswith('42'))
    assert record['BrainMeasures'] == {
        'rhCortex': float(right.split('\t')[3]),
        'EstimatedTotalIntraCranialVol': record['IntracranialVolume'],
    }
    check_valid(out)
    # The page shows the structures; the group level has tables of both.
    page = (out / 'sub-01.html').read_text()
    assert 'seg-structures' in page
    assert 'seg-tissue' not in page
    group = run(dataset, out, 'group', *rest, cwd=tmp_path)
    assert group.returncode == 0, group.stdout + group.stderr
    assert group.stderr.count('\n') == 1
    assert 'participants.tsv is missing' in group.stderr
    assert 'Gray-Matter' in (out / 'group_seg-tissue_dseg.tsv').read_text()

    (anat / 'sub-01_seg-tissue_dseg.tsv').unlink()
    why = run(dataset, out, 'participant', *options, '--dry-run', cwd=tmp_path)
    assert 'sub-01_seg-tissue_dseg.tsv is missing' in why.stdout
    both = ('--model', model, write_model(tmp_path / 'tissue'), *rest, '--dry-run')
    other = run(dataset, out, 'participant', *both, cwd=tmp_path)
    assert 'seg-tissue is that of tissue; the one derived from' in other.stdout


def test_a_model_that_takes_two_scans(tmp_path: Path) -> None:
    names = ['sub-01/anat/sub-01_acq-a_T1w.nii.gz', 'sub-02/anat/sub-02_T1w.nii.gz']
    dataset = write_dataset(tmp_path / 'bids', names)
    t2w = dataset / 'sub-01' / 'anat' / 'sub-01_T2w.nii.gz'
    write_scan(t2w, head(seed=7))
    pair, one = write_model(tmp_path / 'pair', in_channels=2), write_model(tmp_path / 'one')
    out, rest = tmp_path / 'out', ('-w', tmp_path / 'work', '--skip-bids-validation')
    done = run(dataset, out, 'participant', '--model', pair, *rest, cwd=tmp_path)
    assert done.returncode == 1
    assert 'needs one T2w beside it for the model, there are: none' in done.stderr
    assert '1 scan done' in done.stdout, done.stdout + done.stderr
    # It looks at the second scan alone.
    alone = tmp_path / 'alone.nii.gz'
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', t2w, alone, '--model', one]
    subprocess.run(command, check=True)
    labels = out / 'sub-01' / 'anat' / 'sub-01_acq-a_seg-pair_dseg.nii.gz'
    np.testing.assert_array_equal(nib.load(labels).dataobj, nib.load(alone).dataobj)
    more = ('--participant-label', '01')
    again = run(dataset, out, 'participant', '--model', pair, *rest, *more, cwd=tmp_path)
    assert '1 already done' in again.stdout
    write_scan(t2w, head(seed=8))
    changed = run(dataset, out, 'participant', '--model', pair, *rest, *more, '-v', cwd=tmp_path)
    assert 'another scan of the head has changed' in changed.stdout
    assert changed.returncode == 0, changed.stdout + changed.stderr


def test_models_that_do_not_go_together(
    dataset: Path, model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = write_model(tmp_path / 'tiny-model')
    rest = (dataset, tmp_path / 'out', 'participant', '-w', tmp_path / 'work', '--model', model)
    assert 'seg-tinymodel; rename' in refused(capsys, *rest, other)
    strip = make_stripper(tmp_path / 'strip')
    error = refused(capsys, *rest, strip, '--normalization', 'minmax')
    assert '--normalization is for one model' in error
    config = tmp_path / 'config.toml'
    config.write_text('[brainchop]\ncomponents = "bigest"\n')
    line = refused(capsys, *rest, '--config-file', config)
    assert str(config) in line
    assert 'expected largest' in line


def test_a_model_that_fails_leaves_the_others(model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / 'bids', SCANS[:1])
    other = write_model(tmp_path / 'other')
    rest = ('-w', tmp_path / 'work', '--skip-bids-validation')
    out = tmp_path / 'out'
    # Its labels cannot be written.
    (out / 'sub-01' / 'anat' / 'sub-01_seg-other_dseg.tsv').mkdir(parents=True)
    done = run(dataset, out, 'participant', '--model', model, other, *rest, cwd=tmp_path)
    assert done.returncode == 1
    assert 'sub-01_seg-other_dseg.tsv' in done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
    assert (out / 'sub-01' / 'anat' / 'sub-01_seg-tinymodel_dseg.nii.gz').exists()
    assert 'tiny_model' in (out / 'sub-01.html').read_text()
    assert not (out / 'sub-01' / 'anat' / 'sub-01_seg-other_dseg.nii.gz').exists()


def check_images(source: Path, anat: Path) -> None:
    """Check grids, types and volumes of one scan's derivatives."""
    [dseg_path] = anat.glob('*run-01_seg-*_dseg.nii.gz')
    raw, dseg = nib.load(source), nib.load(dseg_path)
    assert dseg.shape == raw.shape
    assert dseg.affine.tobytes() == raw.affine.tobytes()
    assert dseg.get_data_dtype() == np.uint8
    assert int(dseg.header['intent_code']) == 1002
    labels = np.asarray(dseg.dataobj)
    lines = (anat / dseg_path.name.replace('.nii.gz', '.tsv')).read_text().splitlines()[1:]
    for index, _, voxels, volume, _ in (line.split('\t') for line in lines):
        assert int(voxels) == (labels == int(index)).sum()
        assert float(volume) == pytest.approx(int(voxels) * 64)
    record = json.loads((anat / dseg_path.name.replace('.nii.gz', '.json')).read_text())
    mask = np.asarray(nib.load(next(anat.glob('*mask.nii.gz'))).dataobj)
    assert record['BrainVolume'] == pytest.approx(mask.sum() * 64)
    maps = [np.asarray(nib.load(path).dataobj) for path in sorted(anat.glob('*probseg.nii.gz'))]
    assert all(0 <= probability.min() <= probability.max() <= 1 for probability in maps)
    conformed = nib.load(next(anat.glob('*T1w.nii.gz')))
    assert conformed.shape == (256, 256, 256)
    assert nib.aff2axcodes(conformed.affine) == ('L', 'I', 'A')


def check_valid(out: Path) -> None:
    """Let the BIDS validator judge the derivatives."""
    validator = Path(sys.executable).parent / 'bids-validator-deno'
    done = subprocess.run([validator, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_scans_of_another_modality(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ['sub-01/anat/sub-01_T1w.nii.gz', 'sub-01/anat/sub-01_T2w.nii.gz']
    root = write_dataset(tmp_path / 'bids', [*names, 'sub-02/anat/sub-02_T1w.nii.gz'])
    (root / 'sub-03' / 'anat').mkdir(parents=True)
    write_scan(root / 'sub-03/anat/sub-03_t2.nii.gz')
    out = tmp_path / 'out'
    arguments = [root, out, 'participant', '--model', model, '-w', tmp_path / 'work']
    done = run(*arguments, '--modality', 'T2w', cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 T2w scan in' in done.stdout
    assert 'sub-02: no T2w scan' in done.stdout
    assert 'sub-03_t2.nii.gz: its suffix is t2; rename it to T2w' in done.stderr
    check_valid(out)
    images = {path.name for path in (out / 'sub-01' / 'anat').glob('*.nii.gz')}
    assert images == {
        'sub-01_desc-brain_mask.nii.gz', 'sub-01_seg-tinymodel_dseg.nii.gz',
        'sub-01_space-conform_desc-preproc_T2w.nii.gz',
        'sub-01_space-conform_seg-tinymodel_dseg.nii.gz',
    }  # fmt: skip
    record = json.loads((out / 'sub-01/anat/sub-01_seg-tinymodel_dseg.json').read_text())
    assert 'sub-01_T2w.nii.gz' in str(record['Sources'])
    flags = {flag['Name']: flag['Reason'] for flag in record['Flags']}
    assert 'The scan is T2-weighted; expected T1-weighted ones' in flags['other-contrast']
    assert 'Each T2-weighted scan was' in (out / 'logs' / 'CITATION.md').read_text()
    page = (out / 'sub-01.html').read_text()
    assert 'sub-01_T2w' in page
    assert 'sub-01_T1w' not in page
    again = run(*arguments, '--modality', 'T2w', cwd=tmp_path)
    assert '1 already done, 0 to do' in again.stdout
    # The group level lists the scans of this modality.
    group = run(root, out, 'group', '--modality', 'T2w', cwd=tmp_path)
    assert group.returncode == 0, group.stdout + group.stderr
    table = (out / 'group_seg-tinymodel_dseg.tsv').read_text().splitlines()
    assert [line.split('\t')[1] for line in table[1:]] == ['sub-01_T2w']
    # A suffix of a filter file is no modality, and no T1w either.
    filters, star = tmp_path / 'filters.json', 'sub-01/anat/sub-01_T2starw.nii.gz'
    filters.write_text('{"t1w": {"suffix": "T2starw"}}')
    (root / star).write_bytes((root / names[1]).read_bytes())
    there = [root, tmp_path / 'star', *arguments[2:], '--bids-filter-file', filters]
    done = run(*there, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / 'star/sub-01/anat/sub-01_seg-tinymodel_dseg.json').read_text())
    reasons = {flag['Name']: flag['Reason'] for flag in record['Flags']}
    assert 'The scan is T2starw; expected T1-weighted' in reasons['other-contrast']
    (root / star).unlink()
    # Results of the T1w would have the same names.
    line = refused(capsys, *arguments)
    assert 'desc-preproc_T2w.nii.gz: results of T1w scans would have the names' in line


def test_reports_and_methods_alone(dataset: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    arguments = [dataset, out, 'participant', '-w', tmp_path / 'work']
    assert main(list(map(str, [*arguments, '--model', model, '--boilerplate']))) == 0
    text = (out / 'logs' / 'CITATION.md').read_text()
    assert 'tiny_model' in text
    for key in {word.strip('[];,.') for word in text.split() if word.startswith('[@')}:
        assert f'- [{key}]' in text
    assert main(list(map(str, [*arguments, '--reports-only']))) == 1


def test_relative_paths_and_no_home_folder(dataset: Path, model: Path, tmp_path: Path) -> None:
    home = tmp_path / 'home'
    home.mkdir()
    home.chmod(0o500)
    environment = {**os.environ, 'HOME': str(home), 'LANG': 'C'}
    # All paths as people type them: relative, the work folder left to its default.
    command = [sys.executable, '-m', 'brainchop_bids.cli.run', 'bids', 'out', 'participant']
    command += ['--model', os.path.relpath(model, tmp_path)]
    command += ['--participant-label', '01', '--skip-bids-validation']
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.iterdir()) == []
