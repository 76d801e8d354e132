"""Clean-up and resampling of labels in the browser, against SciPy's and the package's own."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from brainchop_bids.image.cleanup import Cleanup, MaskRule
from brainchop_bids.image.components import clean_labels
from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.head import head_box
from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.image.resample import labels_to_grid
from brainchop_bids.image.smooth import Smoothing, smooth_labels
from brainchop_bids.inference.stages import remove_from_void
from tests.web.engine import EngineError, ask, got, put

SHAPE = (61, 70, 56)


def blobs(seed: int, classes: int = 5, sigma: float = 3.0) -> np.ndarray:
    """Make labels in irregular parts of all sizes, with holes and bridges."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma) for _ in range(classes)]
    labels = np.argmax(fields, 0).astype(np.uint8)
    inside = ndimage.gaussian_filter(rng.normal(size=SHAPE), 5)
    labels[inside < np.quantile(inside, 0.4)] = 0
    labels[rng.random(SHAPE) < 0.002] = 3
    return labels


@pytest.mark.parametrize(
    ('smooth', 'components', 'mask'),
    [
        ({'voxels': 0.9}, 'largest+within:5', {'exclude': [3], 'open_mm': 4, 'closing_mm': 8}),
        ({'voxels': 0.6, 'below': 0.5}, 'per-label+min:20', {'closing_mm': 3}),
        ({}, 'groups:1,2/3+fill', {'open_mm': 2}),
        ({'voxels': 2.0}, 'largest+open:2+min:5+fill', {}),
        ({}, 'none', {'exclude': [1, 2], 'closing_mm': 2.5}),
        ({}, 'none+within:3', {'exclude': [4], 'open_mm': 1.5}),
    ],
)
@pytest.mark.parametrize('seed', [0, 1])
def test_clean_up(tmp_path: Path, seed: int, smooth, components: str, mask) -> None:
    labels = blobs(seed)
    out = {name: tmp_path / f'{name}.raw' for name in ('smooth', 'labels', 'mask')}
    removed = ask(
        'clean', labels=put(tmp_path / 'given.raw', labels), dims=SHAPE,
        smooth=smooth, components=components, mask=mask, out=out,
    )  # fmt: skip
    smoothed = smooth_labels(labels, Smoothing.from_dict(smooth))
    found = {name: got(path, np.uint8, SHAPE) for name, path in out.items()}
    np.testing.assert_array_equal(found['smooth'], smoothed)
    kept, brain, expected = clean_labels(
        smoothed, Cleanup.parse(components), MaskRule.from_dict(mask)
    )
    # Voxels that are exactly as near to two parts may go to either.
    ties = 'open' in components or mask.get('open_mm') or 'fill' in components
    for name, reference in (('labels', kept), ('mask', brain)):
        differ = np.mean(found[name] != reference)
        assert differ <= (1e-3 if ties else 0), f'{name}: {differ:%}'
    assert removed['components'] == expected.components or ties
    assert removed['voxels'] == pytest.approx(expected.voxels, abs=200 if ties else 0)
    assert 0 < kept.astype(bool).mean() < 1


@pytest.mark.parametrize('rule', ['all', 'largest+wide:3', 'groups', 'largest:3', 'none+min:x'])
def test_rules_that_are_not_known(tmp_path: Path, rule: str) -> None:
    given = put(tmp_path / 'given.raw', blobs(0))
    with pytest.raises(EngineError, match='component rule'):
        ask(
        'clean', labels=given, dims=SHAPE, smooth={}, components=rule, mask={},
            out=dict.fromkeys(('smooth', 'labels', 'mask'), tmp_path / 'out'),
        )  # fmt: skip


def test_labels_in_empty_background(tmp_path: Path) -> None:
    labels, volume = blobs(2), np.full(SHAPE, 90, np.uint8)
    volume[:20, :30, 10:] = 0
    volume[40, 40, 40] = 0
    out = tmp_path / 'out.raw'
    found = ask(
        'empty', labels=put(tmp_path / 'labels.raw', labels),
        volume=put(tmp_path / 'volume.raw', volume), dims=SHAPE, out=out,
    )  # fmt: skip
    expected, notes = remove_from_void(labels, volume)
    np.testing.assert_array_equal(got(out, np.uint8, SHAPE), expected)
    assert found['notes'] == notes
    assert notes


TURNED = nib.eulerangles.euler2mat(0.2, -0.3, 0.4)
TARGETS = {
    'same': (np.eye(4), SHAPE),
    'coarser': (np.diag([-2, 2.5, 1.7, 1]) + np.eye(4, k=3) * 3, (30, 28, 33)),
    'swapped': (nib.affines.from_matvec(np.eye(3)[[2, 0, 1]] * 0.7, [1, 2, 3]), (80, 70, 90)),
    'oblique': (nib.affines.from_matvec(TURNED * 1.1, [-9, 4, 5]), (60, 66, 50)),
    'elsewhere': (nib.affines.from_matvec(np.eye(3), [900, 0, 0]), (9, 9, 9)),
}


@pytest.mark.parametrize('name', TARGETS)
def test_resampling(tmp_path: Path, name: str) -> None:
    labels, (affine, shape) = blobs(3, sigma=1.5), TARGETS[name]
    out = tmp_path / 'out.raw'
    ask(
        'resample', labels=put(tmp_path / 'labels.raw', labels), out=out,
        source={'affine': np.eye(4).tolist(), 'dims': SHAPE},
        target={'affine': affine.tolist(), 'dims': shape},
    )  # fmt: skip
    grids = Geometry.from_affine(np.eye(4), SHAPE), Geometry.from_affine(affine, shape)
    found, expected = got(out, np.uint8, shape), labels_to_grid(labels, *grids)
    np.testing.assert_array_equal(found, expected)
    # The same by SciPy, where one label clearly has most of the weight.
    onto = np.linalg.inv(np.eye(4)) @ affine
    options = {'output_shape': shape, 'order': 1, 'mode': 'grid-constant'}
    alike = [(labels == label).astype(float) for label in range(5)]
    shares = np.stack([ndimage.affine_transform(one, onto[:3], **options) for one in alike])
    shares[0] += 1 - shares.sum(0)
    best = np.sort(shares, 0)
    clear = best[-1] - best[-2] > 1e-6
    np.testing.assert_array_equal(found[clear], shares.argmax(0)[clear])
    assert clear.mean() > 0.8


@pytest.mark.parametrize(
    'rule',
    ['minmax', 'quantile:0.02:0.98', 'quantile:0.05:0.95:clip', 'zscore', 'zscore-whole', 'max',
     'brats', 'window:20:90', 'none'],
)  # fmt: skip
def test_normalisation_and_head_box(tmp_path: Path, rule: str) -> None:
    rng = np.random.default_rng(5)
    shape = (64, 72, 80)
    data = (rng.random(shape) * 6).astype(np.uint8)
    data[20:50, 16:60, 30:70] += (rng.random((30, 44, 40)) * 200).astype(np.uint8)
    found = ask('prepare', volume=put(tmp_path / 'volume.raw', data), dims=shape, rule=rule)
    expected = normalise(data, Normalization.parse(rule))
    np.testing.assert_allclose(np.array(found['table'])[data], expected, rtol=1e-6, atol=1e-6)
    box = head_box(data, (4, 4, 4))
    assert found['box']['low'] == [side.start for side in box]
    assert found['box']['high'] == [side.stop for side in box]
    assert found['box'] != {'low': [0, 0, 0], 'high': list(shape)}


def test_rules_of_normalisation_that_are_not_known(tmp_path: Path) -> None:
    given = put(tmp_path / 'volume.raw', np.zeros((8, 8, 8), np.uint8))
    for rule in ('quantile:0.9:0.1', 'median', 'window:3', ''):
        with pytest.raises(EngineError, match='is not understood'):
            ask('prepare', volume=given, dims=[8, 8, 8], rule=rule)
