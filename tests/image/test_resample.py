"""Resampling against the direct definitions, computed by scipy.ndimage."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.resample import image_to_grid, labels_to_grid


def grid(shape, euler=(0, 0, 0), zooms=(1, 1, 1), centre=(0, 0, 0), flip=None):
    cosines = nib.eulerangles.euler2mat(*euler)
    if flip is not None:
        cosines = cosines @ flip
    return Geometry(shape, np.array(zooms), cosines, np.array(centre))


def interpolated(data, source, target, **options):
    matrix = np.linalg.inv(source.affine) @ target.affine
    return ndimage.affine_transform(
        data.astype(float), matrix[:3], output_shape=target.shape, mode='grid-constant', **options
    )


def blobs(seed, shape, count):
    """Make smooth regions with labels that do not follow one another."""
    noise = np.random.default_rng(seed).random((count, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5))
    values = np.array([0, 1, 2, 5, 77, 200, 104, 9], dtype=np.uint8)[:count]
    return values[smooth.argmax(axis=0)]


def directly(labels, source, target):
    """Interpolate every label's indicator; return the largest and how clear the choice was."""
    values = np.unique(np.append(labels, 0))
    scores = np.stack([interpolated(labels == v, source, target, order=1) for v in values])
    scores[0] += 1 - scores.sum(axis=0)  # outside is background
    ranked = np.sort(scores, axis=0)
    margin = ranked[-1] - ranked[-2] if len(values) > 1 else np.ones(target.shape)
    return values[scores.argmax(axis=0)], margin


TARGETS = {
    'shifted': grid((30, 26, 28), centre=(0.3, -0.2, 0.4)),
    'finer': grid((41, 44, 47), zooms=(0.7, 0.66, 0.7), centre=(1, 2, 3)),
    'coarser': grid((14, 13, 12), zooms=(2.1, 2, 2.3)),
    'oblique': grid((30, 33, 27), (0.3, -0.2, 0.5), (0.9, 1.1, 1.0), (2, -3, 1)),
    'turned': grid((28, 30, 26), flip=np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])),
    'outside': grid((9, 9, 9), centre=(100, 0, 0)),
    'within': grid((6, 7, 8), (0.1, 0.1, 0.1), centre=(1, 1, 1)),
}


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('name', TARGETS)
def test_labels_by_definition(name, order, threads):
    source, target = grid((24, 27, 25), (0, 0, 0)), TARGETS[name]
    labels = np.asarray(blobs(4, source.shape, 8), order=order)
    expected, margin = directly(labels, source, target)
    got = labels_to_grid(labels, source, target, threads=threads)
    assert got.dtype == np.uint8
    assert got.shape == target.shape
    clear = margin > 1e-6
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(got[clear], expected[clear])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(*[st.floats(0.4, 2.5)] * 3),
    st.tuples(*[st.floats(-6, 6)] * 3),
    st.integers(1, 8),
)
def test_labels_on_any_grid(seed, euler, zooms, centre, count):
    source, target = grid((9, 11, 10)), grid((12, 9, 8), euler, zooms, centre)
    labels = blobs(seed, source.shape, count)
    expected, margin = directly(labels, source, target)
    got = labels_to_grid(labels, source, target)
    clear = margin > 1e-6
    np.testing.assert_array_equal(got[clear], expected[clear])


def test_ties_go_to_the_smaller_label():
    labels = np.array([5, 3, 5, 7, 0, 9], dtype=np.uint16).reshape(6, 1, 1)
    source = grid((6, 1, 1))
    target = grid((7, 1, 1))  # half a voxel beyond, by the centres
    assert labels_to_grid(labels, source, target).ravel().tolist() == [0, 3, 3, 5, 0, 0, 0]


@pytest.mark.parametrize('method', ['linear', 'nearest'])
def test_the_same_grid_gives_the_same_labels(method):
    labels = blobs(1, (12, 13, 14), 8)
    one = grid((12, 13, 14), (0.3, 0.2, 0.1), (0.7, 0.8, 0.9), (50, -30, 20))
    got = labels_to_grid(labels, one, one, method=method)
    np.testing.assert_array_equal(got, labels)
    assert got is not labels


@pytest.mark.parametrize('method', ['linear', 'nearest'])
def test_there_and_back_through_a_finer_grid(method):
    source = grid((20, 22, 24))
    labels = blobs(2, source.shape, 6)
    finer = grid((60, 66, 72), zooms=(1 / 3, 1 / 3, 1 / 3), centre=(-1 / 3, -1 / 3, -1 / 3))
    there = labels_to_grid(labels, source, finer, method=method)
    back = labels_to_grid(there, finer, source, method=method)
    assert (back == labels).mean() > 0.995


@pytest.mark.parametrize('name', TARGETS)
def test_nearest_as_scipy(name):
    source, target = grid((24, 27, 25)), TARGETS[name]
    labels = blobs(3, source.shape, 8)
    matrix = np.linalg.inv(source.affine) @ target.affine
    index = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing='ij'), axis=-1)
    where = np.moveaxis(nib.affines.apply_affine(matrix, index), -1, 0)
    rounded = np.floor(where + 0.5).astype(int)
    inside = np.all([(r >= 0) & (r < n) for r, n in zip(rounded, labels.shape, strict=True)], 0)
    rounded[:, ~inside] = 0
    expected = np.where(inside, labels[tuple(rounded)], 0)
    clear = (np.abs(where - np.floor(where) - 0.5) > 1e-6).all(axis=0)
    got = labels_to_grid(labels, source, target, method='nearest')
    np.testing.assert_array_equal(got[clear], expected[clear])


@pytest.mark.parametrize('name', TARGETS)
def test_images_as_scipy(name):
    source, target = grid((24, 27, 25)), TARGETS[name]
    data = np.random.default_rng(0).random(source.shape, dtype=np.float32)
    got = image_to_grid(data, source, target, threads=2)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, interpolated(data, source, target, order=1), atol=1e-6)


def test_wrong_arguments():
    one = grid((4, 4, 4))
    with pytest.raises(ValueError, match='cubic'):
        labels_to_grid(np.zeros(one.shape, np.uint8), one, one, method='cubic')
    with pytest.raises(ValueError, match='expected'):
        labels_to_grid(np.zeros((4, 4, 5), np.uint8), one, one)
