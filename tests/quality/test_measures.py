"""MRIQC's measures: by hand, by MRIQC itself where it is installed, and by what must hold."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from brainchop_bids.quality.histogram import Distribution
from brainchop_bids.quality.measures import (
    cjv,
    cnr,
    efc,
    fber,
    fwhm,
    icvs,
    sharpness,
    snr,
    snr_dietrich,
    summary,
    tissue_measures,
    wm2max,
)

WM, GM, CSF = [9, 10, 11, 10], [6, 7, 8, 7], [2, 3, 4, 3]
AIR = [0, 1, 2, 1, 0, 2]
SMALL = hnp.arrays(np.int16, st.integers(1, 60), elements=st.integers(-40, 40))


def of(values: object) -> Distribution:
    return Distribution.of(np.array(values))


def regions() -> dict[str, Distribution]:
    return {'wm': of(WM), 'gm': of(GM), 'csf': of(CSF)}


def test_an_image_worked_out_by_hand() -> None:
    found = tissue_measures(regions(), of(AIR))
    expected = {
        # White matter becomes 1000, its standard deviation sqrt(1/2) * 100; n/(n-1) = 4/3.
        'snr_wm': 12.2474487,
        'snr_gm': 8.5732141,
        'snr_csf': 3.6742346,
        'snr_total': 8.1649658,
        # Air: median absolute deviation 100 / 0.67448975, sqrt((4 - pi) / 2) = 0.65513638.
        'snrd_wm': 4.4188277,
        'snrd_gm': 3.0931794,
        'snrd_csf': 1.3256483,
        'snrd_total': 2.9458851,
        # 300 / sqrt(6666.6667 + 5000 + 5000), and 2 * 50 / 0.67448975 / 300.
        'cnr': 2.3237900,
        'cjv': 0.4942007,
        'icvs_wm': 1 / 3,
        'summary_wm_median': 1000,
        'summary_wm_stdv': 70.7106781,
        'summary_wm_mad': 74.1301109,
        'summary_wm_k': -1,
        'summary_wm_p05': 900,
        'summary_wm_p95': 1100,
        'summary_gm_mean': 700,
        'summary_bg_mean': 100,
        'summary_bg_stdv': 81.6496581,
        'summary_bg_n': 6,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert fber(of([1, 2, 3, 4]), of([1, 2, 1])) == pytest.approx(6.5)
    # 3/5 and 4/5 of the energy: 0.6 ln 0.6 + 0.8 ln 0.8 = -0.4850102; sqrt(2) ln sqrt(1/2).
    assert efc(of([3, 4])) == pytest.approx(0.4850102 / 0.4901291, rel=1e-6)
    assert efc(of([5, 5, 5])) == pytest.approx(1)
    assert efc(of([5, 0, 0, 0])) == pytest.approx(0, abs=1e-9)
    # Variance 5/3, of the steps 2, -1, 2 it is 3: sqrt(-2 ln 2 / ln 0.1).
    line = np.array([0, 2, 1, 3]).reshape(4, 1, 1)
    assert fwhm(line, np.ones((4, 1, 1), bool)) == (pytest.approx(0.7759252, rel=1e-6), None, None)


def test_mriqc_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pytest.importorskip('mriqc.qc.anatomical', reason='mriqc is not installed')
    # Its command line sets this up.
    monkeypatch.setattr(theirs.config.loggers, 'interface', logging.getLogger('mriqc'))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 900, (20, 21, 22)).astype(np.int16)
    image[:3] = 0
    codes = rng.integers(0, 4, image.shape)
    maps = {name: (codes == n).astype(float) for n, name in enumerate(('bg', 'csf', 'gm', 'wm'))}
    stats = theirs.summary_stats(image.astype(float), maps)
    parts = {name: Distribution.of(image, where > 0) for name, where in maps.items()}
    for name, part in parts.items():
        for key, value in summary(part).items():
            assert stats[name][key] == pytest.approx(value, abs=1e-4), (name, key)
    white, grey, air = parts['wm'], parts['gm'], parts['bg']
    assert snr(white.median, white.stdv, white.size) == pytest.approx(
        theirs.snr(white.median, white.stdv, white.size), rel=1e-6
    )
    for mad in (0.5, 30.0):
        assert snr_dietrich(700, mad, 12.0) == pytest.approx(
            theirs.snr_dietrich(700, mad_air=mad, sigma_air=12.0), rel=1e-6
        )
    assert cnr(white, grey, air) == pytest.approx(
        theirs.cnr(white.median, grey.median, air.stdv, white.stdv, grey.stdv), rel=1e-6
    )
    assert cjv(white, grey) == pytest.approx(
        theirs.cjv(white.median, grey.median, white.mad, grey.mad), rel=1e-6
    )
    head, void = codes > 0, np.zeros(image.shape, np.uint8)
    void[:3] = 1
    within, around = (Distribution.of(image, part & (void == 0)) for part in (head, ~head))
    floats = image.astype(float)
    assert fber(Distribution.of(image, head), around) == pytest.approx(
        theirs.fber(floats, head.astype(np.uint8), void), abs=1e-4
    )
    both = Distribution.of(image, void == 0)
    assert efc(both) == pytest.approx(theirs.efc(floats, void), abs=1e-4)
    assert efc(both) == pytest.approx(theirs.efc(floats, void, decimals=9), rel=1e-6)
    assert wm2max(Distribution.of(image), 700) == pytest.approx(
        theirs.wm2max(floats, 700), rel=1e-6
    )
    shares = theirs.volume_fraction([maps[name] for name in ('csf', 'gm', 'wm')])
    counts = {name: float(parts[name].size) for name in shares}
    assert icvs(counts) == pytest.approx(shares, rel=1e-6)
    assert within.size + around.size == both.size


@given(SMALL)
def test_distributions_are_numpys(data: np.ndarray) -> None:
    for values in (data, data.astype(np.float32) / 8):
        found = Distribution.of(values)
        assert found.size == values.size
        assert found.median == pytest.approx(np.median(values))
        assert found.mean == pytest.approx(values.mean(dtype=float), abs=1e-9)
        assert found.stdv == pytest.approx(values.std(dtype=float), abs=1e-9)
        away = np.median(np.abs(values - np.median(values)))
        assert found.mad * 0.6744897501960817 == pytest.approx(away)
        for percent in (0, 37.5, 99.95, 100):
            assert found.percentile(percent) == pytest.approx(
                np.percentile(values.astype(float), percent)
            )


@given(st.sampled_from([0.25, 2.0, 1000.0]), st.integers(0, 20))
def test_scale_changes_no_measure(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = {'csf': 200, 'gm': 600, 'wm': 1000}
    values = {name: rng.normal(level, 90, 500) for name, level in levels.items()}
    air = np.abs(rng.normal(0, 30, 500))
    plain = tissue_measures({k: of(v) for k, v in values.items()}, of(air))
    scaled = tissue_measures({k: of(v * factor) for k, v in values.items()}, of(air * factor))
    assert scaled == pytest.approx(plain, rel=1e-9)
    assert efc(of(air * factor)) == pytest.approx(efc(of(air)))
    box = ndimage.gaussian_filter(rng.normal(size=(19, 19, 19)), 1) + 9
    inside = box > 8.9
    assert fwhm(box * factor, inside) == pytest.approx(fwhm(box, inside), rel=1e-4)


def test_what_cannot_be_had_is_left_out() -> None:
    assert tissue_measures({'gm': of(GM)}, of(AIR)) == {}
    assert tissue_measures({'wm': of([0, 0, 0])}, None) == {}
    two = tissue_measures({'gm': of(GM), 'wm': of(WM)}, None)
    assert 'cjv' in two
    assert not {'snr_total', 'icvs_gm', 'cnr', 'snrd_wm', 'summary_bg_mad'} & set(two)
    flat = tissue_measures({'gm': of([5, 5]), 'wm': of([5, 5]), 'csf': of([1])}, of([3] * 9))
    assert not {'cjv', 'cnr', 'snr_wm', 'snrd_wm', 'snr_csf'} & set(flat)
    for value in (*two.values(), *flat.values()):
        assert math.isfinite(value)
    assert fber(of([3]), of([0, 0, 1])) is None
    assert efc(of([0, 0])) is None
    assert wm2max(of([0, 0]), 5) is None


@pytest.mark.parametrize('sigma', [1.0, 1.5])
def test_smoothed_noise_is_as_smooth_as_its_filter(sigma: float) -> None:
    """A Gaussian filter of standard deviation s has a width of sqrt(8 ln 2) s."""
    noise = np.random.default_rng(0).normal(size=(60, 62, 64))
    smooth = ndimage.gaussian_filter(noise, [sigma, sigma, 2 * sigma])
    inside = np.ones(noise.shape, bool)
    x, y, z = fwhm(smooth, inside)
    width = math.sqrt(8 * math.log(2)) * sigma
    # Differences of neighbours see the curve's chord, not its slope.
    assert (x, y, z) == pytest.approx((width, width, 2 * width), rel=0.08)
    named = sharpness(smooth, inside, 'PIR')
    assert (named['fwhm_y'], named['fwhm_z'], named['fwhm_x']) == (x, y, z)
    assert named['fwhm_avg'] == pytest.approx((x + y + z) / 3)
