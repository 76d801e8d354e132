"""MGH images, as nibabel reads what is written."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from brainchop_bids.image.io import read_geometry, read_volume, save_image
from tests.builders import write_scan

TYPES = {'u1': 'u1', 'i2': '>i2', 'u2': '>i4', 'i4': '>i4', 'f4': '>f4'}
once = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@once
@given(
    shape=st.one_of(st.tuples(*[st.integers(2, 6)] * 3), st.tuples(*[st.integers(2, 5)] * 4)),
    kind=st.sampled_from(sorted(TYPES)),
    suffix=st.sampled_from(['.mgh', '.mgz', '.mgh.gz']),
    zooms=st.tuples(*[st.floats(0.3, 6)] * 3),
    turn=st.tuples(*[st.floats(-90, 90)] * 3),
    seed=st.integers(0, 99),
)
def test_values_and_position_survive(
    tmp_path: Path,
    shape: tuple[int, ...],
    kind: str,
    suffix: str,
    zooms: tuple[float, float, float],
    turn: tuple[float, float, float],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    data = np.asfortranarray(rng.normal(0, 1, shape).astype(kind))
    if kind != 'f4':
        limits = np.iinfo(kind)
        data = rng.integers(limits.min, limits.max, shape, kind, endpoint=True)
        data.flat[:1] = limits.max
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler('xyz', turn, degrees=True).as_matrix() * zooms
    affine[:3, 3] = rng.normal(0, 90, 3)
    path = save_image(tmp_path / f'image{suffix}', data, affine=affine)
    # nibabel knows no .mgh.gz.
    named = path.rename(tmp_path / 'image.mgz') if suffix == '.mgh.gz' else path
    image = nib.load(named)
    assert image.get_data_dtype() == np.dtype(TYPES[kind])
    np.testing.assert_array_equal(np.asarray(image.dataobj).reshape(shape), data)
    np.testing.assert_allclose(image.affine, affine, rtol=0, atol=1e-4)
    assert read_geometry(named)[0].shape == shape[:3]


def test_labels_have_the_smallest_type_that_freesurfer_reads(tmp_path: Path) -> None:
    for most, dtype in ((255, 'u1'), (256, '>i2'), (32767, '>i2'), (32768, '>i4')):
        labels = np.full((2, 3, 4), most, np.int64)
        path = save_image(tmp_path / 'labels.mgz', labels, affine=np.eye(4), labels=True)
        assert nib.load(path).get_data_dtype() == np.dtype(dtype)
        np.testing.assert_array_equal(read_volume(path).data, labels)


def test_the_same_image_is_the_same_file(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / 'T1w.nii.gz')
    data = read_volume(scan).data
    one, other = (
        save_image(tmp_path / name, data, like=scan).read_bytes() for name in ('a.mgz', 'b.mgz')
    )
    assert one == other
    with pytest.raises(ValueError, match='expected'):
        save_image(tmp_path / 'c.mgz', data[1:], like=scan)
