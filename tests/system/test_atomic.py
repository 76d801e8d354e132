"""Files appear whole or not at all."""

import errno
import gzip
from pathlib import Path

import pytest

from brainchop_bids.system.atomic import copy_writer, publish, text_writer, write_text
from brainchop_bids.system.errors import OutputError


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    old = tmp_path / 'a.json'
    old.write_text('old')

    def full(path: Path) -> None:
        path.write_bytes(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(OutputError, match=r'b\.nii.*No space left on device; free some space'):
        publish([(old, text_writer('new')), (tmp_path / 'b.nii', full)], replaces=old)
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']
    assert old.read_text() == 'old'


def test_the_marker_goes_first_and_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, other = tmp_path / 'dseg.nii.gz', tmp_path / 'dseg.json'
    marker.write_text('old')
    seen = []

    import os

    real = os.replace

    def replace(source: Path, target: Path) -> None:
        seen.append((target.name, marker.exists()))
        real(source, target)

    monkeypatch.setattr(os, 'replace', replace)
    publish([(other, text_writer('{}')), (marker, text_writer('new'))], replaces=marker)
    assert seen == [('dseg.json', False), ('dseg.nii.gz', False)]
    assert marker.read_text() == 'new'


def test_compression_is_deterministic(tmp_path: Path) -> None:
    source = tmp_path / 'x.nii'
    source.write_bytes(bytes(range(256)) * 99)
    for name in ('a.nii.gz', 'b.nii.gz'):
        publish([(tmp_path / name, copy_writer(source))])
    assert (tmp_path / 'a.nii.gz').read_bytes() == (tmp_path / 'b.nii.gz').read_bytes()
    assert gzip.decompress((tmp_path / 'a.nii.gz').read_bytes()) == source.read_bytes()


def test_an_unchanged_text_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / 'sub' / 'x.txt'
    write_text(path, 'ä\n')
    before = path.stat().st_ino
    write_text(path, 'ä\n')
    assert path.stat().st_ino == before
