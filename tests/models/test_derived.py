"""Segmentations that follow from a model's labels by a table."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from brainchop_bids.app.workload import drop_duplicates
from brainchop_bids.models.convert import describe_model
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.system.errors import ModelError
from tests.tfjs_folder import two_layers

STRUCTURES = ('Unknown', 'CSF', 'Left-Cerebral-Cortex', 'Brain-Stem', 'Right-VentralDC')
TABLE = Path(__file__).parents[2] / 'brainchop_bids/data/mappings/aseg_to_tissue.tsv'


def structures(folder: Path, **facts: object) -> ModelSpec:
    two_layers(folder, classes=len(STRUCTURES))
    content = {
        'normalization': 'minmax',
        'labels': [{'name': name} for name in STRUCTURES],
        'derived': {'tissue': 'aseg_to_tissue'},
        **facts,
    }
    (folder / 'brainchop.json').write_text(json.dumps(content))
    return load_spec(folder)


def test_labels_are_those_of_the_packaged_model_by_the_table(tmp_path: Path) -> None:
    spec = structures(tmp_path / 'net')
    [tissue] = spec.derived
    assert (tissue.name, tissue.table) == ('tissue', 'aseg_to_tissue')
    assert tissue.labels == load_spec(find_model('tissue')).labels
    with TABLE.open(newline='') as file:
        rows = {row['name']: row for row in csv.DictReader(file, delimiter='\t')}
    assert tissue.values == tuple(int(rows[name]['index']) for name in STRUCTURES)
    short = [tissue.labels.by_value()[value].abbreviation for value in tissue.values]
    assert short == [rows[name]['label'] for name in STRUCTURES]
    assert describe_model(spec)['derived'] == {'tissue': 'aseg_to_tissue'}


def test_every_table_fits_the_packaged_model_of_its_name(tmp_path: Path) -> None:
    names = [{'name': name} for name in (*STRUCTURES[:1], 'Left-Thalamus', *STRUCTURES[2:])]
    spec = structures(
        tmp_path / 'net', labels=names, derived={'subcortical': 'aseg_to_subcortical'}
    )
    [derived] = spec.derived
    assert derived.labels.by_value()[derived.values[1]].name == 'Thalamus'


@pytest.mark.parametrize(
    ('labels', 'said'),
    [
        ([{'index': 3, 'freesurfer': None}], r'no place for Brain-Stem \(no code\); give'),
        ([{'index': 3, 'freesurfer': 999}], r'no place for Brain-Stem \(999\); give'),
    ],
)
def test_a_label_without_a_place_in_the_table(
    tmp_path: Path, labels: list[dict[str, object]], said: str
) -> None:
    named = [{'name': name} for name in STRUCTURES]
    with pytest.raises(ModelError, match=said) as caught:
        structures(tmp_path / 'net', labels=[*named, *labels])
    assert str(tmp_path / 'net' / 'brainchop.json') in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'derived',
    [3, {'tissue': 'none'}, {'tissue': None}, {'lobes': 'aseg_to_tissue'}, ['tissue']],
)
def test_what_is_no_table_is_refused(tmp_path: Path, derived: object) -> None:
    with pytest.raises(
        ModelError, match=r'expected names of .*tissue, each with one of .*aseg_to'
    ):
        structures(tmp_path / 'net', derived=derived)


def test_a_table_of_other_labels_is_refused(tmp_path: Path) -> None:
    names = [{'name': name} for name in ('Unknown', 'Brain-Stem')]
    two_layers(tmp_path / 'net', classes=2)
    content = {'labels': names, 'derived': {'tissue': 'aseg_to_subcortical'}}
    (tmp_path / 'net' / 'brainchop.json').write_text(json.dumps(content))
    with pytest.raises(ModelError, match='aseg_to_subcortical has 18 labels; expected 4'):
        load_spec(tmp_path / 'net')


def test_of_two_with_one_name_the_model_s_own_stays(tmp_path: Path) -> None:
    first, second = structures(tmp_path / 'first'), structures(tmp_path / 'second')
    specs, notes = drop_duplicates([first, second])
    assert specs == [first, replace(second, derived=())]
    assert len(notes) == 1
    assert notes[0].startswith('seg-tissue is that of first; ')
    own = load_spec(find_model('tissue'))
    specs, notes = drop_duplicates([first, own])
    assert specs == [replace(first, derived=()), own]
    assert 'that of tissue; the one derived from the labels of first is left out' in notes[0]


@pytest.mark.parametrize(
    ('facts', 'expected'),
    [
        ({}, True),
        ({'mask': None}, False),
        ({'labels': []}, False),
        ({'intracranial': False}, False),
        ({'labels': [], 'intracranial': True}, True),
        ({'mask': None, 'intracranial': True}, False),
    ],
)
def test_which_models_tell_the_intracranial_volume(
    tmp_path: Path, facts: dict[str, object], expected: bool
) -> None:
    assert structures(tmp_path / 'net', **{'derived': {}, **facts}).intracranial is expected
