"""A config that is written from the data is one that trains, and follows from the data."""

import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.train import main
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.system.errors import DatasetError
from brainchop_bids.training.config import TrainConfig, read_training_config
from brainchop_bids.training.data.fingerprint import find_source, take_fingerprint
from brainchop_bids.training.plan import Machine, choose_sizes, write_plan
from tests.builders import write_dataset
from tests.training.iseg import write_iseg
from tests.training.maps import write_maps

CPU = Machine('CPU', 8e9)


def planned(dataset: Path, target: Path, *changes: str, machine: Machine = CPU) -> TrainConfig:
    assert write_plan(dataset, target, changes, machine)[0] == target
    return read_training_config(target)


def test_iseg(tmp_path: Path) -> None:
    folder = write_iseg(tmp_path / 'data', 5, (36, 48, 64))
    config = planned(folder, tmp_path / 'iseg.toml')
    data = config.data
    assert (data.layout, data.mapping) == ('iseg2017', 'iseg_to_tissue')
    assert data.channels == ('T1w', 'T2w')
    assert (data.folds, data.fold) == (5, 0)
    assert config.loss.class_weights == ()
    text = (tmp_path / 'iseg.toml').read_text()
    assert '5 participants' in text
    assert 'Voxels of 4 x 4 x 4 mm' in text
    # The labels' shares, counted from the files.
    labels = [np.asarray(nib.load(path).dataobj) for path in folder.glob('*-label.hdr')]
    for code, name in ((150, 'GM'), (250, 'WM'), (10, 'CSF')):
        assert f'{name} {np.mean([one == code for one in labels]):.3%}' in text
    # A scan without T2w takes the channel out; what is given is kept.
    (folder / 'subject-2-T2.hdr').unlink()
    assert find_source(folder).channels == ('T1w',)
    assert find_source(folder, ['data.channels=["T1w"]']).channels == ('T1w',)


def test_a_bids_dataset_with_labels_of_its_own(tmp_path: Path) -> None:
    names = [f'sub-0{i}/anat/sub-0{i}_T1w.nii.gz' for i in range(1, 4)]
    dataset = write_dataset(tmp_path / 'ds', names)
    out = dataset / 'derivatives' / 'manual'
    for name in names:
        scan = nib.load(dataset / name)
        labels = np.zeros(scan.shape[:3], np.uint8)
        labels[1:-1, 1:-1, 1:-1] = 4
        labels[2, 2, 2] = 9
        path = out / name.replace('_T1w', '_dseg')
        path.parent.mkdir(parents=True)
        nib.Nifti1Image(labels, scan.affine).to_filename(path)
    config = planned(dataset, tmp_path / 'mine.toml')
    assert config.data.derivatives == str(out.absolute())
    assert config.data.split == 0.8
    table = read_mapping(tmp_path / 'mine_labels.tsv')
    assert table.indices == {0: 0, 4: 1, 9: 2}
    assert len(config.loss.class_weights) == 3
    assert config.loss.class_weights[2] > config.loss.class_weights[1]
    assert [stage.weighted for stage in config.stages] == [True, False]
    # Labels that have no names may have sides.
    assert config.augmentation.flip == 0
    (out / 'dseg.tsv').write_text('index\tname\n0\tbg\n4\tstem\n9\tpons\n')
    planned(dataset, tmp_path / 'named.toml')
    assert read_mapping(tmp_path / 'named_labels.tsv').labels == {0: 'bg', 1: 'stem', 2: 'pons'}
    shutil.copytree(out, dataset / 'derivatives' / 'other')
    with pytest.raises(DatasetError, match=r'manual, other; choose by --set data\.derivatives'):
        planned(dataset, tmp_path / 'x.toml')
    chosen = planned(dataset, tmp_path / 'x.toml', f'data.derivatives={out}')
    assert chosen.data.derivatives == str(out)


def test_label_maps(tmp_path: Path) -> None:
    config = planned(write_maps(tmp_path / 'maps', 2), tmp_path / 'maps.toml')
    assert config.data.mapping == 'aseg_to_tissue'
    assert config.data.split == 0.8


def test_patches_follow_from_memory_and_extent(tmp_path: Path) -> None:
    found = take_fingerprint(find_source(write_iseg(tmp_path / 'data', 1, (36, 48, 64))))
    sizes = [choose_sizes(found, 4, Machine('GPU', gb * 1e9)) for gb in (1, 4, 16, 80)]
    volumes = [np.prod(size.cube) * size.batch for size in sizes]
    assert volumes == sorted(volumes)
    for size, gb in zip(sizes[1:], (4, 16, 80), strict=True):
        # Three float32 for each channel of nine layers.
        assert 4 * 3 * 32 * 9 * np.prod(size.cube) * size.batch < gb * 1e9 / 2
        assert all(
            side <= -(-round(length) // 16) * 16
            for side, length in zip(size.cube, found.extent, strict=True)
        )
    # The labels are narrower than they are high.
    assert len(set(sizes[-1].cube)) > 1


def test_the_plan_is_trained_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_maps(tmp_path / 'data', 2)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config = tmp_path / 'plan.toml'
    assert main([str(config), '--plan', str(folder)]) == 0
    assert main([str(config), '--plan', str(folder)]) == 1
    assert 'is there already' in capfd.readouterr().err
    # Its first steps; it is stopped after the first checkpoint.
    from brainchop_bids.training import callbacks

    saved = callbacks.save_state

    def stop_then(*arguments: object) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return saved(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(callbacks, 'save_state', stop_then)
    code = main([
        str(config), '--out', str(tmp_path / 'run'), '--set', 'checkpoint_every=1',
        '--set', 'validation.every=0', '--set', 'validation_cubes=1',
        '--set', 'stages.0.cube=32',
    ])  # fmt: skip
    assert code == 75
    assert list((tmp_path / 'run' / 'checkpoints').iterdir())


def test_no_config_and_no_plan(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([]) == 2
    assert 'expected CONFIG.toml, or --plan DATASET' in capfd.readouterr().err
    assert main(['--plan', str(tmp_path / 'nothing')]) == 1
    assert 'does not exist' in capfd.readouterr().err
    assert main(['--plan', str(tmp_path), '--set', 'seed=1']) == 2
    assert 'expected keys of data' in capfd.readouterr().err
