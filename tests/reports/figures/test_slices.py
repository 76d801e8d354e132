"""What the viewer unpacks, against the volumes turned by nibabel."""

import gzip
import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainchop_bids.reports.figures.slices import slice_labels, slice_scan

AFFINE = np.array([[-1, 0, 0, 30.0], [0, 0, 1, -42], [0, -1, 0, 51], [0, 0, 0, 1]])


def head(shape: tuple[int, int, int] = (61, 70, 83)) -> np.ndarray:
    """Return an LIA ball with a gradient along each axis, off the middle."""
    axes = np.indices(shape).astype(float)
    middle = np.array([28, 33, 45])[:, None, None, None]
    inside = ((axes - middle) ** 2).sum(0) < 24**2
    values = 60 + axes[0] + 2 * axes[1] * 0.5 + axes[2] * 0.7
    return np.where(inside, values, 0).astype(np.uint8)


def unpack(content: bytes, grid: dict) -> np.ndarray:
    """Take the picture apart as the page does: [right, anterior, superior]."""
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert('L'))
    right, up, slices = grid['shape']
    volume = np.zeros((right, up, slices), np.uint8)
    for k in range(slices):
        row, column = divmod(k, grid['columns'])
        tile = sheet[row * up : (row + 1) * up, column * right : (column + 1) * right]
        volume[:, :, k] = tile[::-1].T
    return volume


def test_slices_and_labels_lie_where_nibabel_puts_them() -> None:
    image = head()
    labels = (image > 130).astype(np.uint8) + (image > 0)
    grid, picture = slice_scan(image, AFFINE)
    volume = unpack(picture, grid.to_dict())
    packed = np.frombuffer(gzip.decompress(slice_labels(image, labels)), np.uint8)
    found = packed.reshape(grid.shape[::-1]).T
    affine = np.vstack([np.array(grid.affine), [0, 0, 0, 1]])
    assert nib.aff2axcodes(affine) == ('R', 'A', 'S')
    rng = np.random.default_rng(0)
    places = (rng.random((500, 3)) * grid.shape).astype(int)
    world = nib.affines.apply_affine(affine, places)
    voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(AFFINE), world)).astype(int)
    assert (found[tuple(places.T)] == labels[tuple(voxels.T)]).all()
    # The picture is not exact, but brightness follows.
    seen, true = volume[tuple(places.T)].astype(float), image[tuple(voxels.T)].astype(float)
    assert np.corrcoef(seen, true)[0, 1] > 0.97
    # All of the head is there.
    assert np.count_nonzero(found) == np.count_nonzero(labels)


def test_many_labels_take_two_bytes() -> None:
    image = head()
    labels = np.where(image > 0, 1024, 0).astype(np.uint16)
    grid, _ = slice_scan(image, AFFINE)
    content = gzip.decompress(slice_labels(image, labels))
    assert len(content) == 2 * np.prod(grid.shape)
    assert set(np.frombuffer(content, '<u2')) == {0, 1024}


@pytest.mark.parametrize('value', [0, 7])
def test_a_volume_of_one_value_is_shown_whole(value: int) -> None:
    image = np.full((20, 30, 40), value, np.uint8)
    grid, picture = slice_scan(image, AFFINE)
    assert grid.shape == (20, 40, 30)
    # The margins of a picture are padded, and WebP is not exact.
    assert np.ptp(unpack(picture, grid.to_dict()).astype(int)) <= 4


def test_noise_does_not_make_pages_unusable() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 200), dtype=np.uint8)
    _, picture = slice_scan(noise, AFFINE)
    assert len(picture) < 1.6e6


def test_a_volume_too_large_for_a_picture_is_thinned() -> None:
    image = np.zeros((1200, 700, 700), np.uint8)
    image[10:-10, 10:-10, 10:-10] = 90
    grid, picture = slice_scan(image, AFFINE)
    assert grid.step > 1
    assert max(Image.open(io.BytesIO(picture)).size) <= 16383
    assert np.allclose(np.abs(np.array(grid.affine)[:, :3]).sum(0), grid.step)
