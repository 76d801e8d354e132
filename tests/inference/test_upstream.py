"""What upstream's largest models find in a whole head, as ../shared/spec/models.md measured it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.models.spec import load_spec


def labels_of(shared: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    scan = shared / 'data' / 't1w' / 'brainchop_t1_crop.nii.gz'
    data = np.asarray(nib.load(scan).dataobj)
    spec = load_spec(shared / 'models' / 'brainchop' / name)
    return data, KerasEngine(spec, threads=2).segment(data)


@pytest.mark.slow
def test_104_labels_on_their_own_sides(shared: Path) -> None:
    data, labels = labels_of(shared, 'model21_104class')
    assert np.unique(labels).size == 104
    # Its figures count from the edge of the head; in this grid x grows to the left.
    edge = int(np.flatnonzero(data.any((1, 2)))[0])
    table = load_spec(shared / 'models' / 'brainchop' / 'model21_104class').labels
    for side, first, expected in (('left', 1000, 110.8), ('right', 2000, 50.4)):
        cortex = [label.index for label in table if first < (label.freesurfer or 0) < first + 36]
        assert len(cortex) == 34, side
        centroid = np.argwhere(np.isin(labels, cortex)).mean(0)[0] - edge
        assert abs(centroid - expected) < 0.5
    # All pairs, by their codes in FreeSurfer's table.
    x = {label.freesurfer: np.argwhere(labels == label.index).mean(0)[0] for label in table}
    for left, right in ((10, 49), (11, 50), (12, 51), (13, 52), (17, 53), (18, 54), (26, 58)):
        assert x[left] > 127 > x[right]


@pytest.mark.slow
def test_50_labels(shared: Path) -> None:
    _, labels = labels_of(shared, 'model30chan50cls')
    assert np.unique(labels).size == 50
