"""Components and masks against scipy.ndimage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from brainchop_bids.image.cleanup import Cleanup, MaskRule
from brainchop_bids.image.components import (
    Removed,
    brain_mask,
    clean_labels,
    fill_holes,
    keep_components,
)
from brainchop_bids.system.errors import SettingsError

FULL = np.ones((3, 3, 3), dtype=bool)
sparse = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=8),
    elements=st.sampled_from([0, 0, 0, 0, 1, 1, 2, 200]),
)


def sizes_of(mask):
    parts, count = ndimage.label(mask, structure=FULL)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)[1:]


@settings(deadline=None)
@given(sparse)
def test_largest(labels):
    kept, removed = keep_components(labels, 'largest')
    parts, sizes = sizes_of(labels != 0)
    assert kept.dtype == labels.dtype
    if not sizes.size:
        assert not kept.any()
        assert removed == Removed(0, 0)
        return
    number = np.unique(parts[kept != 0])
    assert number.size == 1
    assert sizes[number[0] - 1] == sizes.max() == np.count_nonzero(kept)
    np.testing.assert_array_equal(kept[kept != 0], labels[kept != 0])
    assert removed == Removed(sizes.size - 1, int(sizes.sum() - sizes.max()))


@settings(deadline=None)
@given(sparse)
def test_per_label(labels):
    kept, removed = keep_components(labels, 'per-label')
    gone = 0
    for label in np.unique(labels[labels != 0]):
        _, sizes = sizes_of(labels == label)
        assert np.count_nonzero(kept == label) == sizes.max()
        assert sizes_of(kept == label)[1].size == 1
        gone += sizes.size - 1
    changed = kept != labels
    assert not kept[changed].any()
    assert removed == Removed(gone, int(changed.sum()))


def test_none_and_unknown_rules():
    labels = np.eye(3, dtype=np.uint8)[None]
    assert keep_components(labels, 'none') == (labels, Removed(0, 0))
    with pytest.raises(SettingsError, match='biggest'):
        keep_components(labels, 'biggest')


@settings(deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)))
def test_holes_as_scipy_fills_them(mask):
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def ball(radius, zooms):
    reach = [int(radius // zoom) for zoom in zooms]
    grid = np.meshgrid(
        *[np.arange(-n, n + 1) * zoom for n, zoom in zip(reach, zooms, strict=True)],
        indexing='ij',
    )
    return sum(x * x for x in grid) <= radius * radius * (1 + 1e-6)


@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize(
    ('zooms', 'radius'), [((1, 1, 1), 2), ((1, 1, 1), 3.5), ((0.7, 1.1, 2), 3)]
)
def test_closing_is_scipys_with_a_ball(zooms, radius, order):
    noise = np.random.default_rng(3).random((20, 22, 18))
    labels = np.asarray(noise > 0.8, dtype=np.uint8, order=order)
    element = ball(radius, zooms)
    margin = 8  # so that SciPy's border never meets the ball
    closed = ndimage.binary_closing(np.pad(labels, margin), element)
    parts, sizes = sizes_of(closed)
    expected = ndimage.binary_fill_holes(parts == 1 + sizes.argmax())
    got = brain_mask(labels, zooms, MaskRule(closing_mm=radius))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected[(slice(margin, -margin),) * 3])


def test_excluded_labels_are_no_brain():
    labels = np.zeros((9, 9, 9), dtype=np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[2:7, 2:7, 6] = 9
    mask = brain_mask(labels, np.ones(3), MaskRule(exclude=(9,)))
    assert mask.sum() == 5 * 5 * 4


def test_nothing_gives_nothing():
    empty = np.zeros((4, 5, 6), dtype=np.uint16)
    assert not brain_mask(empty, np.ones(3), MaskRule(open_mm=2, closing_mm=3)).any()
    assert not brain_mask(empty + 3, np.ones(3), MaskRule(exclude=(3,))).any()
    for rule in ('largest', 'per-label', 'none'):
        kept, removed = keep_components(empty, rule)
        assert not kept.any()
        assert removed == Removed(0, 0)


def test_closing_does_not_join_opposite_edges():
    labels = np.zeros((12, 12, 12), dtype=np.uint8)
    labels[:, :, 0] = labels[:, :, 11] = 1
    mask = brain_mask(labels, np.ones(3), MaskRule(closing_mm=4))
    assert mask[:, :, 5].sum() == 0


@given(sparse, st.sampled_from([0.0, 1.0, 2.5, 8.0]), st.sampled_from([0.5, 1.0]))
def test_groups_and_sizes(labels, smallest, voxel):
    """The largest of 1 and 2 together, of 200, none of them small; against scipy."""
    rule = f'groups:1,2/200+min:{smallest:g}' if smallest else 'groups:1,2/200'
    kept, removed = keep_components(labels, rule, zooms=(voxel, 1, 1))
    gone = 0
    for group in ((1, 2), (200,)):
        _, sizes = sizes_of(np.isin(labels, group))
        stays = sizes.max(initial=0) if sizes.max(initial=0) * voxel >= smallest else 0
        found = np.isin(kept, group)
        assert np.count_nonzero(found) == stays
        gone += sizes.size - (stays > 0)
    assert removed == Removed(gone, int((kept != labels).sum()))


@given(sparse, st.sampled_from([1.0, 2.0, 5.0]))
def test_small_ones_go(labels, smallest):
    kept, _ = keep_components(labels, f'none+min:{smallest:g}')
    parts, sizes = sizes_of(labels != 0)
    big = np.concatenate([[False], sizes >= smallest])
    np.testing.assert_array_equal(kept, labels * big[parts])


@given(sparse)
def test_holes_get_the_nearest_label(labels):
    kept, removed = keep_components(labels, 'none+fill')
    holes = ndimage.binary_fill_holes(labels != 0) & (labels == 0)
    assert removed.filled == holes.sum()
    np.testing.assert_array_equal(kept[~holes], labels[~holes])
    labelled = np.argwhere(labels)
    for place in np.argwhere(holes):
        distance = ((labelled - place) ** 2).sum(1)
        nearest = labelled[distance == distance.min()]
        assert kept[tuple(place)] in labels[tuple(nearest.T)]


@pytest.mark.parametrize('zooms', [(1.0, 1.0, 1.0), (0.8, 1.0, 1.5)])
def test_what_hangs_on_by_a_thin_bridge_goes(zooms):
    """A brain, a tongue and the canal between them, against SciPy's distances."""
    x, y, z = (np.indices((60, 50, 40)).T * zooms).T
    brain = (x - 15) ** 2 + (y - 25) ** 2 + (z - 20) ** 2 < 12**2
    tongue = (x - 40) ** 2 + (y - 25) ** 2 + (z - 20) ** 2 < 8**2
    canal = (abs(y - 25) <= 1.6) & (abs(z - 20) <= 1.6) & (x > 15) & (x < 40)
    labels = np.where(brain, 1, np.where(tongue, 2, 3 * canal)).astype(np.uint8)
    assert keep_components(labels, 'largest')[0] is not labels
    np.testing.assert_array_equal(keep_components(labels, 'largest')[0], labels)
    kept, removed = keep_components(labels, 'largest+open:3', zooms=zooms)
    np.testing.assert_array_equal(kept[brain], labels[brain])
    assert not kept[tongue & ~brain].any()
    assert removed == Removed(0, np.count_nonzero(labels) - np.count_nonzero(kept))


def test_what_is_thin_everywhere_stays():
    """Gyri that hang on by less than the ball are no tongues."""
    x, y, z = np.indices((60, 50, 40))
    labels = ((x - 20) ** 2 + (y - 25) ** 2 + (z - 20) ** 2 < 18**2).astype(np.uint8)
    labels[35:58, 24:27, 10:30] = 2
    kept, removed = keep_components(labels, 'largest+open:3')
    np.testing.assert_array_equal(kept, labels)
    assert removed == Removed(0, 0)


@given(sparse, st.sampled_from([1.0, 1.5]))
def test_thick_things_nearer_to_another_go(labels, radius):
    """Against SciPy's erosion by distance, and its distances to what is left."""
    whole, _ = keep_components(labels, 'largest')
    kept, _ = keep_components(labels, f'largest+open:{radius:g}')
    thick = ndimage.distance_transform_edt(np.pad(whole != 0, 1))[1:-1, 1:-1, 1:-1] > radius
    _, sizes = sizes_of(thick)
    if sizes.size < 2:
        np.testing.assert_array_equal(kept, whole)
        return
    assert not (kept != whole)[kept != 0].any()
    assert np.count_nonzero(kept[thick]) == sizes.max()


def test_labels_of_no_group_stay():
    labels = np.array([[[1, 0, 0, 1, 1, 0, 3, 0, 3]]], np.uint8)
    kept, removed = keep_components(labels, 'groups:1')
    assert kept.tolist() == [[[0, 0, 0, 1, 1, 0, 3, 0, 3]]]
    assert removed == Removed(1, 1)


@pytest.mark.parametrize(
    'text',
    [
        'largest',
        'none',
        'per-label+min:20',
        'groups:1,2/3+fill',
        'largest+min:0.5+fill',
        'largest+open:3',
        'largest+within:5',
        'per-label+min:2+within:0.5+fill',
    ],
)
def test_rules_are_written_as_they_are_read(text):
    assert str(Cleanup.parse(text)) == text


@given(st.floats(1e-6, 49.9), st.floats(1e-6, 9e6))
def test_sizes_are_read_back_as_they_were_written(open_mm: float, min_mm3: float) -> None:
    rule = Cleanup('largest', open_mm=open_mm, min_mm3=min_mm3)
    assert Cleanup.parse(str(rule)) == rule


@pytest.mark.parametrize(
    'text',
    ['', 'biggest', 'groups', 'groups:', 'groups:a', 'groups:1,1', 'groups:0', 'largest:1',
     'none+min', 'none+min:x', 'none+fil', 'none+fill+fill'],
)  # fmt: skip
def test_what_is_no_rule(text):
    with pytest.raises(SettingsError, match='is not known; expected largest'):
        Cleanup.parse(text)


@pytest.mark.parametrize(
    'text',
    ['none+min:-1', 'none+min:nan', 'none+min:1e30', 'none+within:0', 'none+within:500',
     'largest+open:50', 'largest+open:1e30', 'largest+open:inf'],
)  # fmt: skip
def test_sizes_beyond_heads(text: str) -> None:
    name = text.partition('+')[2].partition(':')[0]
    with pytest.raises(SettingsError, match=f'{name} is .*; expected more than 0 and less than'):
        Cleanup.parse(text)


def head(zooms):
    """Make a brain in fluid, a muscle (brain's label) that only fluid and a thin bridge join."""
    x, y, z = (np.indices((64, 44, 44)).T * zooms).T
    middle = 22 * np.asarray(zooms)[1:]
    r2 = (y - middle[0]) ** 2 + (z - middle[1]) ** 2
    brain = (x - 16) ** 2 + r2 < 11**2
    sulcus = brain & (abs(y - middle[0]) <= 2) & (x < 10)
    fluid = (x - 16) ** 2 + r2 < 14**2
    muscle = (x - 38) ** 2 + r2 < 8**2
    bridge = (r2 <= 2**2) & (x > 16) & (x < 38)
    labels = np.where(brain & ~sulcus, 1, np.where(muscle | bridge, 2, 3 * (fluid | sulcus)))
    return labels.astype(np.uint8), brain, fluid, muscle


@pytest.mark.parametrize('zooms', [(1.0, 1.0, 1.0), (0.9, 1.1, 1.2)])
def test_neither_fluid_nor_muscle_is_brain(zooms):
    labels, brain, fluid, muscle = head(zooms)
    rule = MaskRule(exclude=(3,), open_mm=3, closing_mm=4)
    mask = brain_mask(labels, zooms, rule) != 0
    # The sulcus is filled by the closing, whose ball it is narrower than.
    assert np.count_nonzero(mask & brain) > 0.97 * np.count_nonzero(brain)
    assert not (mask & muscle & ~fluid).any()
    assert np.count_nonzero(mask) < 1.1 * np.count_nonzero(brain)
    assert (brain_mask(labels, zooms) != 0)[muscle].all()


@pytest.mark.parametrize('zooms', [(1.0, 1.0, 1.0), (0.9, 1.1, 1.2)])
def test_only_excluded_labels_lie_outside_the_mask_and_not_far(zooms):
    """Against SciPy's distances."""
    labels, _, fluid, muscle = head(zooms)
    rule = MaskRule(exclude=(3,), open_mm=3, closing_mm=4)
    kept, mask, removed = clean_labels(labels, 'largest+within:2.5', rule, zooms=zooms)
    np.testing.assert_array_equal(mask, brain_mask(labels, zooms, rule))
    distance = ndimage.distance_transform_edt(mask == 0, sampling=zooms)
    near = (mask != 0) | ((labels == 3) & (distance <= 2.5 + 1e-6))
    np.testing.assert_array_equal(kept, keep_components(labels * near, 'largest')[0])
    assert removed.voxels == np.count_nonzero(kept != labels) > np.count_nonzero(muscle & ~fluid)


@settings(deadline=None)
@given(sparse, st.sampled_from([1.0, 2.0]), st.sampled_from([(1, 1, 1), (0.7, 1.0, 1.6)]))
def test_clean_up_leaves_labels_or_background(labels, within, zooms):
    rule = MaskRule(exclude=(2,), open_mm=1, closing_mm=2)
    kept, mask, removed = clean_labels(labels, f'none+within:{within:g}', rule, zooms=zooms)
    changed = kept != labels
    assert not kept[changed].any()
    assert removed == Removed(0, int(changed.sum()))
    assert not np.isin(kept[mask == 0], (1, 200)).any()
    np.testing.assert_array_equal(kept[mask != 0], labels[mask != 0])


@given(sparse, st.sampled_from(['largest', 'per-label', 'none+fill']))
def test_without_within_labels_are_those_of_the_components(labels, rule):
    kept, mask, removed = clean_labels(labels, rule)
    expected = keep_components(labels, rule)
    np.testing.assert_array_equal(kept, expected[0])
    assert removed == expected[1]
    np.testing.assert_array_equal(mask, brain_mask(kept, (1, 1, 1)))


def test_mask_rules_are_read_as_they_were_written():
    rule = MaskRule(exclude=(3, 5), open_mm=4.0, closing_mm=8.5)
    assert MaskRule.from_dict(rule.to_dict()) == rule


@pytest.mark.parametrize(
    'content',
    [[], {'closing': 3}, {'closing_mm': -1}, {'open_mm': '4'}, {'open_mm': float('nan')},
     {'open_mm': True}, {'closing_mm': 50}, {'exclude': 3}, {'exclude': [0]}, {'exclude': [1.5]}],
)  # fmt: skip
def test_what_is_no_mask_rule(content):
    with pytest.raises(SettingsError, match=r'mask.*expected'):
        MaskRule.from_dict(content)
