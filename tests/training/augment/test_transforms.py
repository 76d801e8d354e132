"""Augmentation: labels go where their anatomy goes, and intensities do what was asked."""

import functools
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainchop_bids.image.boxes import bounding_box
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.augment import transforms as augmentation
from brainchop_bids.training.augment.fields import rotate
from brainchop_bids.training.augment.transforms import (
    TRANSFORMS,
    AugmentationOptions,
    augment,
    blurred,
    thick_slices,
    with_gamma,
)
from brainchop_bids.training.augment.warp import Displacement, Warp
from brainchop_bids.training.config import _build

NEVER = AugmentationOptions(**dict.fromkeys(TRANSFORMS, 0.0))
GEOMETRY = ('rigid', 'zoom', 'elastic', 'flip')
INTENSITY = ('bias', 'blur', 'noise', 'anisotropy', 'gamma')
N = 32


def always(*names: str, **ranges: float) -> AugmentationOptions:
    return replace(NEVER, **dict.fromkeys(names, 1.0), **ranges)


def head() -> tuple[np.ndarray, np.ndarray]:
    """Return two channels of a head with a left and a right half of brain, and their labels."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, N)] * 3, indexing='ij'))
    radius = np.sqrt((grid**2 * np.array([1.2, 1, 0.9])[:, None, None, None]).sum(0))
    labels = np.zeros((N, N, N), np.uint8)
    labels[radius < 0.9] = 1
    # The first axis of LIA runs from right to left.
    labels[(radius < 0.65) & (grid[0] < 0.1)] = 3
    labels[(radius < 0.65) & (grid[0] >= 0.1)] = 2
    # Nothing about it is symmetrical.
    labels[(grid[0] - 0.3) ** 2 + (grid[1] - 0.1) ** 2 + grid[2] ** 2 < 0.04] = 4
    means = np.array([[0, 0], [60, 200], [180, 90], [180, 90], [110, 250]], np.uint8)
    return means[labels], labels


def noisy() -> tuple[np.ndarray, np.ndarray]:
    images, labels = head()
    return np.random.default_rng(9).integers(0, 256, images.shape, np.uint8), labels


def run(options: AugmentationOptions, seed: int = 0, **kwargs) -> tuple[np.ndarray, np.ndarray]:
    return augment(*noisy(), np.random.default_rng(seed), options, **kwargs)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_without_a_chance_of_anything_nothing_changes(dtype: type) -> None:
    images, labels = noisy()
    images = images.astype(dtype)
    found, moved = augment(images, labels, np.random.default_rng(0), NEVER, swap=[(2, 3)])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(moved, labels)
    assert moved.dtype == labels.dtype
    # What comes back may be written to.
    assert not np.shares_memory(found, images)
    assert not np.shares_memory(moved, labels)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from('CF'))
def test_any_draw_gives_a_usable_pair_and_leaves_its_input_alone(seed: int, order: str) -> None:
    images, labels = (np.asarray(part, order=order) for part in noisy())
    before = images.copy(), labels.copy()
    options = always(*TRANSFORMS)
    found, moved = augment(images, labels, np.random.default_rng(seed), options, swap=[(2, 3)])
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert (found.dtype, found.shape) == (np.float32, images.shape)
    assert (moved.dtype, moved.shape) == (np.uint8, labels.shape)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 255
    assert set(np.unique(moved)) <= set(range(5))
    # The order in memory changes nothing.
    other = augment(*noisy(), np.random.default_rng(seed), options, swap=[(2, 3)])
    np.testing.assert_array_equal(found, other[0])
    np.testing.assert_array_equal(moved, other[1])


def test_the_seed_decides() -> None:
    first, again, other = (run(AugmentationOptions(rigid=1, noise=1), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_a_flip_mirrors_exchanges_sides_and_undoes_itself() -> None:
    images, labels = noisy()
    once = run(always('flip'), swap=[(2, 3)])
    np.testing.assert_array_equal(once[0], images[::-1])
    expected = labels[::-1].copy()
    expected[labels[::-1] == 2], expected[labels[::-1] == 3] = 3, 2
    np.testing.assert_array_equal(once[1], expected)
    twice = augment(*once, np.random.default_rng(1), always('flip'), swap=[(2, 3)])
    np.testing.assert_array_equal(twice[0], images)
    np.testing.assert_array_equal(twice[1], labels)


@functools.cache
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Return two smooth blobs, the second within the first, and labels that tell them apart."""
    _, labels = head()
    masks = np.stack([labels > 0, labels == 2], -1).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    images = 255 * ndimage.gaussian_filter(masks.astype(np.float32), (3, 3, 3, 0))
    return images, (images > 127.5).sum(-1).astype(np.uint8)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_labels_move_with_the_image(seed: int) -> None:
    images, labels = blobs()
    options = always(*GEOMETRY, translation=4.0, displacement=1.5)
    found, moved = augment(images, labels, np.random.default_rng(seed), options)
    assert dice(moved > 0, labels > 0) < 0.99
    # Nearest voxels roughen a surface, and that of the small blob weighs more.
    for channel, least in ((0, 0.98), (1, 0.93)):
        assert dice(found[..., channel] > 127.5, moved > channel) > least


def test_a_turn_is_scipys() -> None:
    images, _ = noisy()
    angles = np.deg2rad([20.0, -7.0, 35.0])
    matrix = rotate(np.eye(3), angles)
    # SciPy turns about its y axis the other way round than from the first axis to the third.
    expected = Rotation.from_euler('xyz', angles * [1, -1, 1]).as_matrix()
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    shift = np.array([3.0, -2.5, 7.25])
    warp = Warp(np.column_stack([matrix, shift]).astype(np.float32), (N, N, N))
    for order, make in ((1, warp.image), (0, warp.labels)):
        data = ndimage.gaussian_filter(images[..., 0].astype(np.float32), 1.5)
        found = make(data)
        truth = ndimage.affine_transform(data, matrix, shift, order=order, mode='grid-constant')
        # Coordinates are float32: a few lie on the other side of the middle of two voxels.
        close = np.isclose(found, truth, atol=0.02)
        assert close.mean() > (0.9999 if order else 0.999)


def test_drawn_angles_shifts_and_sizes_stay_within_their_ranges() -> None:
    """A linear ramp shows the matrix that was applied to it."""
    steps = np.arange(N, dtype=np.float32)
    ramps = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), -1) + 100
    labels = np.zeros((N, N, N), np.uint8)
    options = always('rigid', 'zoom', rotation=30.0, translation=2.0, scaling=0.2)
    turns = []
    for seed in range(20):
        found, _ = augment(ramps, labels, np.random.default_rng(seed), options)
        middle = found[12:20, 12:20, 12:20].astype(np.float64)
        columns = [np.diff(middle, axis=k).mean((0, 1, 2)) for k in range(3)]
        sizes = np.linalg.svd(np.stack(columns, 1), compute_uv=False)
        assert ((sizes > 1 / 1.21) & (sizes < 1 / 0.79)).all()
        # The middle of the volume lies between voxels 15 and 16.
        shift = middle[3:5, 3:5, 3:5].mean((0, 1, 2)) - 100 - 15.5
        assert (np.abs(shift) < 2.01).all()
        turns.append(shift)
    assert (np.std(turns, axis=0) > 0.7).all()


def test_bending_is_scipys_too() -> None:
    images, labels = noisy()
    bend = Displacement.draw((N, N, N), 10, 1.5, np.random.default_rng(3))
    matrix = np.column_stack([rotate(np.eye(3), (0.1, 0.2, -0.1)), (1.0, 2.0, -3.0)])
    warp = Warp(matrix.astype(np.float32), (N, N, N), bend)
    index = np.indices((N, N, N)).reshape(3, -1)
    where = (matrix[:, :3] @ index + matrix[:, 3:]).reshape(3, N, N, N) + bend.whole()
    smooth = ndimage.gaussian_filter(images[..., 0].astype(np.float32), 1.0)
    expected = ndimage.map_coordinates(smooth, where, order=1, mode='grid-constant')
    np.testing.assert_allclose(warp.image(smooth), expected, atol=0.02)
    nearest = ndimage.map_coordinates(labels, where, order=0, mode='grid-constant')
    assert (warp.labels(labels) == nearest).mean() > 0.9999


def test_a_displacement_has_the_size_asked_for() -> None:
    fields_of = [
        Displacement.draw((40, 44, 48), 12, 2.5, np.random.default_rng(seed)).whole()
        for seed in range(10)
    ]
    assert np.std(fields_of) == pytest.approx(2.5, rel=0.1)
    assert np.abs(np.diff(fields_of[0], axis=1)).max() < 2


def test_a_cut_field_of_view_ends_within_the_head() -> None:
    images, labels = head()
    # Air is not quite dark: what is exactly 0 has been cut.
    images, labels = images + np.uint8(1), labels + np.uint8(1)
    ends, depths = set(), []
    for seed in range(40):
        found, moved = augment(
            images, labels, np.random.default_rng(seed), always('crop', crop_depth=9.0)
        )
        gone = moved == 0
        np.testing.assert_array_equal(found, np.where(gone[..., None], 0, images))
        box = bounding_box(gone)
        assert gone[box].all()
        (axis,) = (k for k in range(3) if box[k] != slice(0, N))
        other = tuple({0, 1, 2} - {axis})
        inside = np.flatnonzero((labels > 1).any(other))
        low = box[axis].start == 0
        assert low or box[axis].stop == N
        beyond = inside[0] if low else N - 1 - inside[-1]
        depths.append(box[axis].stop - box[axis].start - beyond)
        ends.add((axis, low))
    assert len(ends) == 6
    # The outermost planes hold too little to be told from specks.
    assert max(depths) in (8, 9, 10)
    assert len(set(depths)) > 6


def test_noise_has_the_level_drawn_and_differs_between_channels() -> None:
    images, labels = np.full((N, N, N, 2), 120, np.uint8), np.zeros((N, N, N), np.uint8)
    levels = []
    for seed in range(30):
        found, _ = augment(
            images, labels, np.random.default_rng(seed), always('noise', noise_level=0.1)
        )
        grain = found - 120
        assert np.abs(grain.mean((0, 1, 2))).max() < 1
        assert abs(np.corrcoef(grain[..., 0].ravel(), grain[..., 1].ravel())[0, 1]) < 0.03
        levels += list(grain.std((0, 1, 2)) / 255)
    # Even from 0 to 0.1.
    assert max(levels) < 0.101
    assert np.mean(levels) == pytest.approx(0.05, abs=0.01)


def test_a_bias_field_is_smooth_and_keeps_the_brightest() -> None:
    images, labels = head()
    images = images.astype(np.float32) + 40
    found, _ = augment(images, labels, np.random.default_rng(4), always('bias', bias_strength=0.6))
    # What was cut at 255 says nothing.
    factor = np.log(np.where(found < 254.9, found / images, np.nan))
    assert np.nanstd(factor) > 0.02
    for axis in range(3):
        assert np.nanmax(np.abs(np.diff(factor, axis=axis))) < 0.35
    assert np.quantile(found[..., 0], 0.999) == pytest.approx(
        np.quantile(images[..., 0], 0.999), rel=0.05
    )


def test_gamma_is_a_power_within_the_range() -> None:
    images, labels = noisy()
    np.testing.assert_allclose(
        with_gamma(images.astype(np.float32), 1.7), 255 * (images / 255) ** 1.7, rtol=1e-5
    )
    exponents = []
    for seed in range(40):
        found, _ = augment(
            images, labels, np.random.default_rng(seed), always('gamma', gamma_range=0.5)
        )
        for channel in range(2):
            x, y = images[..., channel].ravel() / 255, found[..., channel].ravel() / 255
            middle = (x > 0.1) & (x < 0.9)
            ratio = np.log(y[middle]) / np.log(x[middle])
            assert np.ptp(ratio) < 1e-3
            exponents.append(np.log(ratio.mean()))
    assert np.abs(exponents).max() < 0.501
    assert abs(np.mean(exponents)) < 0.12
    assert np.std(exponents) == pytest.approx(1 / np.sqrt(12), rel=0.25)


def test_blurring_is_scipys_gaussian() -> None:
    image = np.zeros((N, N, N), np.float32)
    image[14:18, 15, 9:20] = 100
    expected = ndimage.gaussian_filter(image, 1.3, truncate=8)
    np.testing.assert_allclose(blurred(image, 1.3), expected, atol=1e-3)


@pytest.mark.parametrize('axis', range(3))
def test_thick_slices_lose_what_is_fine_along_one_axis_only(axis: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((48, 48, 48), dtype=np.float32)
    thick = thick_slices(image, axis, 4.0)
    assert thick.shape == image.shape
    power = [np.abs(np.fft.fftn(volume)) ** 2 for volume in (image, thick)]
    for k in range(3):
        others = tuple({0, 1, 2} - {k})
        before, after = (p.sum(others) for p in power)
        # Beyond what slices of 4 can hold, 48 / 4 / 2 periods, and well below.
        fine, coarse = slice(12, 25), slice(0, 3)
        if k == axis:
            assert after[fine].sum() < 0.05 * before[fine].sum()
            assert after[coarse].sum() > 0.5 * before[coarse].sum()
        else:
            np.testing.assert_allclose(
                after[fine].sum() / before[fine].sum(),
                after.sum() / before.sum(),
                rtol=0.1,
            )


def test_thick_slices_average_what_lies_between_them() -> None:
    wave = np.sin(2 * np.pi * np.arange(48) / 4.2).astype(np.float32)
    image = np.broadcast_to(wave, (4, 4, 48))
    assert np.abs(thick_slices(image, 2, 4.0)[..., 4:-4]).max() < 0.1


def test_slices_are_thick_across_any_axis() -> None:
    axes = set()
    for seed in range(12):
        found, _ = run(always('anisotropy', thickness=8.0), seed)
        rough = [np.abs(np.diff(found[..., 0], axis=axis)).mean() for axis in range(3)]
        axes.add(int(np.argmin(rough)))
    assert axes == {0, 1, 2}


def test_thick_slices_keep_a_ramp() -> None:
    image = np.broadcast_to(np.arange(48, dtype=np.float32)[:, None, None], (48, 8, 8))
    found = thick_slices(image, 0, 4.0)
    np.testing.assert_allclose(found[8:-8], image[8:-8], atol=0.05)


@pytest.mark.parametrize('name', TRANSFORMS)
def test_switching_a_transform_on_leaves_what_the_others_draw(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each generator's state after an augmentation tells what was drawn from it."""
    original = augmentation._generator

    def states(options: AugmentationOptions) -> dict[tuple[int, str], dict]:
        made = {}

        def spy(seed: int, channel: int, transform: str) -> np.random.Generator:
            made[channel, transform] = original(seed, channel, transform)
            return made[channel, transform]

        monkeypatch.setattr(augmentation, '_generator', spy)
        run(options)
        return {key: rng.bit_generator.state for key, rng in made.items()}

    others = [other for other in TRANSFORMS if other != name]
    with_it, without = states(always(*TRANSFORMS)), states(always(*others))
    assert {key for key in with_it if with_it[key] != without[key]} <= {(0, name), (1, name)}
    assert with_it[0, name] != without[0, name] or name == 'flip'


def test_transforms_happen_as_often_as_asked_and_apart_from_each_other() -> None:
    _, labels = noisy()
    happened = []
    for seed in range(200):
        options = replace(NEVER, flip=0.5, gamma=0.25)
        found, moved = run(options, seed)
        mirrored = not np.array_equal(moved, labels)
        plain = noisy()[0][::-1] if mirrored else noisy()[0]
        happened.append((mirrored, not np.array_equal(found[..., 0], plain[..., 0])))
    shares = np.mean(happened, axis=0)
    np.testing.assert_allclose(shares, (0.5, 0.25), atol=0.11)
    assert abs(np.corrcoef(np.transpose(happened))[0, 1]) < 0.25


def test_another_channel_changes_nothing_for_the_first() -> None:
    images, labels = noisy()
    options = always(*INTENSITY, 'rigid')
    both = augment(images, labels, np.random.default_rng(5), options)
    alone = augment(images[..., :1], labels, np.random.default_rng(5), options)
    np.testing.assert_array_equal(both[0][..., :1], alone[0])
    np.testing.assert_array_equal(both[1], alone[1])


def test_options_take_one_number_from_the_given_generator() -> None:
    after = []
    for options in (NEVER, always(*TRANSFORMS)):
        rng = np.random.default_rng(8)
        augment(*noisy(), rng, options)
        after.append(rng.random())
    assert after[0] == after[1]


@pytest.mark.parametrize('name', [item.name for item in fields(AugmentationOptions)])
@pytest.mark.parametrize('value', [-0.1, float('nan'), 1e6])
def test_impossible_options_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf'augmentation\.{name} in the training config is '):
        replace(NEVER, **{name: value})


def test_options_are_documented_and_make_a_table_of_a_config() -> None:
    documentation = AugmentationOptions.__doc__ or ''
    for item in fields(AugmentationOptions):
        assert item.name in documentation
    content = asdict(AugmentationOptions())
    assert _build(AugmentationOptions, content, 'augmentation.') == AugmentationOptions()
    with pytest.raises(SettingsError, match=r'did you mean augmentation\.gamma_range'):
        _build(AugmentationOptions, {'gama_range': 1.0}, 'augmentation.')


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    images, labels = noisy()
    for wrong in (images[..., 0], images[:-1]):
        with pytest.raises(ValueError, match='expected'):
            augment(wrong, labels, np.random.default_rng(0), NEVER)
