"""Derivatives read back, as written and after edits by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainchop_bids.bids.derivatives import FIGURES
from brainchop_bids.reports.collect import read_groups, read_participant
from brainchop_bids.reports.sidecars import number, read_label_table

Add = Callable[..., Path]


def test_a_finished_scan_is_read_whole(derivatives: Path) -> None:
    (scan,) = read_participant(derivatives, '01')
    assert (scan.bids_name, scan.slug, scan.model) == ('sub-01_T1w', 'gw', 'model5_gw_ae')
    assert scan.finished
    assert scan.notes == ()
    assert scan.source == 'sub-01/anat/sub-01_T1w.nii.gz'
    assert scan.brain_volume == 1234567.0
    rows = [(row.index, row.name, row.voxels, row.volume, row.color) for row in scan.rows]
    assert rows == [
        (1, 'White Matter', 10, 12.5, '#ffffff'),
        (2, 'Grey Matter', 30, 37.25, '#cd3e4e'),
    ]
    assert scan.labelled_volume == 49.75
    grid = scan.grids[0]
    assert (grid.shape, grid.zooms, grid.orientation) == ((4, 5, 6), (1.0, 1.25, 1.5), 'RAS')
    assert scan.figures.keys() == FIGURES.keys()


def test_participant_and_group_get_the_same_record(add_result: Add) -> None:
    table = 'index\tname\tvoxels\tvolume\n1\tWhite\t10\tn/a\n77\tNew\t5\t5.0\n'
    edited = {'BrainVolume': 'much', 'Measures': {'cjv': 0.5, 'x': []}, 'Flags': ['odd', {}]}
    root = add_result('sub-01_T1w', sidecar=json.dumps(edited), volumes=table).parents[1]
    (record,) = read_participant(root, '01')
    ((group,), notes) = read_groups(root)
    assert group.scans == (replace(record, grids=(), figures={}),)
    assert [flag.name for flag in record.flags or ()] == ['odd', 'n/a']
    assert record.measures == {'cjv': 0.5, 'x': None}
    assert record.brain_volume is None
    assert notes == [f'sub-01/anat/{note}' for note in record.notes]
    assert len(notes) == 5


def test_the_prefix_of_a_label_does_not_matter(derivatives: Path) -> None:
    assert read_participant(derivatives, 'sub-01') == read_participant(derivatives, '01')


def test_runs_sessions_and_models_are_kept_apart(derivatives: Path, add_result: Add) -> None:
    add_result('sub-01_run-2_T1w')
    add_result('sub-01_T1w', slug='other')
    add_result('sub-01_ses-A_T1w')
    add_result('sub-02_T1w')
    found = [(scan.bids_name, scan.slug) for scan in read_participant(derivatives, '01')]
    assert found == [
        ('sub-01_T1w', 'gw'),
        ('sub-01_T1w', 'other'),
        ('sub-01_run-2_T1w', 'gw'),
        ('sub-01_ses-A_T1w', 'gw'),
    ]
    (only,) = read_participant(derivatives, '01', 'ses-A')
    assert only.bids_name == 'sub-01_ses-A_T1w'


@pytest.mark.parametrize('participant', ['99', '', '../01', '*', 'sub-', 'a/b', 'x' * 300])
def test_nobody_is_found_where_nobody_is(derivatives: Path, participant: str) -> None:
    assert read_participant(derivatives, participant) == []


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', 'cannot be read'),
        ('{"Model": ', 'cannot be read'),
        ('[1, 2]', 'holds no JSON object'),
        ('"<script>"', 'holds no JSON object'),
        ('\ufeff{', 'cannot be read'),
        ('{"a":' * 100_000, 'cannot be read'),
    ],
)
def test_a_broken_sidecar_becomes_a_note(add_result: Add, text: str, reason: str) -> None:
    root = add_result('sub-03_T1w', sidecar=text).parents[1]
    (scan,) = read_participant(root, '03')
    assert scan.metadata == {}
    assert len(scan.volumes) == 2
    (note,) = scan.notes
    assert note.startswith('sub-03_seg-gw_dseg.json')
    assert reason in note
    assert '\n' not in note


@pytest.mark.parametrize('value', [None, 7, 'text', True, [], {}, [[]], {'Name': ['x', {}]}])
def test_values_of_another_kind_do_no_harm(
    add_result: Add, sidecar_facts: Callable[..., dict[str, Any]], value: object
) -> None:
    edited = dict.fromkeys(sidecar_facts(), value)
    root = add_result('sub-03_T1w', sidecar=json.dumps(edited)).parents[1]
    (scan,) = read_participant(root, '03')
    assert isinstance(scan.model, str)
    assert scan.text('Model', 'SHA256') == ''
    assert all(isinstance(text, str) for text in scan.warnings)


def test_a_sidecar_that_is_no_text_becomes_a_note(derivatives: Path) -> None:
    (derivatives / 'sub-01/anat/sub-01_seg-gw_dseg.json').write_bytes(b'\xff\xfe\x00{')
    (scan,) = read_participant(derivatives, '01')
    assert 'cannot be read' in scan.notes[0]


@pytest.mark.parametrize(
    'text',
    ['', 'name\tvoxels\nx\t1\n', 'index\tname\nx\ty\n', 'index\tname\n1.5\ty\n', 'index\n1e999\n'],
)
def test_a_broken_table_of_volumes_becomes_a_note(add_result: Add, text: str) -> None:
    root = add_result('sub-03_T1w', volumes=text).parents[1]
    (scan,) = read_participant(root, '03')
    assert scan.rows == ()
    assert any('volumes are unknown' in note for note in scan.notes)


def test_numbers_that_are_none_are_none(add_result: Add) -> None:
    table = 'index\tname\tvoxels\tvolume\n1\tA\tn/a\tnan\n2\tB\n'
    root = add_result('sub-03_T1w', volumes=table).parents[1]
    (scan,) = read_participant(root, '03')
    assert [(row.voxels, row.volume) for row in scan.rows] == [(None, None), (None, None)]
    assert scan.labelled_volume == 0


def test_labels_that_the_table_lacks_are_kept_and_reported(add_result: Add) -> None:
    table = 'index\tname\tvoxels\tvolume\n0\tair\t9\t9\n77\tUnheard of\t5\t5.0\n'
    root = add_result('sub-03_T1w', volumes=table).parents[1]
    (scan,) = read_participant(root, '03')
    assert [(row.index, row.color) for row in scan.rows] == [(77, None)]
    assert scan.notes == (
        'sub-03_seg-gw_dseg.tsv has label 77, not in seg-gw_dseg.tsv',
        'sub-03_seg-gw_dseg.tsv has no volume for labels 1, 2',
    )


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('sub-01/anat/sub-01_seg-gw_dseg.json', 'model, settings and measures are unknown'),
        ('sub-01/anat/sub-01_seg-gw_dseg.tsv', 'volumes are unknown'),
        ('sub-01/anat/sub-01_seg-gw_dseg.nii.gz', 'not finished'),
        ('sub-01/figures/sub-01_seg-gw_desc-cuts_dseg.webp', 'run with --reports-only'),
        ('seg-gw_dseg.tsv', 'label colours are unknown'),
    ],
)
def test_a_missing_file_becomes_a_note(derivatives: Path, name: str, message: str) -> None:
    (derivatives / name).unlink()
    (scan,) = read_participant(derivatives, '01')
    (note,) = scan.notes
    assert message in note
    assert scan.finished == (not name.endswith('dseg.nii.gz'))


def test_an_image_with_a_broken_header_becomes_a_note(derivatives: Path) -> None:
    (derivatives / 'sub-01/anat/sub-01_seg-gw_dseg.nii.gz').write_bytes(b'no image')
    (scan,) = read_participant(derivatives, '01')
    assert [grid.name for grid in scan.grids] == ['conformed scan']
    assert len(scan.notes) == 1
    assert str(derivatives) not in scan.notes[0]


def test_colours_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / 'seg-x_dseg.tsv'
    path.write_text('index\tname\tcolor\n1\tA\t#12ABef\n2\tB\tred;}\n3\tC\t\nx\tD\t#000000\n')
    table = read_label_table(path)
    assert {index: style.color for index, style in table.items()} == {
        1: '#12abef',
        2: None,
        3: None,
    }


@pytest.mark.parametrize('value', [None, True, [], {}, 'n/a', '', 'inf', float('nan'), 10**400])
def test_what_is_no_number_is_none(value: object) -> None:
    assert number(value) is None
