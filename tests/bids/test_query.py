"""Which scans are found, and what is said when none is."""

import json
import os
from pathlib import Path

import pytest

from brainchop_bids.bids import query
from brainchop_bids.bids.query import check_dataset, find_scans
from brainchop_bids.system.errors import DatasetError
from tests.builders import write_dataset

NAMES = [
    'sub-01/anat/sub-01_T1w.nii.gz',
    'sub-01/anat/sub-01_acq-mp2rage_inv-1_part-phase_T1w.nii.gz',
    'sub-02/ses-A/anat/sub-02_ses-A_run-01_T1w.nii.gz',
    'sub-02/ses-A/anat/sub-02_ses-A_run-02_T1w.nii.gz',
    'sub-02/ses-B/anat/sub-02_ses-B_T1w.nii',
    'sub-02/ses-B/anat/sub-02_ses-B_T2w.nii.gz',
]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_dataset(tmp_path_factory.mktemp('bids'), NAMES)
    (root / 'sub-03' / 'func').mkdir(parents=True)
    (root / 'derivatives' / 'x' / 'sub-01' / 'anat').mkdir(parents=True)
    (root / 'derivatives' / 'x' / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz').touch()
    return root


def labels(selection: query.Selection) -> list[str]:
    return [scan.label for scan in selection.scans]


def test_all_t1w_and_nothing_else(dataset: Path) -> None:
    selection = find_scans(dataset)
    assert labels(selection) == [
        'sub-01_T1w',
        'sub-02_ses-A_run-01_T1w',
        'sub-02_ses-A_run-02_T1w',
        'sub-02_ses-B_T1w',
    ]
    assert selection.empty == ('sub-03',)
    assert selection.missing == ()


def test_filters_and_sessions(dataset: Path) -> None:
    assert labels(find_scans(dataset, sessions=('B',))) == ['sub-02_ses-B_T1w']
    assert labels(find_scans(dataset, filters={'run': 2})) == ['sub-02_ses-A_run-02_T1w']
    found = find_scans(dataset, filters={'part': 'phase'})
    assert labels(found) == ['sub-01_acq-mp2rage_inv-1_part-phase_T1w']


def test_a_missing_participant_does_not_stop_the_others(dataset: Path) -> None:
    selection = find_scans(dataset, participants=('01', '77', '03'))
    assert labels(selection) == ['sub-01_T1w']
    assert 'sub-77: no such participant' in selection.missing[0]
    assert 'there are: 01, 02, 03' in selection.missing[0]
    assert selection.missing[1].startswith('sub-03: no T1w scan')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'participants': ('77',)}, 'there are: 01, 02, 03'),
        ({'sessions': ('C',)}, 'sessions there: A, B'),
        ({'filters': {'acquisition': 'none'}}, "filters {'acquisition': 'none'}"),
    ],
)
def test_nothing_matches(dataset: Path, arguments: dict, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        find_scans(dataset, **arguments)
    assert message in str(caught.value)


def test_only_chosen_participants_are_indexed(dataset: Path) -> None:
    layout = query._index(dataset, ['01'], None)
    indexed = [Path(file).relative_to(dataset).parts[0] for file in layout.files]
    assert 'sub-01' in indexed
    assert not {'sub-02', 'sub-03', 'derivatives'} & set(indexed)


def test_a_database_is_made_and_used(dataset: Path, tmp_path: Path) -> None:
    database = tmp_path / 'index'
    first = find_scans(dataset, participants=('01',), database_dir=database)
    assert (database / 'layout_index.sqlite').exists()
    again = find_scans(dataset, participants=('02',), database_dir=database)
    assert labels(first) == ['sub-01_T1w']
    assert len(again.scans) == 3


def test_bad_datasets(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='no such folder'):
        check_dataset(tmp_path / 'none')
    with pytest.raises(DatasetError, match=r'has no dataset_description\.json'):
        check_dataset(tmp_path)
    description = tmp_path / 'dataset_description.json'
    description.write_text('{"Name": ')
    with pytest.raises(DatasetError, match='cannot be read as JSON'):
        check_dataset(tmp_path)
    description.write_text(json.dumps({'Name': 'x', 'BIDSVersion': '1.8.0'}))
    assert check_dataset(tmp_path)['Name'] == 'x'
    with pytest.raises(DatasetError, match='no participant folders'):
        find_scans(tmp_path)


def test_one_scan_in_two_files(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, [NAMES[0], NAMES[0].removesuffix('.gz')])
    selection = find_scans(root)
    assert labels(selection) == ['sub-01_T1w']
    assert 'is there twice' in selection.missing[0]


def test_scans_that_differ_in_suffix_alone_do_not_share_results(tmp_path: Path) -> None:
    others = ['sub-01/anat/sub-01_T2w.nii.gz', 'sub-01/anat/sub-01_acq-b_T2w.nii.gz']
    root = write_dataset(tmp_path, ['sub-01/anat/sub-01_T1w.nii.gz', *others])
    selection = find_scans(root, filters={'suffix': ['T1w', 'T2w']})
    assert labels(selection) == ['sub-01_T1w', 'sub-01_acq-b_T2w']
    (line,) = selection.missing
    assert 'sub-01_T2w.nii.gz: left out' in line
    assert 'the names of those of sub-01_T1w.nii.gz' in line


def test_a_name_that_is_nearly_bids_does_not_stop_the_others(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, [NAMES[0], 'sub-02/anat/sub-02_acq-_T1w.nii.gz'])
    selection = find_scans(root)
    assert labels(selection) == ['sub-01_T1w']
    assert 'left out' in selection.missing[0]


def test_a_link_whose_content_is_elsewhere(tmp_path: Path) -> None:
    link = tmp_path / 'sub-01_T1w.nii.gz'
    link.symlink_to('.git/annex/objects/x.nii.gz')
    assert 'datalad get' in (query.why_absent(link) or '')
    link.unlink()
    assert 'is gone' in (query.why_absent(link) or '')
    link.touch()
    assert query.why_absent(link) is None


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_dataset(tmp_path, [NAMES[0], 'sub-04/anat/sub-04_T1w.nii.gz'])
    closed = root / 'sub-04' / 'anat'
    closed.chmod(0)
    if os.geteuid() == 0:
        # Root may read everything: let the system call answer as it does for others.
        real = Path.iterdir

        def iterdir(path: Path):
            if path == closed:
                raise PermissionError(13, 'Permission denied', str(path))
            return real(path)

        monkeypatch.setattr(Path, 'iterdir', iterdir)
    selection = find_scans(root)
    closed.chmod(0o755)
    assert labels(selection) == ['sub-01_T1w']
    assert 'no permission to read' in selection.missing[0]
