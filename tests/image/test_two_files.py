"""Images in two files, ``.hdr`` and ``.img``, against nibabel."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image.io import read_volume, save_nifti
from brainchop_bids.system.errors import InputError


@pytest.mark.parametrize('kind', [nib.AnalyzeImage, nib.Spm2AnalyzeImage, nib.Nifti1Pair])
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.float32])
def test_they_are_read_as_nibabel_reads_them(tmp_path: Path, kind: type, dtype: type) -> None:
    data = np.arange(60, dtype=dtype).reshape(3, 4, 5, 1)
    image = kind(data, None)
    image.header.set_zooms((1, 2, 3, 1))
    path = tmp_path / 'a.hdr'
    image.to_filename(path)
    expected = nib.load(path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, expected.get_fdata()[..., 0])
    assert volume.path == path
    assert volume.geometry.zooms.tolist() == [1, 2, 3]
    assert volume.geometry.orientation == 'LAS'
    if kind is not nib.Nifti1Pair:
        np.testing.assert_allclose(volume.geometry.affine, expected.affine)
    # What is made of it is one file, in the same place.
    made = nib.load(save_nifti(tmp_path / 'b.nii', volume.data, like=path))
    np.testing.assert_array_equal(made.get_fdata(), volume.data)
    np.testing.assert_allclose(made.affine, expected.affine)


def test_a_pair_that_is_no_pair(tmp_path: Path) -> None:
    path = tmp_path / 'a.hdr'
    with pytest.raises(InputError, match=r'a\.hdr: no such file'):
        read_volume(path)
    path.write_bytes(b'x' * 400)
    with pytest.raises(InputError, match='is no Analyze or NIfTI header'):
        read_volume(path)
    nib.AnalyzeImage(np.ones((3, 4, 5), np.uint8), None).to_filename(path)
    with pytest.raises(InputError, match=r'a\.img: holds voxels only; give the \.hdr file'):
        read_volume(tmp_path / 'a.img')
    (tmp_path / 'a.img').write_bytes(b'x')
    with pytest.raises(InputError, match=r'a\.img: is cut short'):
        read_volume(path)
    (tmp_path / 'a.img').unlink()
    with pytest.raises(InputError, match=r'a\.img: cannot be read \(No such file'):
        read_volume(path)
