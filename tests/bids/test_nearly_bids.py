"""Scans that are nearly BIDS are named, with what is wrong; all others are found."""

import json
import subprocess
from pathlib import Path

import pathspec
import pytest
from bids.layout.models import Config
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.bids.filters import ENTITIES, check_filters, read_filters
from brainchop_bids.bids.ignored import read_bidsignore
from brainchop_bids.bids.near_misses import is_utf8, shown
from brainchop_bids.bids.query import find_scans
from brainchop_bids.system.errors import DatasetError, SettingsError
from tests.builders import write_dataset
from tests.corpus.datasets import FAULTS, Fault

GOOD = ['sub-01/anat/sub-01_T1w.nii.gz', 'sub-02/ses-A/anat/sub-02_ses-A_run-02_T1w.nii.gz']


def labels(root: Path, **selection: object) -> list[str]:
    return [scan.label for scan in find_scans(root, **selection).scans]  # type: ignore[arg-type]


@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.__name__)
def test_each_near_miss_has_one_line(tmp_path: Path, fault: Fault) -> None:
    root = write_dataset(tmp_path, GOOD[:1])
    where, words = fault(root)
    selection = find_scans(root)
    assert [scan.label for scan in selection.scans] == ['sub-01_T1w']
    [line] = selection.notes
    assert line.startswith(f'{root}/{where}: ')
    assert words in line


@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.__name__)
def test_where_there_is_nothing_else_the_error_says_it(tmp_path: Path, fault: Fault) -> None:
    root = write_dataset(tmp_path, [])
    where, words = fault(root)
    with pytest.raises(DatasetError) as caught:
        find_scans(root)
    assert f'{root}/{where}: ' in str(caught.value)
    assert words in str(caught.value)


def test_what_is_in_order_has_no_line(tmp_path: Path) -> None:
    names = [
        *GOOD,
        'sub-01/anat/sub-01_part-phase_T1w.nii.gz',
        'sub-01/anat/sub-01_UNIT1.nii.gz',
        'sub-01/anat/sub-01_T1map.nii.gz',
        'sub-02/ses-A/anat/sub-02_ses-A_T2w.nii.gz',
        'sub-02/ses-B/func/sub-02_ses-B_task-x_bold.nii.gz',
    ]
    root = write_dataset(tmp_path, names)
    # Beside a scan that is found, a copy in another format.
    (root / 'sub-01' / 'anat' / 'sub-01_T1w.mgz').touch()
    (root / 'sub-01' / 'anat' / 'sub-01_T1w.json').touch()
    assert find_scans(root).notes == ()


def test_many_near_misses_are_counted(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, GOOD[:1])
    for number in range(10, 50):
        path = root / f'sub-{number}' / 'anat' / f'sub-{number}_T1w.mgz'
        path.parent.mkdir(parents=True)
        path.touch()
    notes = find_scans(root).notes
    assert len(notes) == 21
    assert notes[-1] == '20 more files or folders are not in order either'


@given(st.binary(max_size=20).filter(lambda name: b'\0' not in name))
def test_any_name_can_be_printed(name: bytes) -> None:
    import os

    text = shown(os.fsdecode(name))
    assert text.isprintable()
    text.encode()
    try:
        assert is_utf8(os.fsdecode(name)) == bool(name.decode() is not None)
    except UnicodeDecodeError:
        assert not is_utf8(os.fsdecode(name))


def test_filters_as_fmriprep_spells_them(tmp_path: Path) -> None:
    acquired = 'sub-01/ses-1/anat/sub-01_ses-1_acq-mprage_run-1_T1w.nii.gz'
    plain = 'sub-01/anat/sub-01_T1w.nii.gz'
    root = write_dataset(tmp_path / 'bids', [acquired, plain])
    one, other = 'sub-01_ses-1_acq-mprage_run-1_T1w', 'sub-01_T1w'
    path = tmp_path / 'filter.json'
    for filters, expected in [
        ({'session': '*'}, [one]),
        ({'ses': '*', 'acq': 'mprage'}, [one]),
        ({'session': None}, [other]),
        ({'acq': None}, [other]),
        ({'acquisition': [None, 'mprage']}, [other, one]),
        ({'run': 1}, [one]),
        ({'run': '01'}, [one]),
        ({'ses': 'ses-1'}, [one]),
        ({'acq': 'mp.*', 'regex_search': True}, [one]),
        ({}, [other, one]),
    ]:
        path.write_text(json.dumps({'t1w': filters, 'bold': {'anything': 1}}))
        assert labels(root, filters=read_filters(path)) == sorted(expected, key=len), filters
    with pytest.raises(DatasetError, match=r"no T1w scan .* with the filters \{'task': '\*'\}"):
        find_scans(root, filters={'task': '*'})


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{"T1w": {}}', "unknown query 'T1w'; did you mean 't1w'? known are t1w, t2w"),
        ('{"xyz": {}}', "unknown query 'xyz'; known are t1w, t2w"),
        ('{"t1w": {"sesion": 1}}', "unknown entity 'sesion'; did you mean 'session'? known are"),
        ('{"t1w": {"EchoTime": 1}}', "unknown entity 'EchoTime'; "),
        ('{"t1w": {"ses": 1, "session": 2}}', "session is there twice, the second time as 'ses"),
        ('{"t1w": {"run": {"a": 1}}}', "run is {'a': 1}; expected a text, a number, null"),
        ('{"t1w": {"run": []}}', 'run is []; expected'),
        ('{"t1w": {"run": 1.5}}', 'run is 1.5; expected'),
        ('{"t1w": []}', 'expected an object with filters'),
        ('[]', 'expected an object with filters under the key "t1w"'),
        ('{"t1w": ', 'not a JSON file'),
        ('[' * 99999, 'not a JSON file'),
    ],
)
def test_filter_files_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    from brainchop_bids.cli.run import main

    root = write_dataset(tmp_path / 'bids', GOOD[:1])
    path = tmp_path / 'filter.json'
    path.write_text(text)
    command = [root, tmp_path / 'out', 'participant', '--bids-filter-file', path]
    assert main([*map(str, command), '-w', str(tmp_path / 'work')]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f'brainchop: error: {path}: ')
    assert words in line


@pytest.mark.parametrize(
    'filters', [{'run': 10**30}, {'acq': '(', 'regex_search': True}, {'acq': '\ud800'}]
)
def test_values_that_no_index_can_look_up(tmp_path: Path, filters: dict) -> None:
    root = write_dataset(tmp_path, ['sub-01/anat/sub-01_acq-x_run-1_T1w.nii.gz'])
    with pytest.raises(DatasetError, match=r'the filters .* are not understood by pybids') as said:
        find_scans(root, filters=filters)
    assert repr(next(iter(filters.values()))) in str(said.value)
    assert len(str(said.value)) < 250


@given(
    st.dictionaries(
        st.sampled_from([*ENTITIES, 'ses', 'acq', 'regex_search']) | st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
            ),
            max_leaves=5,
        ),
    )
)
def test_any_filters_are_understood_or_refused(filters: dict) -> None:
    try:
        names, said = set(check_filters(filters, 'file')), ''
    except SettingsError as error:
        names, said = set(), str(error)
    assert names <= {*ENTITIES, 'regex_search'}
    assert said.startswith('file: ') if said else len(names) == len(filters)


def test_entities_are_those_of_pybids() -> None:
    """Their names in file names stand in the patterns of its config."""
    known = {name: entity.pattern for name, entity in Config.load('bids').entities.items()}
    assert set(ENTITIES) == set(known) - {'scans', 'fmap'}
    for name, others in ENTITIES.items():
        if name not in ('suffix', 'datatype', 'extension'):
            assert any(f'{short}-(' in known[name] for short in (name, *others)), name
    with pytest.raises(SettingsError, match="unknown entity 'scans'"):
        check_filters({'scans': 'x'}, 'it')


@pytest.mark.parametrize(
    ('patterns', 'left'),
    [
        ('sub-02/', 1),
        ('/sub-02', 1),
        ('*_run-*', 1),
        ('**/anat/*_run-02_*', 1),
        ('sub-*/*\n!sub-01/anat/', 1),
        ('sub-*/**\n!sub-01/anat/*\n!sub-02/', 0),
        ('# sub-01\n\n', 2),
        ('\ufeffsub-02/**\r\n', 1),
        ('anat\n!sub-01/anat', 1),
    ],
)
def test_bidsignore_is_read_as_git_reads_it(tmp_path: Path, patterns: str, left: int) -> None:
    root = write_dataset(tmp_path, GOOD)
    (root / '.bidsignore').write_text(patterns, encoding='utf-8')
    (root / '.gitignore').write_text(patterns.lstrip('\ufeff'))
    git = ['git', '-C', root]
    subprocess.run([*git, 'init', '-q'], check=True)
    listed = subprocess.run(
        [*git, 'ls-files', '-o', '--exclude-standard', '*_T1w.nii.gz'],
        check=True,
        capture_output=True,
        text=True,
    )
    kept = sorted(listed.stdout.splitlines())
    assert len(kept) == left
    ignores, notes = read_bidsignore(root)
    assert notes == []
    assert [name for name in GOOD if not ignores(name)] == kept


def test_scans_that_bidsignore_leaves_out_are_named(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, GOOD)
    (root / '.bidsignore').write_text('sub-02/')
    selection = find_scans(root)
    assert [scan.label for scan in selection.scans] == ['sub-01_T1w']
    assert selection.notes == ('.bidsignore leaves out sub-02_ses-A_run-02_T1w',)


def test_a_bidsignore_that_is_wrong_or_leaves_nothing(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, GOOD[:1])
    ignore = root / '.bidsignore'
    ignore.write_bytes(b'!\nsub-0\xff\n')
    with pytest.raises(ValueError, match='!'):
        pathspec.GitIgnoreSpec.from_lines(['!'])
    [note] = find_scans(root).notes
    assert note == f"{ignore}: line 1 is no pattern: '!'; it is left out"
    ignore.write_text('sub-01')
    with pytest.raises(DatasetError, match=r'no T1w scan .*\.bidsignore leaves out sub-01_T1w'):
        find_scans(root)
    ignore.unlink()
    ignore.mkdir()
    assert labels(root) == ['sub-01_T1w']
