"""What is no regular file is refused at once, and never ends a run or holds it up."""

import os
from pathlib import Path

import pytest

from brainchop_bids.app import execution
from brainchop_bids.cli import models, segment, train
from brainchop_bids.cli.run import main
from tests.builders import write_dataset, write_model
from tests.corpus.files import IRREGULAR, fifo, replace

pytestmark = pytest.mark.timeout(120)


def test_scans_beside_them_are_finished(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f'sub-{n:02}/anat/sub-{n:02}_T1w.nii.gz' for n in range(len(IRREGULAR) + 3)]
    dataset = write_dataset(tmp_path / 'bids', names)
    good, *bad, vanishing, last = names
    for name, make in zip(bad, IRREGULAR, strict=True):
        replace(dataset / name, make)
    batches = execution._batches

    def one_by_one(settings, work):  # type: ignore[no-untyped-def]
        for batch in batches(settings, work):
            # After the scans were found, and before the graph is built.
            (dataset / vanishing).unlink()
            yield batch

    monkeypatch.setattr(execution, '_batches', one_by_one)
    model, out = write_model(tmp_path / 'model'), tmp_path / 'out'
    arguments = (dataset, out, 'participant', '--model', model, '-w', tmp_path / 'work')
    assert main(list(map(str, arguments))) == 1
    error = capfd.readouterr().err
    for name, line in zip(bad, IRREGULAR.values(), strict=True):
        assert f'  failed: {Path(name).name[:-7]}: {dataset / name}: {line}' in error
    assert f'  failed: {Path(vanishing).name[:-7]}: {dataset / vanishing}: is gone' in error
    for name in names:
        made = (out / name).with_name(Path(name).name.replace('_T1w', '_seg-model_dseg'))
        assert made.exists() == (name in (good, last))


def first_line(capfd: pytest.CaptureFixture[str], command, *arguments: object) -> str:  # type: ignore[no-untyped-def]
    """Run a command that must fail, and return its one line."""
    assert command([str(argument) for argument in arguments]) != 0
    error = capfd.readouterr().err
    assert error.count('\n') == 1
    return error


def test_every_other_file_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / 'bids', ['sub-01/anat/sub-01_T1w.nii.gz'])
    scan = dataset / 'sub-01/anat/sub-01_T1w.nii.gz'
    pipe = tmp_path / 'pipe.nii'
    os.mkfifo(pipe)
    says = f'{pipe}: is a FIFO, not a regular file'
    level = (dataset, tmp_path / 'out', 'participant', '-w', tmp_path / 'work')
    for option in ('--bids-filter-file', '--use-plugin', '--config-file'):
        line = first_line(capfd, main, *level, option, pipe)
        assert str(pipe) in line
        assert 'is a FIFO, not a regular file' in line
    assert says in first_line(capfd, segment.main, pipe, tmp_path / 'labels.nii.gz')
    assert 'is a FIFO' in first_line(capfd, train.main, pipe, '--out', tmp_path / 'run')
    for file in ('model.json', 'weights.bin', 'brainchop.json', 'colormap.json'):
        model = write_model(tmp_path / 'models' / file.replace('.', '_'))
        replace(model / file, fifo)
        line = first_line(capfd, models.main, 'info', model)
        assert f'{model / file}' in line
        assert 'is a FIFO' in line
        line = first_line(capfd, segment.main, scan, tmp_path / 'x.nii.gz', '--model', model)
        assert 'is a FIFO' in line
    replace(dataset / 'dataset_description.json', fifo)
    assert 'is a FIFO' in first_line(capfd, main, *level)
