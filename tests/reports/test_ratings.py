"""Ratings from files that people made, sent around and edited."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainchop_bids.bids.derivatives import ScanOutputs
from brainchop_bids.bids.names import ScanName
from brainchop_bids.reports.ratings import ENTRIES, Verdict, merge_ratings, read_ratings
from brainchop_bids.reports.records import ScanRecord

SCANS = {
    'x': [
        ScanRecord(
            ScanOutputs(Path('out'), ScanName.parse(f'sub-0{number}_T1w.nii.gz'), 'x'),
            metadata={
                'Brainchop': {'SourceSHA256': 'ab' * 32},
                'Model': {'SHA256': 'cd' * 32},
            },
        )
        for number in (1, 2)
    ]
}


def entry(**changed: Any) -> dict[str, Any]:
    return {
        'participant_id': 'sub-01',
        'bids_name': 'sub-01_T1w',
        'model': 'x',
        'rating': 'pass',
        'note': '',
        'rater': 'Ann',
        'rated': '2026-11-21T20:15:00Z',
        'source_sha256': 'ab' * 32,
        'model_sha256': 'cd' * 32,
        **changed,
    }


def write_json(path: Path, *entries: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({'Ratings': list(entries)}))


def write_tsv(path: Path, *entries: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, ENTRIES, delimiter='\t', lineterminator='\n')
        writer.writeheader()
        writer.writerows(entries)


def merged(root: Path) -> tuple[dict[tuple[str, str], Verdict], list[str]]:
    ratings, notes = read_ratings(root)
    verdicts, unused = merge_ratings(ratings, SCANS)
    return verdicts, notes + unused


def test_both_formats_and_both_places_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / 'sub-01_ratings.json', entry(rating='fail', note='cut off'))
    write_tsv(
        tmp_path / 'ratings' / 'bob_ratings.tsv',
        entry(bids_name='sub-02_T1w', participant_id='sub-02', rater='Bob', note='a "good"\tone'),
    )
    (tmp_path / 'other.json').write_text('{')
    verdicts, notes = merged(tmp_path)
    assert notes == []
    assert verdicts == {
        ('x', 'sub-01_T1w'): Verdict('fail', ('Ann',), 'cut off'),
        ('x', 'sub-02_T1w'): Verdict('pass', ('Bob',), 'a "good" one'),
    }


def test_raters_agree_or_do_not(tmp_path: Path) -> None:
    second = {'bids_name': 'sub-02_T1w', 'participant_id': 'sub-02'}
    write_json(
        tmp_path / 'a_ratings.json',
        entry(note='fine'),
        entry(rater='Bob', note='good'),
        entry(**second),
        entry(**second, rater='Bob', rating='unsure', note='motion?'),
    )
    verdicts, notes = merged(tmp_path)
    assert notes == []
    assert verdicts['x', 'sub-01_T1w'] == Verdict('pass', ('Ann', 'Bob'), 'Ann: fine; Bob: good')
    assert verdicts['x', 'sub-02_T1w'] == Verdict('mixed', ('Ann', 'Bob'), 'Bob: motion?')


@pytest.mark.parametrize(
    ('earlier', 'later'),
    [
        ('2026-11-21T20:15:00Z', '2026-11-21T20:15:01Z'),
        ('2026-11-21T20:15:00+02:00', '2026-11-21T20:14:00Z'),
        ('2026-11-21', '2026-11-21T00:00:01'),
        ('yesterday', '1999-01-01T00:00:00Z'),
        ('', '0001-01-01T00:00:01Z'),
    ],
)
def test_the_latest_of_one_rater_counts(tmp_path: Path, earlier: str, later: str) -> None:
    old = entry(rating='fail', rated=earlier, note='old')
    new = entry(rated=later, rater='ANN', note='new')
    for name, entries in (('a', (old, new)), ('b', (new, old))):
        write_json(tmp_path / name / 'r_ratings.json', *entries)
        verdicts, _ = merged(tmp_path / name)
        assert verdicts['x', 'sub-01_T1w'] == Verdict('pass', ('ANN',), 'new')


def test_those_without_a_name_are_different_people_in_different_files(tmp_path: Path) -> None:
    write_json(tmp_path / 'a_ratings.json', entry(rater=''), entry(rater='', rating='unsure'))
    verdicts, _ = merged(tmp_path)
    assert verdicts['x', 'sub-01_T1w'] == Verdict('unsure', ('',), '')
    write_json(tmp_path / 'b_ratings.json', entry(rater='', rating='fail', note='no'))
    verdicts, _ = merged(tmp_path)
    assert verdicts['x', 'sub-01_T1w'] == Verdict('mixed', ('', ''), 'anonymous: no')


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'source_sha256': 'ee' * 32}, 'the scan has changed since'),
        ({'model_sha256': 'ee' * 32}, 'of the result of an earlier model'),
        ({'bids_name': 'sub-07_T1w'}, 'the result does not exist'),
        ({'participant_id': 'sub-02'}, 'the result does not exist'),
        ({'model': 'y'}, 'the result does not exist'),
        ({'model': None}, 'it has no model'),
        ({'rating': 'perhaps'}, "'perhaps' is none of pass, fail, unsure"),
        ({'rating': ['pass']}, 'is none of'),
    ],
)
def test_what_is_not_of_this_result_is_reported(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    write_json(tmp_path / 'a_ratings.json', entry(**changed))
    verdicts, notes = merged(tmp_path)
    assert verdicts == {}
    assert len(notes) == 1
    assert message in notes[0]
    assert notes[0].startswith('a_ratings.json')


def test_checksums_count_only_where_both_are_known(tmp_path: Path) -> None:
    write_json(tmp_path / 'a_ratings.json', entry(source_sha256='', model_sha256='CD' * 32))
    assert merged(tmp_path)[0]
    ratings, _ = read_ratings(tmp_path)
    bare = [replace(SCANS['x'][0], metadata={})]
    assert merge_ratings(ratings, {'x': bare})[0]


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('a_ratings.json', b'{"Ratings": [{]}'),
        ('a_ratings.json', b'[1, 2]'),
        ('a_ratings.json', b'{"Ratings": {}}'),
        ('a_ratings.json', b'[' * 100_000),
        ('a_ratings.json', b'\xff\xfe'),
        ('a_ratings.tsv', b''),
        ('a_ratings.tsv', b'name\tvalue\nx\ty\n'),
        ('a_ratings.tsv', b'\xff\xfe'),
        ('a_ratings.tsv', b'bids_name\trating\n"' + b'x' * 200_000 + b'"\tpass\n'),
    ],
)
def test_files_that_cannot_be_read_are_reported(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    write_json(tmp_path / 'b_ratings.json', entry())
    verdicts, notes = merged(tmp_path)
    assert len(verdicts) == 1
    assert len(notes) == 1
    assert notes[0].startswith(f'{name} cannot be read')
    assert '\n' not in notes[0]


def test_a_folder_and_entries_that_are_none_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / 'x_ratings.json').mkdir()
    write_json(tmp_path / 'y_ratings.json', None, 'pass', [entry()], entry())
    verdicts, notes = merged(tmp_path)
    assert len(verdicts) == 1
    assert [note.count('is no JSON object') for note in notes] == [1, 1, 1]


def test_a_table_by_hand(tmp_path: Path) -> None:
    """Quotation marks that are only text, missing cells and columns, Excel's byte-order mark."""
    (tmp_path / 'a_ratings.tsv').write_text(
        '\ufeffparticipant_id\tbids_name\tmodel\trating\tnote\r\n'
        '01\tsub-01_T1w\tx\tFAIL\t"bad" I\'d say\r\n'
        'sub-02\tsub-02_T1w\tx\tpass\r\n',
        encoding='utf-8',
        newline='',
    )
    verdicts, notes = merged(tmp_path)
    assert notes == []
    assert verdicts == {
        ('x', 'sub-01_T1w'): Verdict('fail', ('',), '"bad" I\'d say'),
        ('x', 'sub-02_T1w'): Verdict('pass', ('',), ''),
    }


def test_hostile_notes_stay_one_line_of_text(tmp_path: Path) -> None:
    note = '<script>alert("1")</script>\t\n\x1b[2J\ud800 🧠'
    write_json(tmp_path / 'a_ratings.json', entry(note=note), entry(rating=note))
    verdicts, notes = merged(tmp_path)
    shown = '<script>alert("1")</script> \ufffd[2J\\ud800 🧠'
    assert verdicts['x', 'sub-01_T1w'].note == shown
    assert all('\n' not in line and '\x1b' not in line for line in notes)
