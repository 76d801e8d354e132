"""The description of the derivatives."""

from pathlib import Path

import pytest

from brainchop_bids.bids.dataset import container_facts, describe


def test_links_to_the_input(tmp_path: Path) -> None:
    raw = tmp_path / 'bids'
    inside = describe({'Name': 'x', 'DatasetDOI': 'doi:1'}, raw, raw / 'derivatives' / 'y')
    assert inside['DatasetLinks'] == {'raw': '../..'}
    assert inside['SourceDatasets'] == [{'URL': raw.as_uri(), 'DOI': 'doi:1'}]
    outside = describe({}, raw, tmp_path / 'out')
    assert outside['DatasetLinks'] == {'raw': raw.as_uri()}
    assert outside['Name'] == 'Brain labels of bids'
    assert outside['GeneratedBy'][0]['Name'] == 'brainchop-bids'


def test_the_image_is_named_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / 'bids'
    monkeypatch.delenv('BRAINCHOP_IMAGE', raising=False)
    assert 'Container' not in describe({}, raw, tmp_path / 'out')['GeneratedBy'][0]
    monkeypatch.setenv('BRAINCHOP_IMAGE', 'brainchop-bids:1')
    made = describe({}, raw, tmp_path / 'out')['GeneratedBy'][0]
    assert made['Container']['Tag'] == 'brainchop-bids:1'


@pytest.mark.parametrize(
    ('names', 'kind'),
    [
        ((), 'docker'),
        (('APPTAINER_CONTAINER',), 'singularity'),
        (('SINGULARITY_CONTAINER',), 'singularity'),
    ],
)
def test_the_kind_of_container(names: tuple[str, ...], kind: str) -> None:
    facts = container_facts({'BRAINCHOP_IMAGE': 'x:1', **dict.fromkeys(names, '/x.sif')})
    assert facts == {'Type': kind, 'Tag': 'x:1'}
    assert container_facts(dict.fromkeys(names, '/other.sif')) == {}
