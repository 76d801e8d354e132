"""FreeSurfer's parcels in training: what they look like, and the side of midline structures."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.training.config import TrainConfig
from brainchop_bids.training.data.datasets import Example
from brainchop_bids.training.data.sources import Sources, draw_volume, load_label_map
from brainchop_bids.training.options import DataOptions, Stage

AFFINE = np.array([[-1, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1.0]])


def written(path: Path, data: np.ndarray) -> Path:
    nib.Nifti1Image(data, AFFINE).to_filename(path)
    return path


def head() -> np.ndarray:
    """Return a head in aparc+aseg: right and left white matter around a callosum, and cortex."""
    codes = np.zeros((256, 256, 256), np.uint16)
    codes[100:128, 100:160, 100:160] = 41
    codes[128:156, 100:160, 100:160] = 2
    codes[124:132, 120:140, 120:140] = 253
    codes[100:156, 100:104, 100:160] = 1030
    codes[100:128, 100:104, 100:160] = 2030
    return codes


@pytest.mark.parametrize('table', ['aseg_to_tissue', 'aseg_to_aseg'])
def test_parcels_are_synthesised_as_their_structure(tmp_path: Path, table: str) -> None:
    path = written(tmp_path / 'head.nii.gz', head())
    codes = load_label_map(path, read_mapping(table))
    assert set(np.unique(codes)) == {0, 2, 3, 41, 42}
    # A table that tells regions apart keeps them.
    own = tmp_path / 'own.tsv'
    rows = [f'{code}\t{i}' for i, code in enumerate((0, 2, 3, 41, 42, 253, 1030, 2030))]
    own.write_text('\n'.join(['code\tindex', *rows]))
    assert set(np.unique(load_label_map(path, read_mapping(own)))) == set(np.unique(head()))


def test_scans_with_sides(tmp_path: Path) -> None:
    image = (head() % 200).astype(np.int16)
    example = Example(
        '01', 'sub-01', (written(tmp_path / 'T1w.nii.gz', image),),
        written(tmp_path / 'aparc.nii.gz', head()),
    )  # fmt: skip
    data = DataOptions(table='unused.tsv', mapping='aseg_to_aseg')
    config = TrainConfig(data=data)
    for cache in (None, tmp_path):
        sources = Sources((example,), (), cache)
        _, labels = draw_volume(
            example, config, Stage(), sources, np.random.default_rng(0), training=False
        )
        # The first axis of the conformed grid runs from right to left.
        assert set(labels[124:128, 120:140, 120:140].ravel()) == {19}
        assert set(labels[128:132, 120:140, 120:140].ravel()) == {1}
        assert (labels[110, 101, 110], labels[140, 101, 110]) == (20, 2)
