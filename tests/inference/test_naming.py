"""Names of several scans' outputs."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from brainchop_bids.inference.naming import distinct_names, list_scans
from brainchop_bids.system.errors import SettingsError

words = st.sampled_from(['a', 'A', 'b', 'a_T1', 'T1', 't1', 'sub-01', 'x_a'])
scans = st.lists(
    st.builds(
        lambda folders, name, suffix: Path('/', *folders, name + suffix),
        st.lists(words, max_size=3),
        words,
        st.sampled_from(['.nii', '.nii.gz', '.mgz', '.NII.GZ']),
    ),
    unique=True,
    max_size=8,
)


@given(scans)
def test_names_are_distinct_and_end_as_the_files(paths: list[Path]) -> None:
    stems = [path.name.split('.')[0] for path in paths]
    # Suffixes, upper and lower case, or what joins the words may be all that differs.
    plain = {'_'.join(path.parts[1:]).split('.')[0].casefold() for path in paths}
    assume(len(plain) == len(paths))
    names, notes = distinct_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    for name, stem, path in zip(names, stems, paths, strict=True):
        assert name.endswith(stem)
        told = [note for note in notes if note.startswith(f'{path}: ')]
        assert len(told) == (name != stem)
    if len({stem.casefold() for stem in stems}) == len(stems):
        assert names == stems


def test_a_folder_is_its_scans_in_order(tmp_path: Path) -> None:
    for name in ('b.nii', 'a.MGZ', '.hidden.nii', 'notes.txt', 'inner/c.nii.gz'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_scans([tmp_path])] == ['a.MGZ', 'b.nii']
    (tmp_path / 'again.nii').symlink_to(tmp_path / 'b.nii')
    assert len(list_scans([tmp_path])) == 3
    with pytest.raises(SettingsError, match='is given twice'):
        list_scans([tmp_path, tmp_path / 'inner' / '..' / 'b.nii'])
