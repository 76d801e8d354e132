"""Image quality measures with the names and formulas of MRIQC.

Esteban et al. (2017), MRIQC: Advancing the automatic prediction of image quality in MRI from
unseen sites, https://doi.org/10.1371/journal.pone.0184661; formulas as in its version 24.0.2.

Where these numbers differ from MRIQC's for the same scan, it is because

- regions are the labels and masks of this package (MRIQC: FSL FAST, SynthStrip and others), each
  voxel wholly of one tissue;
- intensities are not corrected for non-uniformity (MRIQC: N4), so that tissues vary more. They
  are scaled so that the median of white matter is 1000, as there, but not rounded after it;
- air is all that is clearly outside the head and above its base; ghosts in it stay.

Measures that cannot be computed, because a tissue or air is missing, are left out; none is NaN.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .histogram import Distribution

TISSUES = ('csf', 'gm', 'wm')
# MRIQC's harmonised intensity of white matter.
WHITE = 1000.0
# sqrt((4 - pi) / 2): noise of a magnitude image against its spread in air.
RAYLEIGH = math.sqrt((4 - math.pi) / 2)
_LEAST_MAD = 1.0
_LEAST_STDV = 1e-3


def snr(mean: float, stdv: float, count: float) -> float:
    """Signal-to-noise ratio within one tissue.

    Parameters
    ----------
    mean, stdv : float
        Its typical intensity (MRIQC gives the median) and standard deviation.
    count : float
        Number of voxels.

    Returns
    -------
    float
    """
    return mean / (stdv * math.sqrt(count / (count - 1)))


def snr_dietrich(mean: float, air_mad: float, air_stdv: float) -> float | None:
    """Signal-to-noise ratio against air.

    Dietrich et al. (2007), eq. A.12, https://doi.org/10.1002/jmri.20969.

    Parameters
    ----------
    mean : float
        Typical intensity of the tissue, where white matter is 1000.
    air_mad, air_stdv : float
        Spread of the air; the standard deviation serves where the first is at most 1.

    Returns
    -------
    float or None
        None where the air does not vary.
    """
    if air_mad > _LEAST_MAD:
        return RAYLEIGH * mean / air_mad
    return RAYLEIGH * mean / air_stdv if air_stdv > _LEAST_STDV else None


def cnr(white: Distribution, grey: Distribution, air: Distribution) -> float:
    """Contrast-to-noise ratio of grey and white matter.

    Magnotta and Friedman (2006), https://doi.org/10.1007/s10278-006-0264-x.

    Parameters
    ----------
    white, grey, air : Distribution
        Intensities.

    Returns
    -------
    float
    """
    noise = math.sqrt(air.stdv**2 + grey.stdv**2 + white.stdv**2)
    return abs(white.median - grey.median) / noise


def cjv(white: Distribution, grey: Distribution) -> float | None:
    """Coefficient of joint variation of grey and white matter: lower is better.

    Ganzetti et al. (2016), https://doi.org/10.3389/fninf.2016.00010, with medians and their
    absolute deviations as in MRIQC.

    Parameters
    ----------
    white, grey : Distribution
        Intensities.

    Returns
    -------
    float or None
        None where both have the same median.
    """
    contrast = abs(white.median - grey.median)
    return (white.mad + grey.mad) / contrast if contrast > 0 else None


def fber(head: Distribution, background: Distribution) -> float | None:
    """Foreground-background energy ratio.

    Shehzad et al. (2015), https://doi.org/10.3389/conf.fnins.2015.91.00047, with medians as in
    MRIQC.

    Parameters
    ----------
    head, background : Distribution
        Intensities from 0 inside and outside the head.

    Returns
    -------
    float or None
        None where at least half of the background is 0 (MRIQC: -1).
    """
    outside = Distribution(background.values**2, background.counts).median
    inside = Distribution(head.values**2, head.counts).median
    return inside / outside if outside >= 1e-3 else None


def efc(image: Distribution) -> float | None:
    """Entropy focus criterion: ghosting and blur of motion raise it.

    Atkinson et al. (1997), https://doi.org/10.1109/42.650886, over its largest possible value.

    Parameters
    ----------
    image : Distribution
        Intensities from 0 of all voxels that are not empty background.

    Returns
    -------
    float or None
        None where all is 0, or there is only one voxel.
    """
    energy = math.sqrt(float((image.counts * image.values**2).sum()))
    if energy == 0 or image.size < 2:
        return None
    root = math.sqrt(image.size)
    shares = image.values / energy
    entropy = float((image.counts * shares * np.log((image.values + 1e-16) / energy)).sum())
    return entropy / (root * math.log(1 / root))


def wm2max(image: Distribution, white: float) -> float | None:
    """Median of white matter over the 99.95th percentile of all voxels.

    Parameters
    ----------
    image : Distribution
        Intensities of the whole volume.
    white : float
        Median of white matter.

    Returns
    -------
    float or None
        None where that percentile is 0.
    """
    brightest = image.percentile(99.95)
    return white / brightest if brightest > 0 else None


def fwhm(data: np.ndarray, mask: np.ndarray) -> tuple[float | None, ...]:
    """Smoothness along each axis, in voxels, from the similarity of neighbours.

    Forman et al. (1995), https://doi.org/10.1002/mrm.1910330508: from the variance of first
    differences against that of the values, as in AFNI's ``3dFWHMx`` (its classic method), which
    MRIQC calls with ``-detrend``. Detrending there works along time, of which a T1w scan has
    none; nothing but the mean is removed here. Differences count where both voxels are inside.

    Parameters
    ----------
    data : (X, Y, Z) array
        Intensities.
    mask : (X, Y, Z) bool
        The brain.

    Returns
    -------
    tuple of 3 (float or None)
        None where neighbours are no more similar than any two voxels, or all are equal.
    """
    # In C order, as boolean indexing runs.
    values, mask = np.asarray(data.T, dtype=np.float32, order='C'), np.ascontiguousarray(mask.T)
    whole = _variance(values[mask])
    widths: list[float | None] = []
    for axis in (2, 1, 0):
        first: list[slice] = [slice(None)] * 3
        second = list(first)
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        low, high = tuple(first), tuple(second)
        both = mask[low] & mask[high]
        steps = _variance(values[high][both] - values[low][both])
        ratio = 1 - steps / (2 * whole) if whole > 0 else 0.0
        widths.append(math.sqrt(-2 * math.log(2) / math.log(ratio)) if 0 < ratio < 1 else None)
    return tuple(widths)


def _variance(values: np.ndarray) -> float:
    return float(np.var(values, ddof=1, dtype=np.float64)) if values.size > 1 else 0.0


def icvs(counts: Mapping[str, float]) -> dict[str, float]:
    """Fractions of the intracranial volume.

    Parameters
    ----------
    counts : mapping of str to float
        Size of ``csf``, ``gm`` and ``wm``.

    Returns
    -------
    dict
        Their shares of the sum; empty where one is missing or all are 0.
    """
    total = sum(counts.values())
    if set(counts) != set(TISSUES) or total <= 0:
        return {}
    return {name: counts[name] / total for name in TISSUES}


def summary(region: Distribution) -> dict[str, float]:
    """Return MRIQC's summary statistics of one region.

    Parameters
    ----------
    region : Distribution
        Intensities, at least one.

    Returns
    -------
    dict
        ``mean``, ``median``, ``p95``, ``p05``, ``k`` (excess kurtosis), ``stdv``, ``mad`` (scaled
        to a standard deviation) and ``n``.
    """
    return {
        'mean': region.mean,
        'median': region.median,
        'p95': region.quantile(0.95),
        'p05': region.quantile(0.05),
        'k': region.kurtosis,
        'stdv': region.stdv,
        'mad': region.mad,
        'n': float(region.size),
    }


def tissue_measures(
    regions: Mapping[str, Distribution], air: Distribution | None
) -> dict[str, float]:
    """Compute the measures of tissues, and of air where it is given.

    Parameters
    ----------
    regions : mapping of str to Distribution
        Intensities of ``csf``, ``gm`` and ``wm``, as far as the model labels them.
    air : Distribution or None
        Intensities of air.

    Returns
    -------
    dict of str to float
        Empty without white matter, whose median sets the scale of intensities.
    """
    known = {name: regions[name] for name in TISSUES if name in regions and regions[name].size > 1}
    if 'wm' not in known or known['wm'].median <= 0:
        return {}
    factor = WHITE / known['wm'].median
    scaled = {name: region.scaled(factor) for name, region in known.items()}
    result: dict[str, float | None] = {}
    noise = {
        name: snr(region.median, region.stdv, region.size)
        for name, region in scaled.items()
        if region.stdv > 0
    }
    _add_with_total(result, 'snr', noise)
    if air is not None:
        air = air.scaled(factor)
        ratios = {
            name: snr_dietrich(region.median, air.mad, air.stdv) for name, region in scaled.items()
        }
        _add_with_total(result, 'snrd', {k: v for k, v in ratios.items() if v is not None})
    if 'gm' in scaled:
        result['cjv'] = cjv(scaled['wm'], scaled['gm'])
        if air is not None and scaled['wm'].stdv > 0:
            result['cnr'] = cnr(scaled['wm'], scaled['gm'], air)
    sizes = {name: float(region.size) for name, region in scaled.items()}
    result |= {f'icvs_{name}': share for name, share in icvs(sizes).items()}
    for name, region in {**scaled, **({'bg': air} if air is not None else {})}.items():
        result |= {f'summary_{name}_{key}': value for key, value in summary(region).items()}
    return {name: value for name, value in result.items() if value is not None}


def _add_with_total(result: dict[str, float | None], name: str, parts: dict[str, float]) -> None:
    """Add a measure of each tissue, and their mean where all three are there."""
    result |= {f'{name}_{tissue}': value for tissue, value in parts.items()}
    if len(parts) == len(TISSUES):
        result[f'{name}_total'] = sum(parts.values()) / len(TISSUES)


def sharpness(data: np.ndarray, mask: np.ndarray, orientation: Sequence[str]) -> dict[str, float]:
    """Name smoothness by anatomical axes as MRIQC does.

    Parameters
    ----------
    data, mask : (X, Y, Z) array
        As for `fwhm`.
    orientation : sequence of str
        Anatomical directions of the axes, for instance ``'LIA'``: x is left-right, y front-back,
        z up-down.

    Returns
    -------
    dict
        ``fwhm_x``, ``fwhm_y`` and ``fwhm_z``, and ``fwhm_avg`` where all are there; in voxels.
    """
    axes = {'L': 'x', 'R': 'x', 'P': 'y', 'A': 'y', 'I': 'z', 'S': 'z'}
    pairs = zip(orientation, fwhm(data, mask), strict=True)
    widths = {f'fwhm_{axes[letter]}': value for letter, value in pairs if value is not None}
    if len(widths) == 3:
        widths['fwhm_avg'] = sum(widths.values()) / 3
    return widths
