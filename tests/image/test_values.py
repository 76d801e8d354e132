"""Values of any magnitude keep their proportions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainchop_bids.image.values import as_read

SHAPE = (2, 2, 3)
INTEGERS = hnp.arrays(np.int16, SHAPE, elements=st.integers(-1000, 1000)).filter(np.any)


@settings(max_examples=40)
@given(INTEGERS, st.integers(-1000, 1000), st.sampled_from('<>'), st.sampled_from('CF'))
def test_proportions_are_kept_at_any_power_of_two(
    data: np.ndarray, power: int, order: str, layout: str
) -> None:
    stored = np.array(data * 2.0**power, dtype=f'{order}f8', order=layout)
    before = stored.copy()
    values, warnings = as_read(stored, 1.0, 0.0)
    assert values.dtype == np.float32
    reach = int(np.abs(data).max())
    exact = values.astype(np.float64)
    np.testing.assert_allclose(exact / np.abs(exact).max() * reach, data, rtol=1e-12)
    assert len(warnings) <= 1
    assert not (warnings and abs(power) < 100)
    np.testing.assert_array_equal(stored, before)


@settings(max_examples=40)
@given(INTEGERS, st.integers(-140, 140))
def test_a_slope_is_a_factor_like_any_other(data: np.ndarray, power: int) -> None:
    by_slope, _ = as_read(data, 2.0**power, 0.0)
    by_value, _ = as_read(data * 2.0**power, 1.0, 0.0)
    np.testing.assert_array_equal(by_slope, by_value)


def test_what_is_not_finite_is_told_and_the_array_of_the_caller_is_not_changed() -> None:
    data = np.arange(12, dtype=np.float32).reshape(SHAPE)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    before = data.copy()
    values, warnings = as_read(data, 1.0, 0.0)
    assert warnings == ['3 values that are not finite (NaN or infinite) became 0']
    np.testing.assert_array_equal(values, np.where(np.isfinite(data), data, 0))
    np.testing.assert_array_equal(data, before)
