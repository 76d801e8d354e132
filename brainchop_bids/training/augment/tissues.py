"""Intensities of the structures of a head: random, or like those of T1-weighted scans."""

import csv
from collections.abc import Mapping
from importlib import resources

import numpy as np

# From this code on, labels of the SynthSeg maps are outside the brain.
FIRST_OUTSIDE = 500
# Codes outside the brain that the maps do not use, for random tissue.
NECK_CODES = (500, 501, 503, 504, 505, 510)
# The fluid between brain and skull.
AROUND_BRAIN = 24
VENTRICLES = (4, 5, 14, 15, 43, 44)
WHITE = (2, 41, 7, 46)
# Left and right codes of FreeSurfer's aseg and of SynthSeg's additional labels.
SIDES = {
    2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54,
    25: 57, 26: 58, 28: 60, 30: 62, 136: 163, 137: 164,
}  # fmt: skip
RIGHT_AS_LEFT = {right: left for left, right in SIDES.items()}
# Part of the deviation of a tissue's mean that is its own. The deviations in the prior are 12 to
# 16 % of the mean in nearly all tissues, so most of it is one gain for the whole scan.
_OWN_SHARE = 0.35
# Mean and standard deviation of the mean intensity, then of the intensities' standard deviation.
Gaussian = tuple[float, float, float, float]


def draw_tissues(
    codes: np.ndarray,
    rng: np.random.Generator,
    groups: Mapping[int, int],
    prior: Mapping[int, Gaussian] | None = None,
    spread: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw mean and standard deviation of the intensities of each code.

    Parameters
    ----------
    codes : (K,) integers
        Sorted. Code 0 is air.
    rng : numpy.random.Generator
        Random generator.
    groups : mapping of int to int
        Codes that have mean and deviation of another code.
    prior : mapping of int to tuple, optional
        Distributions to draw from, see `t1_prior`; other codes are uniformly random.
    spread : float
        Factor on how far the means of single tissues in the prior deviate from those that the
        scan's gain gives.

    Returns
    -------
    means, deviations : (K,) float32
        On a scale of 0 to 1; air is dark, and exactly 0 in half of all images.
    """
    means, deviations = np.zeros((2, len(codes)), np.float32)
    drawn: dict[int, tuple[float, float]] = {}
    # The measured deviations include anatomy and bias field, which are added separately.
    share = rng.uniform(0.2, 1.0)
    gain = rng.normal()
    for place, code in enumerate(codes.tolist()):
        key = groups.get(code, code)
        if key not in drawn:
            drawn[key] = (rng.uniform(0.02, 1.0), rng.uniform(0.0, 0.12))
            if prior and key in prior:
                mean, mean_sd, sd, sd_sd = prior[key]
                deviation = gain + _OWN_SHARE * spread * rng.normal()
                drawn[key] = (
                    abs(mean + mean_sd * deviation),
                    abs(rng.normal(sd, sd_sd)) * share,
                )
        means[place], deviations[place] = drawn[key]
    if rng.random() < 0.5:
        means[0] = deviations[0] = 0
    else:
        means[0], deviations[0] = rng.uniform(0, 0.06), rng.uniform(0, 0.03)
    return means, deviations


def t1_prior() -> dict[int, Gaussian]:
    """Return distributions of intensities on T1-weighted scans.

    Values of Billot et al.'s ``prior_means_t1.npy`` and ``prior_stds_t1.npy``, whose 25
    classes are not named. In the order of the codes, with FreeSurfer's structures of one tissue
    together, they correlate by 0.94 with FreeSurfer's measurement of another scan (``normMean``
    in an ``aseg.stats``); the last eleven are the labels outside the brain.

    Returns
    -------
    dict of int to tuple of 4 float
        For each code the mean and standard deviation, over scans, of the mean and of the
        standard deviation within the structure, on a scale of 0 to 1.
    """
    table = resources.files('brainchop_bids.data').joinpath('t1_prior.tsv').read_text('utf-8')
    prior = {}
    for row in csv.DictReader(table.splitlines(), delimiter='\t'):
        values = [float(row[key]) / 255 for key in ('mean', 'mean_sd', 'sd', 'sd_sd')]
        for code in row['codes'].split():
            prior[int(code)] = (values[0], values[1], values[2], values[3])
    return prior


def prior_without_outside(
    prior: Mapping[int, Gaussian], rng: np.random.Generator
) -> Mapping[int, Gaussian]:
    """Return the prior, in half of all cases without tissues outside the brain.

    Fat, bone and muscle depend on coil and sequence far more than the brain does.
    """
    if rng.random() < 0.5:
        return prior
    return {code: values for code, values in prior.items() if code < FIRST_OUTSIDE}


def neck_like_brain(rng: np.random.Generator) -> dict[int, int]:
    """Return groups by which tissues of a neck have intensities of brain tissues.

    Muscle and fat of many scans do, so that only their location tells them from the brain.
    """
    return {int(code): int(rng.choice((2, 3, 3, AROUND_BRAIN))) for code in NECK_CODES}
