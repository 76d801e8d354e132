"""Measures and flags of a phantom, whole and broken one way at a time."""

import json
import math

import numpy as np
import pytest

from brainchop_bids.image.background import void_mask
from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.io import Volume
from brainchop_bids.quality.assess import LabelScheme, assess
from brainchop_bids.quality.flags import Quantities, find_flags
from brainchop_bids.quality.regions import shrink
from tests.quality.phantom import SHAPE, ZOOM, geometry, head, judge

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope='module')
def good() -> Arrays:
    return head()


def names(result: object) -> list[str]:
    return [flag.name for flag in result.flags]  # type: ignore[attr-defined]


def test_a_good_head_has_no_flag_and_true_numbers(good: Arrays) -> None:
    scan, labels, mask = good
    result = judge(scan, labels, mask)
    assert result.flags == ()
    assert result.quantities.brain_l == pytest.approx(
        4 / 3 * math.pi * 0.66 * 0.78 * 0.62, rel=0.01
    )
    measures = result.measures
    assert measures['summary_wm_median'] == 1000
    assert measures['summary_gm_median'] == pytest.approx(600, abs=10)
    # The noise that was put in, of which white matter shows all.
    assert measures['snr_wm'] == pytest.approx(1000 / 40, rel=0.03)
    # Rayleigh noise of that sigma has its own median absolute deviation, 0.4485 sigma to normal.
    air = np.hypot(*np.random.default_rng(9).normal(0, 40, (2, 500_000)))
    spread = np.median(np.abs(air - np.median(air))) / 0.6744898
    assert measures['snrd_wm'] == pytest.approx(0.6551364 * 1000 / spread, rel=0.04)
    assert measures['summary_bg_stdv'] == pytest.approx(air.std(), rel=0.03)
    assert sum(measures[f'icvs_{name}'] for name in ('csf', 'gm', 'wm')) == pytest.approx(
        1, abs=1e-5
    )
    assert json.loads(json.dumps(measures, allow_nan=False)) == measures


def test_doubled_intensities_change_no_measure(good: Arrays) -> None:
    scan, labels, mask = good
    once, twice = judge(scan, labels, mask), judge(2 * scan, labels, mask)
    assert twice.flags == ()
    assert twice.measures == pytest.approx(once.measures, rel=1e-4)
    as_float = judge((scan / 1000).astype(np.float32), labels, mask)
    assert as_float.flags == ()
    assert as_float.measures['snr_wm'] == pytest.approx(once.measures['snr_wm'], rel=1e-4)
    assert as_float.measures['cjv'] == pytest.approx(once.measures['cjv'], rel=1e-4)


def test_axes_in_another_order_change_nothing(good: Arrays) -> None:
    once = judge(*good)
    scan, labels, mask = (array.transpose(2, 0, 1)[::-1] for array in good)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -ZOOM, ZOOM, ZOOM, 1
    grid = Geometry.from_affine(affine, scan.shape)
    scheme = LabelScheme({0: 'BG', 1: 'GM', 2: 'WM', 3: 'CSF'}, {1: 1, 2: 2, 3: 3})
    other = assess(Volume(scan, grid), labels, mask, scheme)
    assert other.flags == ()
    # Blocks begin at another corner: head and air move by a voxel or two.
    assert other.measures == pytest.approx(once.measures, rel=0.05, abs=0.2)
    for axis in 'xyz':
        name = f'fwhm_{axis}'
        assert other.measures[name] == pytest.approx(once.measures[name], rel=1e-3)


def test_label_values_may_be_freesurfers(good: Arrays) -> None:
    scan, labels, mask = good
    plain = judge(scan, labels, mask)
    coded = np.array([0, 2035, 41, 24], dtype=np.uint16)[labels]
    scheme = LabelScheme({0: 'BG', 2035: 'GM', 41: 'WM', 24: 'CSF'}, {2035: 1, 41: 2, 24: 3})
    assert judge(scan, np.asfortranarray(coded), mask, scheme=scheme).measures == plain.measures


def test_upside_down(good: Arrays) -> None:
    scan, labels, mask = (array[:, :, ::-1] for array in good)
    result = judge(scan, labels, mask)
    assert names(result) == ['orientation']
    assert result.flags[0].value == pytest.approx(180, abs=15)
    # Without the neck nothing tells.
    low = (~mask).any(axis=(0, 1)) & ~mask.any(axis=(0, 1))
    bare = scan.copy()
    bare[:, :, low] = 30
    assert 'orientation' not in names(judge(bare, labels, mask))


def test_half_a_brain(good: Arrays) -> None:
    halves = [array.copy(order='K') for array in good]
    for array in halves:
        array[SHAPE[0] // 2 :] = 0
    result = {flag.name: flag for flag in judge(*halves).flags}
    assert set(result) == {'brain-volume', 'asymmetry', 'field-edge'}
    assert result['asymmetry'].value > 0.2
    assert '0.8 to 2.2 L' in result['brain-volume'].reason


def test_skull_stripped_and_padded(good: Arrays) -> None:
    scan, labels, mask = good
    stripped = judge(scan * mask, labels, mask)
    assert names(stripped) == ['skull-stripped']
    assert not [name for name in stripped.measures if name.startswith(('snrd', 'summary_bg'))]
    assert {'cnr', 'fber'}.isdisjoint(stripped.measures)
    # Padding is no air: noise is that of the part which was scanned.
    padded = scan.copy(order='K')
    padded[:14] = 0
    padded[-10:] = 0
    measures = judge(padded, labels, mask).measures
    whole = judge(scan, labels, mask).measures
    assert measures['summary_bg_mad'] == pytest.approx(whole['summary_bg_mad'], rel=0.02)
    assert measures['summary_bg_n'] < whole['summary_bg_n']


def test_a_mean_of_0_is_no_missing_skull(good: Arrays) -> None:
    scan, labels, mask = good
    shifted = ((scan - scan.mean()) / scan.std()).astype(np.float32)
    assert names(judge(shifted, labels, mask)) == []
    padded = np.zeros_like(shifted)
    padded[:, 8:] = shifted[:, 8:]
    assert names(judge(padded, labels, mask)) == []
    inside = scan[mask != 0]
    standardised = np.where(mask != 0, (scan - inside.mean()) / inside.std(), 0)
    assert names(judge(standardised.astype(np.float32), labels, mask)) == ['skull-stripped']


@pytest.mark.parametrize('share', [0.06, 0.2, 0.4])
def test_brain_that_the_mask_of_a_stripped_scan_lacks(good: Arrays, share: float) -> None:
    scan, labels, mask = good
    found = mask != 0
    planes = np.cumsum(found.sum(axis=(0, 2)))
    found[:, : int(np.searchsorted(planes, share * planes[-1]))] = False
    result = judge(scan * mask, labels * found, found.astype(np.uint8))
    assert 'brain-lost' in names(result)
    flag = next(flag for flag in result.flags if flag.name == 'brain-lost')
    assert flag.value == pytest.approx(share, abs=0.03)
    # Beside a skull nothing can be said about what is missing.
    assert 'brain-lost' not in names(judge(scan, labels * found, found.astype(np.uint8)))


def test_a_field_that_ends_in_the_brain(good: Arrays) -> None:
    mask = good[2]
    top = np.flatnonzero(mask.any(axis=(0, 1)))[-1] - 12
    cut = [array[:, :, :top] for array in good]
    grid = Geometry.from_affine(geometry().affine, cut[0].shape)
    scheme = LabelScheme({0: 'BG', 1: 'GM', 2: 'WM', 3: 'CSF'}, {1: 1, 2: 2, 3: 3})
    result = assess(Volume(cut[0], grid), cut[1], cut[2], scheme)
    assert names(result) == ['field-edge']
    assert result.quantities.edge_cm2 == pytest.approx(mask[:, :, top - 1].sum() * 0.04, rel=0.01)
    # Below, what a brainstem has is no reason; what half the brain has, is.
    base = np.flatnonzero(mask.any(axis=(0, 1)))[0]
    for start, expected in ((base + 1, []), (base + 8, ['field-edge'])):
        low = [array[:, :, start:] for array in good]
        grid = Geometry.from_affine(geometry().affine, low[0].shape)
        result = assess(Volume(low[0], grid), low[1], low[2], scheme)
        assert [name for name in names(result) if name != 'orientation'] == expected


def test_inverted_and_noisy(good: Arrays) -> None:
    scan, labels, mask = good
    assert 'intensity-inverted' in names(judge(scan.max() - scan, labels, mask))
    noise = np.random.default_rng(1).normal(0, 350, SHAPE)
    noisy = np.asfortranarray(np.abs(scan + noise).astype(np.int16))
    assert 'low-contrast' in names(judge(noisy, labels, mask))


def test_voxels_holes_components_and_labels(good: Arrays) -> None:
    scan, labels, mask = good
    large = judge(scan, labels, mask, zoom=2.2)
    assert 'voxel-size' in names(large)
    assert 'voxel-size' not in names(judge(scan, labels, mask, zoom=2.0001))
    holed = labels.copy(order='K')
    holed[labels == 3] = 0
    assert judge(scan, holed, mask).quantities.hole_fraction == pytest.approx(0.011, abs=0.004)
    holed[30:45, 40:60, 50:80][labels[30:45, 40:60, 50:80] == 2] = 0
    result = judge(scan, holed, mask)
    assert names(result) == ['holes', 'labels-missing']
    assert result.flags[1].reason == 'Labels not found: 1 (CSF); expected all.'
    parts = judge(scan, labels, mask, removed_mm3=0.5e6)
    assert names(parts) == ['components-removed']


def test_sides(good: Arrays) -> None:
    scan, labels, mask = good
    sided = labels.copy(order='K')
    sided[SHAPE[0] // 2 :][labels[SHAPE[0] // 2 :] > 0] += 3
    kinds = ('GM', 'WM', 'CSF')
    known = {0: 'BG'} | {
        1 + i + 3 * j: f'{side}-{kind}'
        for j, side in enumerate(('Left', 'Right'))
        for i, kind in enumerate(kinds)
    }
    scheme = LabelScheme(known, {value: 1 + (value - 1) % 3 for value in known if value})
    even = judge(scan, sided, mask, scheme=scheme)
    assert names(even) == []
    assert even.quantities.lateral_difference == pytest.approx(0, abs=1e-6)
    sided[(sided == 4) & (np.arange(SHAPE[1]) > 58)[:, None]] = 3
    uneven = judge(scan, sided, mask, scheme=scheme)
    assert 'asymmetry' in names(uneven)


def test_models_of_parts_get_no_flags_of_brains(good: Arrays) -> None:
    scan, labels, _ = good
    part = np.asfortranarray((labels == 3).astype(np.uint8))
    scheme = LabelScheme({0: 'BG', 1: 'Ventricles'}, {1: 3}, covers_brain=False)
    result = judge(scan, part, None, scheme=scheme)
    assert result.flags == ()
    assert set(result.measures) == {'efc'}
    nothing = judge(scan, np.zeros(SHAPE, np.uint8), None, scheme=scheme)
    assert [flag.to_dict() for flag in nothing.flags] == [
        {
            'Name': 'empty-result',
            'Value': 0.0,
            'Reason': 'All labels have 0 mL together; expected more than 0 mL.',
        }
    ]


def test_an_empty_result_of_a_brain(good: Arrays) -> None:
    scan, _, _ = good
    empty = np.zeros(SHAPE, np.uint8, order='F')
    assert names(judge(scan, empty, empty)) == ['empty-result']
    empty[50:52, 50:52, 50:52] = 1
    result = judge(scan, empty, empty)
    assert names(result) == ['empty-result']
    assert result.flags[0].value == pytest.approx(0.06)
    assert all(math.isfinite(value) for value in result.measures.values())


def test_shapes_that_differ_are_refused(good: Arrays) -> None:
    scan, labels, mask = good
    with pytest.raises(ValueError, match='expected one'):
        judge(scan, labels[1:], mask)


def test_a_zero_among_noise_is_not_empty() -> None:
    data = np.random.default_rng(0).integers(0, 4, (40, 40, 40)).astype(np.int16)
    assert not void_mask(data).any()
    data[:8] = 0
    result = void_mask(data)
    assert result[:8].all()
    assert result[9:].mean() < 0.01
    assert not void_mask(np.where(np.arange(40) < 6, 0, data[20:21, 20:21] + 1)).any()


def test_blocks_are_means() -> None:
    data = np.random.default_rng(0).normal(size=(7, 9, 10)).astype(np.float32)
    result = shrink(data, (3, 4, 5))
    assert result.shape == (3, 3, 2)
    assert result[0, 1, 1] == pytest.approx(data[:3, 4:8, 5:].mean(), rel=1e-5)
    assert result[2, 2, 0] == pytest.approx(data[6:, 8:, :5].mean(), rel=1e-5)
    np.testing.assert_allclose(shrink(np.asfortranarray(data), (3, 4, 5)), result, rtol=1e-5)


@pytest.mark.parametrize(
    ('changed', 'name', 'word'),
    [
        ({'brain_l': 0.79}, 'brain-volume', '0.79 L'),
        ({'brain_l': 2.21}, 'brain-volume', '2.21 L'),
        ({'extent_mm': 200.0}, 'brain-extent', '200 mm'),
        ({'grey_white': 0.7}, 'grey-white-ratio', '0.70 times'),
        ({'lateral_difference': 0.2}, 'asymmetry', '20.0%'),
        ({'mirror_asymmetry': 0.2}, 'asymmetry', '20.0%'),
        ({'removed_fraction': 0.3}, 'components-removed', '30.0%'),
        ({'hole_fraction': 0.05}, 'holes', '5.0%'),
        ({'edge_cm2': 9.0}, 'field-edge', '9 cm²'),
        ({'base_cm2': 31.0}, 'field-edge', '31 cm²'),
        ({'missing': ('A', 'B')}, 'labels-missing', '2 (A, B)'),
        ({'cjv': 1.5}, 'low-contrast', '1.50 times'),
        ({'voxel_mm': 2.5}, 'voxel-size', '2.5 mm'),
        ({'surround_filled': 0.1}, 'skull-stripped', '10%'),
        ({'lost_fraction': 0.07}, 'brain-lost', '7.0%'),
        ({'surround_intensity': 1.2}, 'intensity-inverted', '1.20 times'),
        (
            {'head_angle_degrees': 90.0, 'extracerebral_l': 2.0, 'extracerebral_mm': 40.0},
            'orientation',
            '90°',
        ),
    ],
)
def test_each_limit_raises_its_flag_alone(changed: dict, name: str, word: str) -> None:
    fine = {'labelled_ml': 1400.0, 'voxel_mm': 1.0}
    assert find_flags(Quantities(**fine)) == []
    [flag] = find_flags(Quantities(**(fine | changed)))
    assert flag.name == name
    assert word in flag.reason
    assert flag.reason.endswith('.')


def test_ventricles_without_a_label_are_no_holes() -> None:
    assert find_flags(Quantities(1400.0, 1.0, hole_fraction=0.08, has_fluid=False)) == []
