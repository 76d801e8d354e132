"""Normalisation against NumPy's quantiles and moments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainchop_bids.image.normalise import Normalization, normalise, normalise_channels
from brainchop_bids.system.errors import SettingsError

RULES = [
    'minmax',
    'quantile:0.02:0.98',
    'quantile:0.02:0.98:clip',
    'quantile:0.05:0.95',
    'zscore',
    'zscore-whole',
    'brats',
    'max',
    'none',
]
volumes = hnp.arrays(
    st.sampled_from([np.uint8, np.int16]),
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    elements=st.integers(0, 255),
)


def expected(data, rule):
    """Compute by definition, in double precision; return also how far float32 may be off."""
    x = data.astype(np.float64)
    if rule.kind == 'none':
        return x, 0
    if rule.kind == 'max':
        return x / (x.max() or 1.0), 0
    if rule.kind == 'brats':
        # normalize_intensity of MedicalZoo's medical_image_process.py; a constant volume has no z.
        if x.std() == 0:
            return np.zeros(x.shape), 0
        z = (x - x.mean()) / x.std()
        values = 100 * (z - x.min()) / (x.max() - x.min()) + 10
        slack = 4e-7 * (np.abs(values).max() + 100 * x.max() / x.std() / (x.max() - x.min()))
        return np.where(x == 0, 0, values), slack
    if rule.kind.startswith('zscore'):
        inside = x if rule.kind == 'zscore-whole' else x[x > 0]
        mean, span = (inside.mean(), inside.std()) if inside.size else (0.0, 0.0)
        return (x - mean) / (span or 1.0), 1e-6 * x.max() / (span or 1.0)
    if rule.kind == 'minmax':
        low, high = x.min(), x.max()
    else:
        low, high = np.quantile(data, (rule.low, rule.high))
    result = (x - low) / ((high - low) or 1.0)
    return np.clip(result, 0, 1) if rule.clip else result, 2e-5


@pytest.mark.parametrize(
    ('theirs', 'formula'),
    [
        ('full_volume_mean', lambda x: (x - x.mean()) / x.std()),
        ('max_min', lambda x: (x - x.min()) / (x.max() - x.min())),
        ('mean', lambda x: (x - x[x != 0].mean()) / x[x != 0].std()),
        ('max', lambda x: x / x.max()),
    ],
)
@pytest.mark.parametrize('kind', [np.uint8, np.int16])
def test_medicalzoos_names(theirs, formula, kind):
    data = np.random.default_rng(0).integers(0, 200, (9, 8, 7)).astype(kind)
    data[:4] = 0
    rule = Normalization.parse(theirs)
    np.testing.assert_allclose(normalise(data, rule), formula(data.astype(float)), atol=1e-5)
    # What is written down is a rule of the same name everywhere.
    assert Normalization.parse(str(rule)) == rule


@pytest.mark.parametrize('text', RULES)
@given(data=volumes)
def test_by_definition(text, data):
    rule = Normalization.parse(text)
    got = normalise(data, rule)
    assert got.dtype == np.float32
    values, slack = expected(data, rule)
    np.testing.assert_allclose(got, values, rtol=2e-5, atol=2e-5 + slack)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)),
    st.floats(0, 0.5),
    st.floats(0.5001, 1),
)
def test_uint8_quantiles_are_numpys_to_the_last_bit(data, low, high):
    rule = Normalization('quantile', low, high)
    q_low, q_high = np.quantile(data, (low, high))
    reference = data.astype(np.float32) - np.float32(q_low)
    if q_high > q_low:
        reference /= np.float32(float(q_high) - float(q_low))
    np.testing.assert_array_equal(normalise(data, rule), reference)


@pytest.mark.parametrize('text', RULES[:-2])
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize('value', [0, 7])
def test_constant_volumes_give_zeros(text, dtype, value):
    data = np.full((3, 3, 3), value, dtype=dtype)
    with np.errstate(all='raise'):
        assert not normalise(data, Normalization.parse(text)).any()


@pytest.mark.parametrize('text', RULES)
@given(data=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_each_channel_by_its_own_numbers(text, data):
    rule = Normalization.parse(text)
    got = normalise_channels(data, rule)
    assert got.shape == data.shape
    assert got.dtype == np.float32
    for channel in range(data.shape[-1]):
        values, slack = expected(data[..., channel], rule)
        np.testing.assert_allclose(got[..., channel], values, rtol=2e-5, atol=2e-5 + slack)


def test_memory_order_is_kept():
    data = np.asfortranarray(np.random.default_rng(0).integers(0, 255, (40, 50, 60), np.uint8))
    assert normalise(data, Normalization()).flags.f_contiguous
    plain = np.ascontiguousarray(data)
    np.testing.assert_array_equal(
        normalise(data, Normalization()), normalise(plain, Normalization())
    )


@pytest.mark.parametrize('text', RULES)
def test_text_and_mapping_go_there_and_back(text):
    rule = Normalization.parse(text)
    assert Normalization.parse(str(rule)) == rule
    assert Normalization.from_dict(rule.to_dict()) == rule


@pytest.mark.parametrize(
    'text',
    ['', 'maximum', 'minmax:1', 'quantile:0.5', 'quantile:a:b', 'quantile:0.9:0.1', 'zscore:clip'],
)
def test_other_texts_are_refused(text):
    with pytest.raises(SettingsError):
        Normalization.parse(text)


def test_unknown_keys_are_refused():
    with pytest.raises(SettingsError, match='colour'):
        Normalization.from_dict({'kind': 'minmax', 'colour': 1})
