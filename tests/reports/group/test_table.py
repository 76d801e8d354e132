"""The table of the group level, read back by pandas and worked out anew."""

import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainchop_bids.bids.participants import read_participants
from brainchop_bids.reports.group.outputs import GroupOutputs, write_group
from brainchop_bids.system.errors import DatasetError
from tests.builders import write_dataset
from tests.reports.crash_files import crash
from tests.reports.group import group_data

LABELS = {'Grey Matter': 600_000.5, 'White Matter': 400_000.25, 'CSF': 200_000.0}
HOSTILE = (
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    '"unclosed',
    'tab\there\nand\r\na new\u2028line',
    '</script><!--',
    '=1+1',
    '\u202edetrever\u202c',
    '𝔅𝔯𝔞𝔦𝔫 🧠 שלום',
    'nul \x00 and \x1b[2J',
    'x' * 5000,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return derivatives with a label table."""
    group_data.write_labels(tmp_path / 'out', list(LABELS))
    return tmp_path / 'out'


def run(root: Path, *options: tuple[str, ...], bids: Path | None = None) -> GroupOutputs:
    return write_group(bids or root.parent / 'bids', root, *options)


def table(root: Path, slug: str = 'x') -> pd.DataFrame:
    path = root / f'group_seg-{slug}_dseg.tsv'
    return pd.read_csv(path, sep='\t', dtype=str, keep_default_na=False)


def test_rows_are_what_the_derivatives_say(root: Path) -> None:
    flags = [{'Name': 'brain-volume', 'Value': 0.6, 'Reason': 'It is small.'}, {'Name': 'holes'}]
    group_data.write_scan(root, 'sub-01_T1w', LABELS, Measures={'snr_gm': 12.25}, Flags=flags)
    group_data.write_scan(root, 'sub-02_ses-B_acq-x_run-02_T1w', LABELS, BrainVolume=1e6, Flags=[])
    group_data.write_scan(root, 'sub-02_ses-B_acq-x_run-10_T1w', LABELS)
    written = run(root)
    assert [path.name for path in written.paths] == [
        'group_seg-x_dseg.tsv',
        'group_seg-x.html',
    ]
    found = table(root)
    assert list(found.columns) == [
        *('participant_id', 'session_id', 'acquisition', 'run', 'bids_name', 'status', 'reason'),
        'brain_volume',
        *('Grey-Matter', 'White-Matter', 'CSF', 'snr_gm', 'flags', 'n_flags'),
        *('outliers', 'n_outliers', 'largest_robust_z', 'largest_robust_z_of'),
        *('rating', 'rater', 'rating_note'),
    ]
    assert found.iloc[0, :14].tolist() == [
        *('sub-01', 'n/a', 'n/a', 'n/a', 'sub-01_T1w', 'done', 'n/a', '1200000.75'),
        *('600000.5', '400000.25', '200000', '12.25', 'brain-volume,holes', '2'),
    ]
    assert found.iloc[1, :9].tolist() == [
        *('sub-02', 'ses-B', 'x', '02', 'sub-02_ses-B_acq-x_run-02_T1w', 'done', 'n/a'),
        *('1000000', '600000.5'),
    ]
    # Without flags is another thing than without knowing of any.
    assert found['n_flags'].tolist() == ['2', '0', 'n/a']
    assert (found.iloc[:, 14:] == 'n/a').all(axis=None)


def test_the_volume_of_tissue_is_that_of_all_labels_but_fluid(root: Path) -> None:
    (root / 'seg-x_dseg.tsv').write_text(
        'index\tname\tabbreviation\tcolor\tmapping\tfreesurfer\n'
        '1\tGrey Matter\tG\t#c04060\t1\tn/a\n2\tWhite Matter\tW\t#c04060\t2\tn/a\n'
        '3\tCSF\tF\t#c04060\t3\tn/a\n'
    )
    group_data.write_scan(root, 'sub-01_T1w', LABELS)
    run(root)
    assert table(root)['tissue_volume'].tolist() == ['1000000.75']


def test_brain_measures_are_columns(root: Path) -> None:
    measures = {'BrainSeg': 1.25e6, 'Grey-Matter': 5.0}
    group_data.write_scan(root, 'sub-01_T1w', LABELS, BrainMeasures=measures)
    group_data.write_scan(root, 'sub-02_T1w', LABELS)
    run(root)
    found = table(root)
    assert found['BrainSeg'].tolist() == ['1250000', 'n/a']
    # The name of a label is taken.
    assert found['Grey-Matter'].tolist() == ['600000.5'] * 2
    assert found['measure_Grey-Matter'].tolist() == ['5', 'n/a']


def test_outliers_are_those_of_numpy(root: Path) -> None:
    volumes = group_data.write_group(root, 40, 6)
    run(root)
    found = table(root)
    shares = 100 * volumes / volumes.sum(axis=1, keepdims=True)
    measures = found[['snr_gm', 'cjv']].astype(float).to_numpy()
    values = np.column_stack([volumes.sum(axis=1), shares, measures])
    away = values - np.median(values, axis=0)
    scores = 0.6745 * away / np.median(np.abs(away), axis=0)
    names = np.array(
        ['brain_volume', *(f'Structure-{index}' for index in range(1, 7)), 'snr_gm', 'cjv']
    )
    largest = np.abs(scores).argmax(axis=1)
    np.testing.assert_allclose(
        found['largest_robust_z'].astype(float),
        scores[np.arange(40), largest],
        atol=2e-3,
    )
    assert found['largest_robust_z_of'].tolist() == names[largest].tolist()
    expected = [','.join(names[row]) or 'n/a' for row in np.abs(scores) > 3.5]
    assert found['outliers'].tolist() == expected
    assert 'Structure-1' in expected[3]
    assert found['n_outliers'].astype(int).tolist() == (np.abs(scores) > 3.5).sum(axis=1).tolist()


def test_one_label_is_compared_by_its_volume(tmp_path: Path) -> None:
    root = tmp_path / 'out'
    group_data.write_labels(root, ['Brain'])
    for scan in range(12):
        volume = 1e6 + 1e4 * scan + 4e5 * (scan == 5)
        group_data.write_scan(root, f'sub-{scan:02d}_T1w', {'Brain': volume}, BrainVolume=None)
    run(root)
    assert table(root)['outliers'].tolist() == ['n/a'] * 5 + ['Brain'] + ['n/a'] * 6


def test_what_cannot_be_read_is_told_and_keeps_its_row(root: Path) -> None:
    names = [f'sub-{number:02d}_T1w' for number in range(1, 9)]
    sidecars = [group_data.write_scan(root, name, LABELS) for name in names]
    tables = [path.with_suffix('.tsv') for path in sidecars]
    sidecars[0].unlink()
    sidecars[1].write_text('{"BrainVolume": "much", "Measures": [1], "Flags": ["odd", 3, {}]}')
    sidecars[2].write_text('{')
    tables[3].unlink()
    tables[4].write_text('index\tname\tvoxels\tvolume\n1\tGrey Matter\t10\t10.5\n2\tWhite Ma')
    tables[5].write_text(tables[5].read_text() + '77\tNew thing\t4\t4.5\n')
    tables[6].write_bytes(b'\xff\xfe\x00binary')
    sidecars[7].with_suffix('').with_suffix('.nii.gz').unlink()
    (sidecars[0].parent / 'copy of labels_dseg.tsv').write_text('index\n')
    (sidecars[0].parent / 'sub-99_seg-x_dseg.tsv').write_text('index\n')
    (sidecars[0].parent / '.brainchop-1-sub-01_seg-x_dseg.tsv').write_text('index\n')
    written = run(root)
    found = table(root)
    assert found['bids_name'].tolist() == names[:7]
    assert found['brain_volume'].tolist() == ['n/a'] * 3 + ['1200000.75'] * 4
    grey = ['600000.5'] * 3 + ['n/a', '10.5', '600000.5', 'n/a']
    assert found['Grey-Matter'].tolist() == grey
    assert found['White-Matter'].tolist()[4] == 'n/a'
    assert found['New-thing'].tolist() == ['n/a'] * 5 + ['4.5', 'n/a']
    assert found['flags'].tolist()[1] == 'odd,3,n/a'
    for message in (
        'sub-01/anat/sub-01_seg-x_dseg.json is missing',
        "sub-02/anat/sub-02_seg-x_dseg.json: BrainVolume is 'much', no number",
        'sub-02/anat/sub-02_seg-x_dseg.json: Measures is no JSON object',
        'sub-03/anat/sub-03_seg-x_dseg.json cannot be read',
        'sub-04/anat/sub-04_seg-x_dseg.tsv is missing',
        'sub-05/anat/sub-05_seg-x_dseg.tsv has no volume for labels 2, 3',
        'sub-06/anat/sub-06_seg-x_dseg.tsv has label 77, not in seg-x_dseg.tsv',
        'sub-07/anat/sub-07_seg-x_dseg.tsv cannot be read',
        'sub-08/anat/sub-08_seg-x_dseg.nii.gz is missing: sub-08_T1w is not finished',
        'sub-01/anat/copy of labels_dseg.tsv is left out',
        'sub-01/anat/sub-99_seg-x_dseg.tsv is left out',
    ):
        assert len([note for note in written.notes if message in note]) == 1, (
            message,
            written.notes,
        )
    assert not [note for note in written.notes if '.brainchop-' in note]


def test_several_models_and_no_label_table(root: Path) -> None:
    group_data.write_scan(root, 'sub-01_T1w', LABELS)
    group_data.write_scan(root, 'sub-01_T1w', {'Brain': 5.0}, slug='y')
    written = run(root)
    assert len(written.paths) == 4
    assert table(root, 'y')['Brain'].tolist() == ['5']
    assert any('seg-y_dseg.tsv is missing' in note for note in written.notes)


def test_names_of_columns_are_used_once(root: Path) -> None:
    labels = dict.fromkeys(['flags', 'brain_volume', 'Same', 'Same ', 'run'], 1.0)
    group_data.write_labels(root, list(labels))
    scan = group_data.write_scan(root, 'sub-01_run-1_T1w', labels, Measures={'Same': 3.5})
    assert scan.exists()
    run(root)
    columns = list(table(root).columns)
    assert len(set(columns)) == len(columns)
    for name in ('flags', 'label-1_flags', 'brain_volume', 'label-2_brain_volume', 'run'):
        assert name in columns
    assert table(root)['run'].tolist() == ['1']
    assert table(root)['measure_Same'].tolist() == ['3.5']


@pytest.mark.parametrize('text', HOSTILE)
def test_hostile_text_stays_in_its_cell(root: Path, text: str) -> None:
    bids = root.parent / 'bids'
    bids.mkdir()
    quoted = text.replace('"', '""').replace('\x00', '')
    (bids / 'participants.tsv').write_text(
        f'participant_id\t"{quoted}"\tplain\nsub-01\t"{quoted}"\tz\nsub-02\ta\tb\n',
        newline='',
    )
    for number in (1, 2):
        group_data.write_scan(
            root,
            f'sub-0{number}_T1w',
            LABELS,
            Measures={text: 1.5},
            Flags=[{'Name': text, 'Value': text, 'Reason': text}],
        )
    tsv = root / 'sub-01/anat/sub-01_seg-x_dseg.tsv'
    tsv.write_text(tsv.read_text() + f'9\t"{quoted}"\t4\t4.5\n', newline='')
    run(root, bids=bids)
    content = (root / 'group_seg-x_dseg.tsv').read_text()
    assert len(content.splitlines()) == len(content.split('\n')) - 1 == 3
    rows = list(csv.reader(content.split('\n')[:3], delimiter='\t', strict=True))
    assert len({len(row) for row in rows}) == 1
    found = table(root)
    assert found['plain'].tolist() == ['z', 'b']
    shown = ' '.join(text.split()).replace('\x00', '\ufffd').replace('\x1b', '\ufffd')
    assert found['flags'].tolist()[0] == ("'=1+1" if shown == '=1+1' else shown)
    # The label of that name comes first.
    (measure,) = (column for column in found if found[column].tolist() == ['1.5', '1.5'])
    assert measure.removeprefix('measure_') == shown.replace(' ', '-')
    name = measure.removeprefix('measure_')
    assert found["'=1+1" if name == '=1+1' else name].tolist()[0] in ('4.5', '1.5')
    assert 'sub-01_T1w' in (root / 'group_seg-x.html').read_text()


def test_lone_surrogates_and_huge_numbers_do_no_harm(root: Path) -> None:
    for number in range(12):
        group_data.write_scan(
            root,
            f'sub-{number:02d}_T1w',
            LABELS,
            Flags=[{'Name': 'a\ud800b'}],
            Measures={'m': 1.7e308 * (-1) ** number, 'n': float('inf')},
        )
    run(root)
    assert table(root)['flags'].tolist()[0] == 'a\\ud800b'
    assert table(root)['m'].tolist()[0] == 'n/a'


def test_participants_and_sessions_are_honoured(root: Path) -> None:
    for name in ('sub-01_T1w', 'sub-02_ses-A_T1w', 'sub-02_ses-B_T1w', 'sub-03_ses-A_T1w'):
        group_data.write_scan(root, name, LABELS)

    def rows(*options: tuple[str, ...]) -> list[str]:
        run(root, *options)
        return table(root)['bids_name'].tolist()

    assert len(rows()) == 4
    assert rows(('01', '03')) == ['sub-01_T1w', 'sub-03_ses-A_T1w']
    assert rows((), ('A',)) == ['sub-02_ses-A_T1w', 'sub-03_ses-A_T1w']
    assert rows(('02',), ('B',)) == ['sub-02_ses-B_T1w']
    missing = run(root, ('02', '07', '01'), ('A',)).unfinished
    assert [line.partition(':')[0] for line in missing] == ['sub-07', 'sub-01']
    with pytest.raises(DatasetError, match='no finished scan'):
        run(root, ('99',))


def test_scans_without_results_have_rows(root: Path) -> None:
    bids = write_dataset(
        root.parent / 'bids', [f'sub-0{n}/anat/sub-0{n}_T1w.nii.gz' for n in range(1, 7)]
    )
    link = bids / 'sub-03/anat/sub-03_T1w.nii.gz'
    link.unlink()
    link.symlink_to('not-here')
    for number in (1, 2, 5):
        group_data.write_scan(root, f'sub-0{number}_T1w', LABELS, Flags=[])
    # The second fails now but has results of an earlier run; the fifth was mended since.
    past = time.time() - 1000
    crash(root, 'sub-05_T1w', 'was empty', past)
    os.utime(root / 'sub-02/anat/sub-02_seg-x_dseg.nii.gz', (past, past))
    for number in (2, 4):
        crash(root, f'sub-0{number}_T1w', 'is <i>empty</i>; fetch it')
    written = run(root, bids=bids)
    found = table(root)
    assert found['bids_name'].tolist() == [f'sub-0{n}_T1w' for n in (1, 2, 5, 3, 4, 6)]
    assert found['status'].tolist() == ['done', 'failed', 'done', 'missing', 'failed', 'missing']
    reasons = found['reason'].tolist()
    assert reasons[0] == reasons[2] == 'n/a'
    assert reasons[1] == 'is <i>empty</i>; fetch it (the results are those of an earlier run)'
    assert 'run: datalad get' in reasons[3]
    assert reasons[4] == 'is <i>empty</i>; fetch it'
    assert 'not processed yet' in reasons[5]
    assert found['brain_volume'].tolist() == ['1200000.75'] * 3 + ['n/a'] * 3
    assert written.unfinished == tuple(
        f'{row.status}: {row.bids_name}: {row.reason}'
        for row in found.itertuples()
        if row.status != 'done'
    )
    page = (root / 'group_seg-x.html').read_text()
    assert '<dt>Scans</dt><dd>6</dd>' in page
    assert '<dt>Failed</dt><dd>2</dd>' in page
    assert '<dt>Missing</dt><dd>2</dd>' in page
    assert '4 scans of the dataset are not done' in page
    assert 'is &lt;i&gt;empty&lt;/i&gt;; fetch it' in page
    assert len(run(root, ('01', '06'), bids=bids).unfinished) == 1
    assert run(root, ('01',), bids=bids).unfinished == ()


def test_the_command_reports_and_writes_the_rest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from brainchop_bids.cli.run import main

    (root.parent / 'bids').mkdir()
    arguments = [str(root.parent / 'bids'), str(root), 'group']
    assert main(arguments) == 2
    assert 'no finished scan' in capsys.readouterr().err
    group_data.write_scan(root, 'sub-01_T1w', LABELS)
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert [Path(line).name for line in out.splitlines()] == [
        'group_seg-x_dseg.tsv',
        'group_seg-x.html',
    ]
    assert 'participants.tsv is missing' in err
    assert main([*arguments, '--participant-label', '01', 'sub-05']) == 1
    assert 'sub-05: no finished scan' in capsys.readouterr().err
    assert table(root)['bids_name'].tolist() == ['sub-01_T1w']


def test_participants_table_is_joined(root: Path) -> None:
    bids = root.parent / 'bids'
    bids.mkdir()
    (bids / 'participants.tsv').write_text(
        '\ufeffparticipant_id\tage\tflags\tsite name\tage\n'
        'sub-02\t35.0\tx\tA\t1\n'
        '01\t07\tn/a\n'
        'sub-03\t1\ty\tB\t1\n'
        'sub-03\t2\ty\tB\t1\n',
        encoding='utf-8',
    )
    for number in (1, 2, 3, 4):
        group_data.write_scan(root, f'sub-0{number}_T1w', LABELS)
    written = run(root, bids=bids)
    found = table(root)
    assert list(found.columns[-3:]) == ['age', 'participants_flags', 'site name']
    assert found['age'].tolist() == ['07', '35.0', 'n/a', 'n/a']
    assert found['participants_flags'].tolist() == ['n/a', 'x', 'n/a', 'n/a']
    assert any('different things of sub-03' in note for note in written.notes)
    assert any('columns of one name' in note for note in written.notes)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'is missing'),
        (b'', 'has no column participant_id'),
        (b'subject\tage\n1\t2\n', 'has no column participant_id'),
        (b'participant_id\tage\nsub-01\t\xff\xfe\n', 'cannot be read'),
        (b'participant_id\tage\nsub-01\t' + b'9' * 200_000 + b'\n', 'cannot be read'),
    ],
)
def test_participants_that_cannot_be_read_are_reported(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / 'participants.tsv').write_bytes(content)
    found = read_participants(tmp_path)
    assert (found.columns, found.rows) == ((), {})
    assert len(found.notes) == 1
    assert message in found.notes[0]


def test_ratings_have_their_columns(root: Path) -> None:
    group_data.write_scan(root, 'sub-01_T1w', LABELS)
    entry = {'participant_id': 'sub-01', 'bids_name': 'sub-01_T1w', 'model': 'x'}
    ratings = [
        {**entry, 'rating': 'fail', 'rater': 'Ann', 'note': 'cut\toff\n<b>'},
        {**entry, 'rating': 'pass', 'rater': 'Bob'},
        {**entry, 'rating': 'pass', 'rater': 'Bob', 'participant_id': 'sub-09'},
    ]
    (root / 'ratings').mkdir()
    (root / 'ratings' / 'all_ratings.json').write_text(json.dumps({'Ratings': ratings}))
    written = run(root)
    columns = ['rating', 'rater', 'rating_note']
    assert table(root)[columns].iloc[0].tolist() == ['mixed', 'Ann; Bob', 'Ann: cut off <b>']
    assert any('the result does not exist' in note for note in written.notes)
    # Those of scans that were not asked for are nobody's fault.
    group_data.write_scan(root, 'sub-02_T1w', LABELS)
    notes = run(root, ('02',)).notes
    assert not [note for note in notes if 'sub-01 sub-01_T1w' in note]
