"""Robust z against scipy's median absolute deviation, and where there is none."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from brainchop_bids.reports.group.outliers import CUTOFF, MIN_SCANS, robust_z, spread

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=MIN_SCANS, max_size=60)


@given(NUMBERS)
def test_scores_are_iglewicz_and_hoaglins(values: list[float]) -> None:
    mad = median_abs_deviation(values)
    scores = robust_z(values)
    if mad > 1e-6 * max(map(abs, values)):
        expected = 0.6745 * (np.array(values) - np.median(values)) / mad
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_mean_deviation_stands_in_where_most_are_equal() -> None:
    values = [0.0] * 9 + [0.5, 2.0]
    expected = 2.0 / (1.253314 * statistics.fmean(values))
    assert robust_z(values)[-1] == pytest.approx(expected)
    assert expected > CUTOFF


def test_equal_values_have_no_scores_even_where_rounding_differs() -> None:
    assert robust_z([5.0] * 20) == [None] * 20
    assert robust_z([100 * (0.1 + 0.2), 30.0] * 10) == [None] * 20


def test_too_few_have_no_scores() -> None:
    values = [float(value) for value in range(MIN_SCANS - 1)]
    assert robust_z([*values, None]) == [None] * MIN_SCANS
    scores = robust_z([*values, 1000.0, None])
    assert scores[-1] is None
    assert scores[-2] is not None
    assert scores[-2] > CUTOFF
    assert robust_z([]) == []


@given(NUMBERS)
def test_quartiles_are_those_of_statistics(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    quartiles = statistics.quantiles(values, n=4, method='inclusive')
    ours = (found.quarter, found.median, found.three_quarters)
    assert all(
        math.isclose(mine, theirs, rel_tol=1e-9, abs_tol=1e-6)
        for mine, theirs in zip(ours, quartiles, strict=True)
    )
    assert (found.low, found.high, found.count) == (min(values), max(values), len(values))


def test_nothing_known_has_no_spread() -> None:
    assert spread([None, None]) is None


def test_chance_marks_as_many_as_the_page_says() -> None:
    """5 % of 5, 1.7 % of 10, 0.65 % of 20 and 0.1 % of 100 normally distributed values."""
    random = np.random.default_rng(5)
    for count, share in ((5, 0.053), (10, 0.017), (20, 0.0065), (100, 0.0011)):
        samples = random.standard_normal((400_000 // count, count))
        centred = np.abs(samples - np.median(samples, axis=1, keepdims=True))
        scores = 0.6745 * centred / np.median(centred, axis=1, keepdims=True)
        assert np.mean(scores > CUTOFF) == pytest.approx(share, rel=0.12)
