"""Geometry against nibabel's affines."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.io import read_geometry

angles = st.floats(-3, 3)
sizes = st.floats(0.3, 4)


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(angles, angles, angles),
    st.tuples(sizes, sizes, sizes),
    st.tuples(*[st.floats(-200, 200)] * 3),
    st.tuples(*[st.integers(2, 400)] * 3),
)
def test_affine_survives(euler, zooms, origin, shape):
    affine = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(*euler) @ np.diag(zooms), np.array(origin)
    )
    geometry = Geometry.from_affine(affine, shape)
    corner = np.array(shape)
    for voxel in (corner * 0, corner):
        got = nib.affines.apply_affine(geometry.affine, voxel)
        np.testing.assert_allclose(got, nib.affines.apply_affine(affine, voxel), atol=2e-3)
    assert geometry.voxel_volume == pytest.approx(np.prod(zooms), rel=1e-4)
    assert geometry.orientation == ''.join(nib.aff2axcodes(affine))


def test_zooms_replace_the_lengths_of_the_columns():
    geometry = Geometry.from_affine(np.diag([2.0, 2, 2, 1]), (4, 4, 4), np.array([1, 1, 1]))
    np.testing.assert_array_equal(geometry.zooms, 1)
    np.testing.assert_array_equal(geometry.c_ras, 2)


@pytest.mark.parametrize(
    ('affine', 'says'),
    [
        (np.zeros((4, 4)), 'column of zeros'),
        (np.diag([1.0, np.nan, 1, 1]), 'not finite'),
        (np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), 'one plane'),
    ],
)
def test_unusable_affines_are_refused(affine, says):
    with pytest.raises(ValueError, match=says):
        Geometry.from_affine(affine, (4, 4, 4))


def test_matches_looks_at_everything():
    one = Geometry((4, 5, 6), np.ones(3), np.eye(3), np.zeros(3))
    assert one.matches(Geometry((4, 5, 6), np.ones(3), np.eye(3), np.full(3, 9e-6)))
    assert not one.matches(Geometry((4, 5, 7), np.ones(3), np.eye(3), np.zeros(3)))
    assert not one.matches(Geometry((4, 5, 6), np.ones(3), np.eye(3), np.full(3, 2e-5)))
    assert not one.matches(Geometry((4, 5, 6), np.ones(3) * 1.1, np.eye(3), np.zeros(3)))


@pytest.mark.parametrize(
    ('turn', 'shift', 'line'),
    [
        (0.0, 0.0, None),
        (0.0, 1.9, None),
        (0.0, 7.0, 'turned by 0.0 degrees, with voxels up to 7.0 mm apart'),
        (0.2, 0.0, None),
        (30.0, 0.0, 'turned by 30.0 degrees, with voxels up to'),
        (180.0, 5.0, 'turned by 180.0 degrees'),
    ],
)
def test_sform_and_qform_that_disagree(
    tmp_path: Path, turn: float, shift: float, line: str | None
) -> None:
    image = nib.Nifti1Image(np.ones((20, 30, 40), np.int16), np.diag([2, 2, 2, 1.0]))
    other = np.eye(4)
    other[:3, :3] = 2 * Rotation.from_euler('z', turn, degrees=True).as_matrix()
    other[2, 3] = shift
    image.set_sform(np.diag([2, 2, 2, 1.0]), 1)
    image.set_qform(other, 1)
    image.to_filename(tmp_path / 'scan.nii')
    geometry, warnings = read_geometry(tmp_path / 'scan.nii')
    np.testing.assert_allclose(geometry.affine, np.diag([2, 2, 2, 1.0]), atol=1e-5)
    found = [warning for warning in warnings if 'disagree' in warning]
    assert len(found) == (line is not None)
    assert line is None or line in found[0]


def test_a_mirrored_qform_is_told(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((20, 30, 40), np.int16), np.diag([2, 2, 2, 1.0]))
    image.set_sform(np.diag([2, 2, 2, 1.0]), 1)
    image.set_qform(np.diag([-2, 2, 2, 1.0]), 1)
    image.to_filename(tmp_path / 'scan.nii')
    _, warnings = read_geometry(tmp_path / 'scan.nii')
    assert any('mirror image' in warning for warning in warnings)
