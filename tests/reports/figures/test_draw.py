"""Figures drawn again from the derivatives are those of the run."""

import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainchop_bids.bids.derivatives import FIGURES
from brainchop_bids.cli.run import main
from brainchop_bids.reports.collect import read_participant


def labelled(content: bytes) -> float:
    return float((np.asarray(Image.open(io.BytesIO(content)))[..., 3] > 0).mean())


def test_reports_only_draws_again_what_is_missing(
    shared: Path, real_derivatives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    shutil.copytree(real_derivatives, out)
    (before,) = read_participant(out, '01')
    assert before.figures.keys() == FIGURES.keys()
    drawn = {name: path.read_bytes() for name, path in before.figures.items()}
    shutil.rmtree(out / 'sub-01' / 'figures')
    for page in out.glob('*.html'):
        page.unlink()
    argv = [shared / 'data' / 'ds000011', out, 'participant', '--reports-only']
    argv += ['--participant-label', '01', '-w', tmp_path / 'work']
    assert main([str(part) for part in argv]) == 0
    assert str(out / 'sub-01.html') in capsys.readouterr().out
    assert not (out / 'sub-02.html').exists()
    (after,) = read_participant(out, '01')
    assert after.notes == ()
    again = {name: path.read_bytes() for name, path in after.figures.items()}
    for name in ('conform', 'slices', 'grid'):
        assert again[name] == drawn[name], name
    assert gzip.decompress(again['volume']) == gzip.decompress(drawn['volume'])
    # Cuts follow the brain mask, which has been to the scan's own grid and back.
    assert abs(labelled(again['labels']) - labelled(drawn['labels'])) < 0.02


def test_without_the_conformed_scan_there_is_a_line(
    shared: Path, real_derivatives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    shutil.copytree(real_derivatives, out)
    shutil.rmtree(out / 'sub-01' / 'figures')
    (out / 'sub-01/anat/sub-01_space-conform_desc-preproc_T1w.nii.gz').unlink()
    argv = [shared / 'data' / 'ds000011', out, 'participant', '--reports-only']
    argv += ['--participant-label', '01', '-w', tmp_path / 'work']
    assert main([str(part) for part in argv]) == 0
    said = capsys.readouterr().err
    assert 'sub-01_T1w: figures cannot be drawn' in said
    assert len(said.splitlines()) == 1
    assert 'run with --reports-only' in (out / 'sub-01.html').read_text()
