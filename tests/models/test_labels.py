import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.models.freesurfer import freesurfer_code
from brainchop_bids.models.labels import (
    Label,
    LabelTable,
    add_known_codes,
    camel_case,
    distinct_colors,
    parse_color,
    unique_abbreviations,
)
from brainchop_bids.system.errors import ModelError


def test_values_in_images_are_indices_or_freesurfers_codes():
    names = ['Unknown', 'Right-Hippocampus', 'Left-Cerebral-White-Matter', 'Brain-Stem']
    table = LabelTable.from_names(names)
    assert table.values() == (0, 1, 2, 3)
    # As FreeSurferColorLUT.txt has them.
    assert table.values('freesurfer') == (0, 53, 2, 16)
    assert table.by_value('freesurfer')[53].name == 'Right-Hippocampus'
    rows = [line.split('\t')[:2] for line in table.to_tsv('freesurfer').splitlines()[1:]]
    assert rows == [['0', names[0]], ['2', names[2]], ['16', names[3]], ['53', names[1]]]
    # Beyond the largest number of that table, 14175, and within 16 bits with a sign.
    free = LabelTable.from_names(['Unknown', 'Lesion', 'Brain-Stem'])
    assert free.values('freesurfer') == (0, 30001, 16)
    rows = [line.split('\t') for line in free.to_tsv('freesurfer').splitlines()]
    assert [(row[0], row[5]) for row in rows[2:]] == [('16', '16'), ('30001', 'n/a')]


def test_a_table_survives_its_tsv(tmp_path):
    table = LabelTable(
        (
            Label(0, 'background', 'BG', (0, 0, 0), 0, 0),
            Label(1, 'a "quoted" name', 'Quoted', (255, 1, 16), None, 17),
        )
    )
    path = tmp_path / 'seg-x_dseg.tsv'
    path.write_text(table.to_tsv())
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    assert [row['name'] for row in rows] == ['background', 'a "quoted" name']
    assert path.read_text().splitlines()[0] == (
        'index\tname\tabbreviation\tcolor\tmapping\tfreesurfer'
    )
    assert '#ff0110\tn/a\t17' in path.read_text()


@given(st.lists(st.text(max_size=12), max_size=30))
def test_any_names_make_a_table_with_unique_file_names(names):
    table = LabelTable.from_names(names)
    shorts = [label.abbreviation.lower() for label in table]
    assert len(set(shorts)) == len(names)
    assert all(short.isascii() and short.isalnum() for short in shorts)
    assert len(table.to_tsv().splitlines()) == len(names) + 1 or any(
        # Line separators beyond \n that Python counts and TSV does not.
        set(name) & set('\x1c\x1d\x1e\x85\u2028\u2029\x0b\x0c')
        for name in names
    )


@pytest.mark.parametrize('count', [1, 3, 18, 104, 300])
def test_made_up_colors_differ(count):
    colors = distinct_colors(count)
    assert colors[0] == (0, 0, 0)
    assert len(set(colors)) == count


def test_colors_of_a_table_are_an_array():
    table = LabelTable.from_names(['a', 'b'], [(0, 0, 0), (1, 2, 3)])
    np.testing.assert_array_equal(table.colors, np.array([[0, 0, 0], [1, 2, 3]], np.uint8))
    assert LabelTable(()).colors.shape == (0, 3)


@pytest.mark.parametrize(
    ('value', 'color'),
    [
        ('rgb(0,0,0)', (0, 0, 0)),
        ('rgb( 205, 62 ,78)', (205, 62, 78)),
        ('rgba(1,2,3,0.5)', (1, 2, 3)),
        ('#CD3E4e', (205, 62, 78)),
        ([1, 2, 3], (1, 2, 3)),
    ],
)
def test_forms_of_a_color(value, color):
    assert parse_color(value) == color


@pytest.mark.parametrize('value', ['red', 'rgb(0,0,256)', '#12', [1, 2], [1, 2, 3.5], None, 7])
def test_what_is_no_color(value):
    with pytest.raises(ValueError, match='is no colour'):
        parse_color(value)


def test_tables_with_gaps_or_twins_are_refused():
    with pytest.raises(ModelError, match='without gaps'):
        LabelTable((Label(1, 'a', 'a', (0, 0, 0)),))
    twins = Label(0, 'a', 'WM', (0, 0, 0)), Label(1, 'b', 'wm', (0, 0, 0))
    with pytest.raises(ModelError, match='no other label'):
        LabelTable(twins)


def test_abbreviations():
    assert camel_case('Left-Thalamus-Proper*') == 'LeftThalamusProper'
    assert unique_abbreviations(['WM', 'wm', 'WM', '**']) == ['WM', 'Wmx2', 'WMx3', 'Label3']


def test_freesurfer_names_are_matched_exactly():
    assert freesurfer_code('Left-Accumbens-area') == 26
    assert freesurfer_code('ctx-rh-superiorparietal') == 2029
    assert freesurfer_code('ctx-lh-corpuscallosum') == 1004
    assert freesurfer_code('left-accumbens-area') is None


def test_a_lone_white_label_gets_a_colour_that_is_seen_on_a_scan():
    facts = (Label(0, 'BG', 'BG', (0, 0, 0), 0, 0), Label(1, 'brain', 'Brain', (230, 159, 0)))
    for theirs, seen in (((255, 255, 255), (230, 159, 0)), ((0, 90, 0), (0, 90, 0))):
        own = LabelTable.from_names(['BG', 'brain'], [(1, 1, 1), theirs])
        assert [label.color for label in add_known_codes(own, facts)] == [(1, 1, 1), seen]


def test_a_renamed_label_keeps_nothing_that_its_old_name_meant():
    facts = (Label(0, 'BG', 'BG', (0, 0, 0), 0, 0), Label(1, 'White Matter', 'WM', (9, 9, 9), 2))
    own = LabelTable.from_names(['bg', 'Lesion'], [(1, 1, 1), (2, 2, 2)])
    background, lesion = add_known_codes(own, facts)
    assert (background.mapping, background.color) == (0, (1, 1, 1))
    assert (lesion.mapping, lesion.abbreviation) == (None, 'Lesion')
