"""Names against pybids' own parser and the order in the BIDS schema."""

import pytest
from bids.layout import parse_file_entities
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.bids.names import ScanName
from brainchop_bids.system.errors import DatasetError

value = st.text('abcXYZ0189', min_size=1, max_size=6)
ORDER = ('sub', 'ses', 'acq', 'ce', 'rec', 'run', 'echo', 'inv', 'part', 'chunk')
entities = st.fixed_dictionaries(
    {'sub': value},
    optional={
        'ses': value,
        'acq': value,
        'ce': value,
        'rec': value,
        'run': st.integers(0, 99).map('{:02d}'.format),
        'echo': st.integers(1, 9).map(str),
        'inv': st.integers(1, 9).map(str),
        'part': st.sampled_from(['mag', 'real']),
        'chunk': st.integers(1, 9).map(str),
    },
).map(lambda pairs: {key: pairs[key] for key in ORDER if key in pairs})


@given(entities)
def test_every_entity_of_the_source_is_kept(pairs: dict[str, str]) -> None:
    stem = '_'.join(f'{key}-{value}' for key, value in pairs.items())
    name = ScanName.parse(f'{stem}_T1w.nii.gz')
    assert name.stem == f'{stem}_T1w'
    derived = name.name('dseg', '.nii.gz', space='conform', seg='x')
    before, after = (
        parse_file_entities(f'/{name.folder}/{text}') for text in (f'{stem}_T1w.nii.gz', derived)
    )
    for key in set(before) - {'suffix'}:
        assert str(after[key]) == str(before[key])
    assert (after['space'], after['suffix']) == ('conform', 'dseg')


@given(entities)
def test_the_order_is_the_schema_s(pairs: dict[str, str]) -> None:
    from bidsschematools.schema import load_schema

    schema = load_schema()
    order = [schema.objects.entities[key].name for key in schema.rules.entities]
    stem = '_'.join(f'{key}-{value}' for key, value in pairs.items())
    derived = ScanName.parse(f'{stem}_T1w.nii').name(
        'probseg', '.nii.gz', space='conform', seg='x', label='GM', desc='y'
    )
    keys = [pair.split('-')[0] for pair in derived.split('_')[:-1]]
    assert keys == sorted(keys, key=order.index)


@pytest.mark.parametrize('name', ['T1w.nii.gz', 'sub-01.nii.gz', 'sub-_T1w.nii', 'x-1_T1w.nii'])
def test_a_name_that_is_not_bids_is_refused(name: str) -> None:
    with pytest.raises(DatasetError, match='no BIDS name'):
        ScanName.parse(name)
