"""Scans that never were: random images from label maps (domain randomisation).

After Billot et al. (2023), SynthSeg, doi:10.1016/j.media.2023.102789: deform a label map, draw
an intensity for each label, and spoil the image as scanners do. A network that has seen only
such images has seen every contrast, so it needs none of its own. Ends with the product's own
conform step, so that training and inference see the same numbers.

All maps are whole heads in the conformed grid: cubic LIA volumes of 1 mm.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np

from ..image.conform import to_uint8
from .fields import acquire, bias_field, smooth_field, turned

# Beyond this code labels of the SynthSeg maps lie outside the brain.
FIRST_OUTSIDE = 500
# Codes outside the brain that the maps do not use: tissue of any shape.
NECK_CODES = (500, 501, 503, 504, 505, 510)
# How far below its map a head can go on, mm.
NECK = 70.0
# The fluid between brain and skull.
AROUND_BRAIN = 24
# Sided codes of FreeSurfer's aseg (and of SynthSeg's extra ones): left to right.
SIDES = {
    2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54,
    25: 57, 26: 58, 28: 60, 30: 62, 136: 163, 137: 164,
}  # fmt: skip
# Mean and standard deviation of a structure's mean, then of its standard deviation.
Gaussian = tuple[float, float, float, float]
RIGHT_AS_LEFT = {right: left for left, right in SIDES.items()}


@dataclass(frozen=True)
class SynthesisOptions:
    """How far images may stray; each range is symmetric or begins at nothing.

    Parameters
    ----------
    rotation : float
        Largest angle about each axis, degrees.
    scaling, shearing : float
        Largest relative change of size, and largest shear.
    translation : float
        Largest shift along each axis, mm.
    elastic : float
        Largest standard deviation of the elastic displacement, mm.
    elastic_spacing : int
        Distance of its control points, mm.
    flip : float
        Probability of exchanging left and right, anatomy and labels.
    bias : float
        Largest standard deviation of the logarithm of the bias field.
    gamma : float
        Standard deviation of the logarithm of the contrast exponent.
    noise : float
        Largest standard deviation of noise, as a share of the intensity range.
    thickness : float
        Largest voxel size of the simulated acquisition, mm.
    low_resolution : float
        Probability that it is worse than 1 mm.
    t1 : float
        Probability of a T1-like contrast; all others are random.
    t1_spread : float
        By how much T1-like means vary more than they did in the scans the prior is from.
    neck : float
        Probability of a longer neck than the map has, with muscle, fat and bone of any shape.
    strip, deface, crop : float
        Probabilities of removing all but the brain, of cutting the face off, and of a field of
        view that ends within the head.
    loose : float
        Share of the stripped heads that keep a shell around the brain, irregular and some mm
        wide.
    proportions : float
        Largest growth or shrinking of ventricles, of the brain within its fluid, and of white
        matter within the cortex, mm.
    low_contrast : float
        Probability that a T1-like image has little contrast of grey and white matter, as those
        of infants have and, less so, those of old brains.
    lesions : float
        Probability of white matter that is darker or brighter in places; otherwise it looks
        the same everywhere.
    contrast_agent : float
        Probability of vessels that are brighter than anything, perhaps with white matter.
    air_noise : float
        Probability of noise in air as strong as the brightest tissue, as an MP2RAGE's quotient
        of two images has.
    outlier : float
        Probability of a tissue outside the brain, or of a spot, that is up to three times as
        bright as all else.
    intensity_jitter : float
        Largest shift and largest change of the intensities' range after normalisation, as a
        share of the range: networks shall not hang on it.
    """

    rotation: float = 15.0
    scaling: float = 0.15
    shearing: float = 0.012
    translation: float = 15.0
    elastic: float = 3.0
    elastic_spacing: int = 24
    flip: float = 0.5
    bias: float = 0.3
    gamma: float = 0.3
    noise: float = 0.08
    thickness: float = 5.0
    low_resolution: float = 0.5
    t1: float = 0.7
    t1_spread: float = 1.5
    neck: float = 0.0
    strip: float = 0.15
    deface: float = 0.25
    crop: float = 0.15
    loose: float = 0.5
    proportions: float = 2.5
    low_contrast: float = 0.15
    lesions: float = 0.3
    contrast_agent: float = 0.05
    air_noise: float = 0.08
    outlier: float = 0.15
    intensity_jitter: float = 0.05


def synthesise(
    labels: np.ndarray,
    rng: np.random.Generator,
    options: SynthesisOptions = SynthesisOptions(),
    *,
    groups: Mapping[int, int] | None = None,
    prior: Mapping[int, Gaussian] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make an image and its labels from a label map.

    Parameters
    ----------
    labels : (W, W, W) integers
        aseg codes of a whole head, LIA, 1 mm; from 500 up whatever is outside the brain.
    rng : numpy.random.Generator
        Decides everything.
    options : SynthesisOptions
        How far the image may stray.
    groups : mapping of int to int, optional
        Codes that share their intensity with another; by default right with left.
    prior : mapping of int to tuple, optional
        What `t1_prior` returns; without it no contrast is T1-like.

    Returns
    -------
    image : (W, W, W) uint8
        As the conform step would give it.
    labels : (W, W, W) integers
        The deformed map, same type, zero where the field of view has been cut.
    """
    moved = deform(labels, rng, options)
    t1_like = rng.random() < options.t1
    groups = RIGHT_AS_LEFT if groups is None else groups
    if options.neck > 0 and rng.random() < 0.5:
        groups = {**groups, **neck_like_brain(rng)}
    image = paint(
        moved,
        rng,
        groups,
        prior_without_outside(prior, rng) if prior and t1_like else None,
        options.t1_spread,
    )
    if rng.random() < options.strip:
        gone = outside_brain(moved)
        if rng.random() < 0.5:
            # Some tools leave the fluid around the brain, others take it off with the skull.
            gone |= moved == AROUND_BRAIN
            moved[gone] = 0
        image[gone] = 0
    elif rng.random() < options.deface:
        image[_face(moved, rng)] = 0
    image *= bias_field(image.shape, rng.uniform(0, options.bias), rng)
    image = acquire(
        image,
        rng,
        low_resolution=options.low_resolution,
        thickness=options.thickness,
        noise=options.noise,
        gamma=options.gamma,
    )
    if rng.random() < options.crop:
        cut = _cut(moved, rng)
        image[cut], moved[cut] = 0, 0
    # The brightest 0.1 % are cut there, and gamma was applied within the range: as a scan's.
    return to_uint8(np.round(image * 4000).astype(np.int16)), moved


def deform(labels: np.ndarray, rng: np.random.Generator, options: SynthesisOptions) -> np.ndarray:
    """Turn, stretch, bend and mirror a label map; nearest neighbour, zero outside.

    Parameters
    ----------
    labels : (X, Y, Z) integers
        The map, LIA.
    rng : numpy.random.Generator
        Decides how.
    options : SynthesisOptions
        How far.

    Returns
    -------
    array of the same shape and type
    """
    shape = labels.shape
    if rng.random() < options.flip:
        # The first axis of LIA runs from right to left.
        labels = swap_sides(labels[::-1])
    matrix = random_affine(rng, options)
    middle = (np.array(shape) - 1) / 2
    shift = middle - matrix @ middle + rng.uniform(-1, 1, 3) * options.translation
    # Without a chance of it nothing is drawn: a seed's images stay what they were.
    neck = options.neck > 0 and rng.random() < options.neck
    end = int(np.flatnonzero(labels.any(axis=(0, 2)))[-1]) if neck else 0
    if neck:
        # In LIA the second axis runs down.
        shift[1] += rng.uniform(0, NECK)
    strength = rng.uniform(0, options.elastic)
    fields = [strength * smooth_field(shape, options.elastic_spacing, rng) for _ in range(3)]
    steps = [np.arange(n, dtype=np.float32) for n in shape]
    index = []
    for axis in range(3):
        x, y, z = (matrix[axis, k].astype(np.float32) * steps[k] for k in range(3))
        where = fields[axis]
        where += x[:, None, None] + y[None, :, None] + (z + np.float32(shift[axis]))[None, None]
        np.rint(where, out=where)
        index.append(where.astype(np.int32))
    below = index[1] > end if neck else None
    if neck:
        np.minimum(index[1], end, out=index[1])
    inside = np.ones(shape, bool)
    flat = np.zeros(shape, np.int32)
    for axis in range(3):
        inside &= (index[axis] >= 0) & (index[axis] < shape[axis])
        flat *= shape[axis]
        flat += index[axis]
    flat[~inside] = 0
    moved: np.ndarray = np.ascontiguousarray(labels).ravel()[flat]
    moved[~inside] = 0
    if below is not None:
        _fill_neck(moved, below, rng)
    return moved


def _fill_neck(labels: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> None:
    """Turn all that lies below the map, and patches of what is outside the brain, into blobs."""
    # Mostly fine ones: layers of muscle and fat are as thin as gyri.
    field = smooth_field(labels.shape, int(np.exp(rng.uniform(*np.log((2.5, 20))))), rng)
    blobs = np.digitize(field, (-1.2, -0.5, 0, 0.5, 1.2)).astype(np.uint8)
    patches = smooth_field(labels.shape, int(rng.integers(12, 40)), rng) > rng.uniform(-0.5, 1)
    where = (below & (labels > 0)) | (patches & (labels >= FIRST_OUTSIDE))
    labels[where] = np.array(NECK_CODES)[blobs[where]]


def neck_like_brain(rng: np.random.Generator) -> dict[int, int]:
    """Let tissues of a neck share the intensities of grey matter, white matter and fluid.

    Muscle and fat of many scans do; what is left to tell them apart is where they are.
    """
    return {int(code): int(rng.choice((2, 3, 3, AROUND_BRAIN))) for code in NECK_CODES}


def swap_sides(labels: np.ndarray) -> np.ndarray:
    """Exchange left and right codes.

    Parameters
    ----------
    labels : array of integers
        aseg codes.

    Returns
    -------
    array of the same shape and type

    Examples
    --------
    >>> swap_sides(np.array([2, 41, 16])).tolist()
    [41, 2, 16]
    """
    table = np.arange(int(labels.max()) + max(SIDES.values()) + 1, dtype=labels.dtype)
    for left, right in SIDES.items():
        table[left], table[right] = right, left
    return table[labels]


def paint(
    labels: np.ndarray,
    rng: np.random.Generator,
    groups: Mapping[int, int],
    prior: Mapping[int, Gaussian] | None = None,
    spread: float = 1.0,
) -> np.ndarray:
    """Draw a mean and a standard deviation for each label, and from them each voxel.

    Parameters
    ----------
    labels : (X, Y, Z) integers
        The map.
    rng : numpy.random.Generator
        Decides.
    groups : mapping of int to int
        Codes that share mean and deviation with another.
    prior : mapping of int to tuple, optional
        Where means and deviations come from; those of codes it lacks are uniformly random.
    spread : float
        Factor on the deviation of the prior's means.

    Returns
    -------
    (X, Y, Z) float32
        0 to 1; air is dark, and exactly 0 in half of all images.
    """
    codes = np.flatnonzero(np.bincount(labels.ravel()))
    means = np.zeros(int(codes.max()) + 1, np.float32)
    deviations = np.zeros_like(means)
    means[codes], deviations[codes] = draw_tissues(codes, rng, groups, prior, spread)
    image: np.ndarray = rng.standard_normal(labels.shape, dtype=np.float32)
    image *= deviations[labels]
    image += means[labels]
    return np.clip(image, 0, 1, out=image)


def draw_tissues(
    codes: np.ndarray,
    rng: np.random.Generator,
    groups: Mapping[int, int],
    prior: Mapping[int, Gaussian] | None = None,
    spread: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw how bright each code is, and how much its voxels differ.

    Parameters
    ----------
    codes : (K,) integers
        Sorted. Code 0 is air.
    rng, groups, prior, spread
        As for `paint`.

    Returns
    -------
    means, deviations : (K,) float32
    """
    means, deviations = np.zeros((2, len(codes)), np.float32)
    drawn: dict[int, tuple[float, float]] = {}
    # Noise of a scan's tissues is less than what its anatomy and shading make of it.
    share = rng.uniform(0.2, 1.0)
    for place, code in enumerate(codes.tolist()):
        key = groups.get(code, code)
        if key not in drawn:
            drawn[key] = (rng.uniform(0.02, 1.0), rng.uniform(0.0, 0.12))
            if prior and key in prior:
                mean, mean_sd, sd, sd_sd = prior[key]
                drawn[key] = (
                    abs(rng.normal(mean, mean_sd * spread)),
                    abs(rng.normal(sd, sd_sd)) * share,
                )
        means[place], deviations[place] = drawn[key]
    if rng.random() < 0.5:
        means[0] = deviations[0] = 0
    else:
        means[0], deviations[0] = rng.uniform(0, 0.06), rng.uniform(0, 0.03)
    return means, deviations


def t1_prior() -> dict[int, Gaussian]:
    """Return how bright each structure is on T1-weighted scans.

    Figures of Billot et al.'s ``prior_means_t1.npy`` and ``prior_stds_t1.npy``, which name their
    25 classes nowhere. Taken in the order of the codes, with FreeSurfer's structures of one
    tissue together, they correlate by 0.94 with what FreeSurfer measured in another scan
    (``normMean`` in an ``aseg.stats``), and the last eleven are the eleven labels outside the
    brain.

    Returns
    -------
    dict of int to tuple of 4 float
        For each code the mean and standard deviation, over scans, of the mean and of the
        standard deviation within the structure; 1 is the brightest a scan can be.
    """
    table = resources.files('brainchop_bids.data').joinpath('t1_prior.tsv').read_text()
    prior = {}
    for row in csv.DictReader(table.splitlines(), delimiter='\t'):
        values = [float(row[key]) / 255 for key in ('mean', 'mean_sd', 'sd', 'sd_sd')]
        for code in row['codes'].split():
            prior[int(code)] = (values[0], values[1], values[2], values[3])
    return prior


def prior_without_outside(
    prior: Mapping[int, Gaussian], rng: np.random.Generator
) -> Mapping[int, Gaussian]:
    """Return the prior, in half of all cases without what it says of tissues outside the brain.

    Fat, bone and muscle depend on coil and sequence far more than the brain does.
    """
    if rng.random() < 0.5:
        return prior
    return {code: values for code, values in prior.items() if code < FIRST_OUTSIDE}


def outside_brain(labels: np.ndarray) -> np.ndarray:
    """Return where a map says air, or something outside the brain, as a bool array."""
    return (labels == 0) | (labels >= FIRST_OUTSIDE)


def random_affine(rng: np.random.Generator, options: SynthesisOptions) -> np.ndarray:
    angles = np.deg2rad(rng.uniform(-1, 1, 3) * options.rotation)
    matrix = turned(np.diag(1 + rng.uniform(-1, 1, 3) * options.scaling), angles)
    return matrix @ (np.eye(3) + rng.uniform(-1, 1, (3, 3)) * options.shearing)


def _face(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what defacing removes: outside the brain, below and before a slanted plane."""
    inferior, anterior = np.ogrid[: labels.shape[1], : labels.shape[2]]
    brain = np.argwhere(~outside_brain(labels)[::4, ::4, ::4]) * 4
    if not len(brain):
        return np.zeros(labels.shape, bool)
    # In LIA the second axis runs down, the third forward.
    low, front = np.quantile(brain[:, 1], 0.8), np.quantile(brain[:, 2], 0.75)
    slope = rng.uniform(0.6, 1.8)
    below = (inferior - low) + slope * (anterior - front) > rng.uniform(-5, 25)
    return below[None] & outside_brain(labels)


def _cut(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a field of view leaves out that ends up to 15 mm inside the head."""
    cut = np.zeros(labels.shape, bool)
    for axis in range(3):
        there = np.flatnonzero((labels > 0).any(axis=tuple(k for k in range(3) if k != axis)))
        if not len(there) or rng.random() < 0.5:
            continue
        view = np.moveaxis(cut, axis, 0)
        depth = int(rng.integers(0, 16))
        if rng.random() < 0.5:
            view[: there[0] + depth] = True
        else:
            view[there[-1] - depth + 1 :] = True
    return cut
