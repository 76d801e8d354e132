"""Public data sets are found in the form in which they are published."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.system.errors import DatasetError, SettingsError
from brainchop_bids.training.data.cache import load_example
from brainchop_bids.training.data.layouts import LAYOUTS
from brainchop_bids.training.data.splits import find_examples
from brainchop_bids.training.options import DataOptions
from tests.training.iseg import write_iseg


def test_iseg_from_folder_to_arrays(tmp_path: Path) -> None:
    folder = write_iseg(tmp_path / 'iSeg-2017-Training', 2, (36, 48, 64))
    (folder / 'subject-11-T1.hdr').touch()
    data = DataOptions(folder=str(tmp_path), layout='iseg2017', channels=('T1w', 'T2w'))
    found = find_examples(data)
    assert [item.name for item in found] == ['sub-1', 'sub-2']
    assert [path.name for path in found[1].images] == ['subject-2-T1.hdr', 'subject-2-T2.hdr']
    mapping = read_mapping('iseg_to_tissue')
    images, labels = load_example(found[0], data, mapping)
    assert images.shape == (256, 256, 256, 2)
    # Voxels of 4 mm have become 64 of 1 mm.
    truth = np.asarray(nib.load(found[0].labels).dataobj)[..., 0]
    counts = np.bincount(labels.ravel(), minlength=251)
    for code in (10, 150, 250):
        assert counts[code] == 64 * (truth == code).sum()
    # T1 and T2 have opposite contrasts: the channels are in order and lie on the labels.
    first, second = (images[..., i] for i in range(2))
    means = [[image[labels == code].mean() for code in (10, 250)] for image in (first, second)]
    assert means[0][0] < means[0][1]
    assert means[1][0] > means[1][1]
    # The longest axis, Analyze's third, runs up: it is LIA's second.
    inner = np.argwhere(labels == 250)
    assert np.ptp(inner, axis=0).argmax() == 1


def test_iseg_that_is_incomplete(tmp_path: Path) -> None:
    folder = write_iseg(tmp_path / 'a', 1, (8, 8, 8))
    for suffix in ('.hdr', '.img'):
        (folder / f'subject-1-T2{suffix}').unlink()
    assert len(LAYOUTS['iseg2017'](folder, ('T1w',))) == 1
    with pytest.raises(DatasetError, match='subject 1 has labels but no subject-1-T2'):
        LAYOUTS['iseg2017'](folder, ('T1w', 'T2w'))
    with pytest.raises(SettingsError, match='iseg2017 has no FLAIR; expected some of T1w, T2w'):
        LAYOUTS['iseg2017'](folder, ('T1w', 'FLAIR'))
    write_iseg(tmp_path / 'b', 1, (8, 8, 8))
    with pytest.raises(DatasetError, match='subject 1 is there twice'):
        LAYOUTS['iseg2017'](tmp_path, ('T1w',))
    (tmp_path / 'none').mkdir()
    with pytest.raises(DatasetError, match='no iSeg-2017 labels'):
        LAYOUTS['iseg2017'](tmp_path / 'none', ('T1w',))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_mrbrains_of_both_years(tmp_path: Path) -> None:
    touch(tmp_path / '1', 'T1.nii', 'T1_1mm.nii', 'T1_IR.nii', 'T2_FLAIR.nii')
    touch(tmp_path / '1', 'LabelsForTraining.nii', 'LabelsForTesting.nii')
    pre = ('FLAIR', 'IR', 'T1', 'reg_IR', 'reg_T1')
    touch(tmp_path / '148', 'segm.nii.gz', *(f'pre/{name}.nii.gz' for name in pre))
    touch(tmp_path / '148', 'orig/FLAIR.nii.gz')
    touch(tmp_path / 'unlabelled', 'T1.nii')
    found = LAYOUTS['mrbrains'](tmp_path, ('T1w', 'IR', 'FLAIR'))
    names = [[str(path.relative_to(tmp_path)) for path in item.images] for item in found]
    assert names == [
        ['1/T1.nii', '1/T1_IR.nii', '1/T2_FLAIR.nii'],
        ['148/pre/reg_T1.nii.gz', '148/pre/reg_IR.nii.gz', '148/pre/FLAIR.nii.gz'],
    ]
    assert [item.labels.name for item in found] == ['LabelsForTraining.nii', 'segm.nii.gz']
    assert [item.subject for item in found] == ['1', '148']
    (tmp_path / '1' / 'T2_FLAIR.nii').unlink()
    with pytest.raises(DatasetError, match='1 has labels but no FLAIR or T2_FLAIR'):
        LAYOUTS['mrbrains'](tmp_path, ('FLAIR',))
    with pytest.raises(DatasetError, match='no MRBrainS labels'):
        LAYOUTS['mrbrains'](tmp_path / '1', ('T1w',))


def test_the_tables_follow_what_the_challenges_say() -> None:
    tissue = read_mapping('aseg_to_tissue').labels
    iseg, mrbrains = read_mapping('iseg_to_tissue'), read_mapping('mrbrains_to_tissue')
    assert iseg.labels == mrbrains.labels == tissue
    assert {code: tissue[index] for code, index in iseg.indices.items()} == {
        0: 'BG',
        10: 'CSF',
        150: 'GM',
        250: 'WM',
    }
    merged = mrbrains.apply(np.arange(9))
    names = [tissue[index] for index in merged]
    assert names == ['BG', 'GM', 'GM', 'WM', 'WM', 'CSF', 'CSF', 'BG', 'BG']
