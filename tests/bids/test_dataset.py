"""The description of the derivatives."""

from pathlib import Path

from brainchop_bids.bids.dataset import describe


def test_links_to_the_input(tmp_path: Path) -> None:
    raw = tmp_path / 'bids'
    inside = describe({'Name': 'x', 'DatasetDOI': 'doi:1'}, raw, raw / 'derivatives' / 'y')
    assert inside['DatasetLinks'] == {'raw': '../..'}
    assert inside['SourceDatasets'] == [{'URL': raw.as_uri(), 'DOI': 'doi:1'}]
    outside = describe({}, raw, tmp_path / 'out')
    assert outside['DatasetLinks'] == {'raw': raw.as_uri()}
    assert outside['Name'] == 'Brain labels of bids'
    assert outside['GeneratedBy'][0]['Name'] == 'brainchop-bids'
