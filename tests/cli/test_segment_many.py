"""Several scans in one call of ``brainchop-segment``."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.segment import main
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import Engines, make_plan
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.resources import Granted
from tests.builders import head, write_model, write_scan


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.out == ''
    return code, captured.err.splitlines()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_scan_is_as_by_itself_and_a_failure_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / 'net')
    (model / 'brainchop.json').write_text('{"intracranial": true}')
    first, second = (tmp_path / name / 'T1.nii.gz' for name in ('a', 'b'))
    for seed, (path, shape) in enumerate(((first, (40, 48, 36)), (second, (48, 56, 48)))):
        write_scan(path, head(shape, seed=seed))
    bad = tmp_path / 'a' / 'bad.nii.gz'
    bad.write_text('this is no image')
    third, image = tmp_path / 'c.mgh', nib.load(second)
    nib.MGHImage(np.asarray(image.dataobj), image.affine).to_filename(third)
    out = tmp_path / 'new' / 'out'
    # A folder, a file, an option, and another file.
    arguments = ('--model', model, '--mask', '--out', out, third, '--volumes', '--stats')
    code, told = run(capsys, tmp_path / 'a', second, *arguments)
    assert code == 1
    names = [f'{stem}_{kind}' for stem in ('a_T1', 'b_T1') for kind in ('dseg', 'mask')]
    images = [*(f'{name}.nii.gz' for name in names), 'c_dseg.mgz', 'c_mask.mgz']
    tables = [
        f'{stem}_{end}' for stem in ('a_T1', 'b_T1', 'c') for end in ('volumes.tsv', 'stats.json')
    ]
    assert files(out) == sorted([*images, *tables, 'volumes.tsv'])
    rows = [line.split('\t') for line in (out / 'volumes.tsv').read_text().splitlines()]
    assert rows[0] == ['scan', 'confidence', 'total intracranial', 'White Matter', 'Grey Matter']
    assert [row[0] for row in rows[1:]] == [str(first), str(second), str(third)]
    for row, stem in zip(rows[1:], ('a_T1', 'b_T1', 'c'), strict=True):
        volumes = (out / f'{stem}_volumes.tsv').read_text().splitlines()[2:]
        assert row[3:] == [line.split('\t')[3] for line in volumes]
        facts = json.loads((out / f'{stem}_stats.json').read_text())
        assert float(row[1]) == facts['quality']['confidence']
        measured = facts['intracranial_mm3']
        assert float(row[2]) == pytest.approx(measured, abs=1e-3)
        assert measured > 0.9 * (float(row[3]) + float(row[4]))
    lines = [line.removeprefix('brainchop-segment: ') for line in told]
    assert [line for line in lines if 'another scan has this name' in line] == lines[:2]
    failures = [line for line in lines if line.startswith('error: ')]
    assert len(failures) == 1
    assert str(bad) in failures[0]
    assert failures[0].endswith('(2 of 4)')
    assert sum(line.startswith(f'wrote {out}') for line in lines) == 3

    alone = tmp_path / 'alone.nii.gz'
    mask, table = tmp_path / 'mask.nii.gz', tmp_path / 'v.tsv'
    options = ('--model', model, '--mask', mask, '--volumes', table)
    assert run(capsys, second, alone, *options)[0] == 0
    for single, name in ((alone, 'dseg.nii.gz'), (mask, 'mask.nii.gz'), (table, 'volumes.tsv')):
        assert (out / f'b_T1_{name}').read_bytes() == single.read_bytes()
    np.testing.assert_array_equal(nib.load(out / 'c_dseg.mgz').dataobj, nib.load(alone).dataobj)
    assert json.loads((out / 'c_stats.json').read_text())['model']['name'] == 'net'

    # Nothing may replace a scan of the same call.
    again = ('--out', out, '--model', model)
    code, told = run(capsys, out / 'b_T1_dseg.nii.gz', second.parent, first, *again)
    assert (code, len(told)) == (2, 1)
    assert 'choose another folder' in told[0]


@pytest.mark.parametrize(
    ('arguments', 'found'),
    [
        (['a.nii', 'b.nii', 'c.nii'], 'expected a scan and the label image to write'),
        (['a.nii'], 'or scans and --out DIR; given: a.nii'),
        (['a.nii', 'b.nii', '--mask'], '--mask: give the name of a file'),
        (['a.nii', 'b.nii', '--derived', 'tissue'], '--derived tissue=: give the name'),
        (['a.nii', '--out', 'o', '--mask', 'm.nii'], '--mask: takes no file name with --out'),
        (['a.nii', '--out', 'o', '--channel', 'b.nii'], 'one scan at a time'),
        (['a.nii', './a.nii', '--out', 'o'], 'is given twice'),
        (['a.nii', 'a.mgz', '--out', 'o'], 'both would be written as'),
        (['empty', '--out', 'o'], 'has no scan'),
        (['a.nii', '--out', 'a.nii'], 'is no folder'),
        (['a.nii', '--out', 'o', '--border', '3'], 'add --mask or --brain'),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    found: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'a.nii').touch()
    code, told = run(capsys, *arguments)
    assert (code, len(told)) == (2, 1)
    assert found in told[0]
    assert not list(tmp_path.glob('o/*'))


def test_an_engine_is_kept_for_the_same_model_and_settings(tmp_path: Path) -> None:
    spec, other = (
        load_spec(write_model(tmp_path / n, channels=c)) for n, c in (('a', 2), ('b', 3))
    )
    engines, kept = Engines(), []
    for each, options in (
        (spec, InferenceOptions(crop='none')),
        (spec, InferenceOptions()),
        (other, InferenceOptions()),
        (spec, InferenceOptions()),
    ):
        plan = make_plan(each, (64, 64, 64), Granted(4.0, 'a test'), options)
        kept.append(engines.make(plan, each, 1, None))
    assert kept[0] is kept[1]
    assert len(set(map(id, kept))) == 3
