"""Random augmentation of scans and their labels.

Each transform has a random generator of its own, seeded by the seed and the transform's name, so
that changing one of them leaves all others as they were.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...image.head import head_box
from ...image.lookup import lookup
from ...system.errors import SettingsError
from .fields import along_axes, bias_field, rotate, sampling
from .warp import Displacement, Warp

_TOP = 255.0
# Quantile that counts as the brightest intensity, as in conforming.
_BRIGHT = 0.999
# Standard deviation of a Gaussian slice profile, for a full width at half maximum of 1.
_PROFILE = 0.42

Draw = Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class AugmentationOptions:
    """The ``[augmentation]`` table of a training config.

    The key with the name of a transform is its probability; the keys after it are limits, up to
    which strengths are drawn uniformly. Lengths are in voxels of the conformed grid, usually 1 mm.

    Parameters
    ----------
    rigid : float
        Probability of rotation and translation.
    rotation, translation : float
        Largest angle about each axis, degrees; largest shift along each axis, mm.
    zoom : float
        Probability of scaling.
    scaling : float
        Largest relative change along each axis.
    elastic : float
        Probability of elastic deformation.
    displacement : float
        Largest standard deviation of the displacement, mm.
    spacing : int
        Distance of its control points, mm.
    flip : float
        Probability of exchanging left and right in image and labels.
    crop : float
        Probability of a field of view that ends within the head, on one side.
    crop_depth : float
        Largest depth, mm.
    bias : float
        Probability of a bias field.
    bias_strength : float
        Largest standard deviation of the logarithm of the field.
    blur : float
        Probability of blurring.
    blur_width : float
        Largest standard deviation of the Gaussian, mm.
    noise : float
        Probability of Gaussian noise; negative intensities become 0.
    noise_level : float
        Largest standard deviation as a share of the intensity range.
    anisotropy : float
        Probability of thick slices along one axis, interpolated as in conforming.
    thickness : float
        Largest thickness of slices, mm.
    gamma : float
        Probability of another contrast exponent.
    gamma_range : float
        Largest absolute logarithm of the exponent.

    Raises
    ------
    SettingsError
        If a probability or limit is out of range.
    """

    rigid: float = 0.5
    rotation: float = 15.0
    translation: float = 10.0
    zoom: float = 0.3
    scaling: float = 0.15
    elastic: float = 0.3
    displacement: float = 3.0
    spacing: int = 24
    flip: float = 0.5
    crop: float = 0.1
    crop_depth: float = 30.0
    bias: float = 0.3
    bias_strength: float = 0.3
    blur: float = 0.2
    blur_width: float = 1.0
    noise: float = 0.3
    noise_level: float = 0.05
    anisotropy: float = 0.15
    thickness: float = 5.0
    gamma: float = 0.3
    gamma_range: float = 0.4

    def __post_init__(self) -> None:
        """Check the ranges of all values."""
        limits = {name: (0.0, 1.0) for name in TRANSFORMS} | _LIMITS
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            # Written so that NaN is refused too.
            if not low <= value <= high:
                raise SettingsError(
                    f'augmentation.{name} in the training config is {value}; expected '
                    f'{"a probability, " if name in TRANSFORMS else ""}{low:g} to {high:g}'
                )


TRANSFORMS = (
    'rigid', 'zoom', 'elastic', 'flip', 'crop', 'bias', 'blur', 'noise', 'anisotropy', 'gamma',
)  # fmt: skip
_LIMITS = {
    'rotation': (0.0, 180.0),
    'translation': (0.0, 256.0),
    'scaling': (0.0, 0.9),
    'displacement': (0.0, 50.0),
    'spacing': (2.0, 256.0),
    'crop_depth': (0.0, 256.0),
    'bias_strength': (0.0, 5.0),
    'blur_width': (0.0, 20.0),
    'noise_level': (0.0, 1.0),
    'thickness': (1.0, 50.0),
    'gamma_range': (0.0, 3.0),
}


def augment(
    images: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    options: AugmentationOptions,
    *,
    swap: Sequence[tuple[int, int]] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Augment a scan and its labels.

    Spatial transforms are the same for all channels; intensities change in each channel
    separately.

    Parameters
    ----------
    images : (X, Y, Z, C) uint8 or float32
        Conformed channels of one head, LIA, 0 to 255.
    labels : (X, Y, Z) uint8
        Classes; 0 is background.
    rng : numpy.random.Generator
        Random generator, from which one number is drawn.
    options : AugmentationOptions
        Probabilities and limits.
    swap : sequence of (int, int)
        Pairs of left and right classes that a flip exchanges, from
        `brainchop_bids.models.labels.lateral_pairs`.

    Returns
    -------
    images : (X, Y, Z, C) float32
        0 to 255; each channel is C-contiguous. 0 outside the field of view.
    labels : (X, Y, Z) uint8
        0 outside the field of view.

    Notes
    -----
    Conformed scans are uint8: round the result before normalising, since otherwise the foreground
    (above 0) differs.
    """
    if images.shape[:3] != labels.shape or images.ndim != 4:
        raise ValueError(
            f'images have shape {images.shape} and labels {labels.shape}; expected (X, Y, Z, C) '
            'and (X, Y, Z)'
        )
    seed = int(rng.integers(2**63))
    channels, labels = _transform_space(
        images, labels, partial(_generator, seed, 0), options, swap
    )
    for number, channel in enumerate(channels):
        channels[number] = _transform_intensities(
            channel, partial(_generator, seed, number), options
        )
    return np.moveaxis(channels, 0, -1), labels


def _generator(seed: int, channel: int, transform: str) -> np.random.Generator:
    """Return the random generator of a transform."""
    return np.random.default_rng((seed, zlib.crc32(transform.encode()), channel))


def _transform_space(
    images: np.ndarray,
    labels: np.ndarray,
    draw: Draw,
    options: AugmentationOptions,
    swap: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return transformed channels, (C, X, Y, Z) float32, and labels, as copies."""
    if draw('flip').random() < options.flip:
        # The first axis of LIA runs from right to left.
        images, labels = images[::-1], lookup(_exchange(swap), labels[::-1].copy())
    channels = np.empty((images.shape[3], *labels.shape), np.float32)
    warp = _warp(labels.shape, draw, options)
    for number, channel in enumerate(channels):
        data = images[..., number]
        channel[...] = data if warp is None else warp.image(data)
    labels = np.array(labels, order='C') if warp is None else warp.labels(labels)
    rng = draw('crop')
    if rng.random() < options.crop:
        outside = _cropped_box(channels[0], rng, options.crop_depth)
        for part in (*channels, labels):
            part[outside] = 0
    return channels, labels


def _exchange(swap: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the lookup table that exchanges left and right classes."""
    table = np.arange(256, dtype=np.uint8)
    for left, right in swap:
        table[left], table[right] = right, left
    return table


def _warp(shape: tuple[int, ...], draw: Draw, options: AugmentationOptions) -> Warp | None:
    """Draw the composed spatial transform; None for the identity."""
    matrix, shift = np.eye(3), np.zeros(3)
    displacement = None
    zoom, rigid, elastic = draw('zoom'), draw('rigid'), draw('elastic')
    scaled, rotated, deformed = (
        zoom.random() < options.zoom,
        rigid.random() < options.rigid,
        elastic.random() < options.elastic,
    )
    if scaled:
        # The matrix maps voxels of the result to those of the source.
        matrix = np.diag(1 / (1 + zoom.uniform(-1, 1, 3) * options.scaling))
    if rotated:
        matrix = rotate(matrix, np.deg2rad(rigid.uniform(-1, 1, 3) * options.rotation))
        shift = rigid.uniform(-1, 1, 3) * options.translation
    if deformed:
        size = elastic.uniform(0, options.displacement)
        displacement = Displacement.draw(shape, options.spacing, size, elastic)
    if not (scaled or rotated or deformed):
        return None
    middle = (np.array(shape) - 1) / 2
    shift = middle - matrix @ middle + shift
    whole = np.column_stack([matrix, shift]).astype(np.float32)
    return Warp(whole, (shape[0], shape[1], shape[2]), displacement)


def _cropped_box(image: np.ndarray, rng: np.random.Generator, depth: float) -> tuple[slice, ...]:
    """Return the box beyond a field of view that ends within the head."""
    axis = int(rng.integers(3))
    head = head_box(image.astype(np.uint8), (0, 0, 0), 1)[axis]
    inside = round(rng.uniform(0, depth))
    # At least half of the head remains.
    inside = min(inside, (head.stop - head.start) // 2)
    box = [slice(None)] * 3
    low = rng.random() < 0.5
    box[axis] = slice(0, head.start + inside) if low else slice(head.stop - inside, None)
    return tuple(box)


def _transform_intensities(
    image: np.ndarray, draw: Draw, options: AugmentationOptions
) -> np.ndarray:
    """Apply bias field, blur, noise, thick slices and gamma to a channel."""
    before = image
    rng = draw('bias')
    if rng.random() < options.bias:
        image = _with_bias(image, rng.uniform(0, options.bias_strength), rng)
    rng = draw('blur')
    if rng.random() < options.blur:
        image = blurred(image, rng.uniform(0, options.blur_width))
    rng = draw('noise')
    if rng.random() < options.noise:
        level = np.float32(_TOP * rng.uniform(0, options.noise_level))
        grain = rng.standard_normal(image.shape, dtype=np.float32)
        grain *= level
        image = np.add(image, grain, out=grain)
    # After the noise, which thick slices reduce.
    rng = draw('anisotropy')
    if rng.random() < options.anisotropy:
        axis = int(rng.integers(3))
        image = thick_slices(image, axis, rng.uniform(1, options.thickness))
    rng = draw('gamma')
    if rng.random() < options.gamma:
        image = with_gamma(image, np.exp(rng.uniform(-1, 1) * options.gamma_range))
    return image if image is before else np.clip(image, 0, _TOP)


def _with_bias(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply by a bias field, and rescale to the same maximum, as conforming does."""
    shaded = bias_field(image.shape, strength, rng)
    shaded *= image
    before, after = _brightest(image), _brightest(shaded)
    if after > 0:
        shaded *= np.float32(before / after)
    return shaded


def _brightest(image: np.ndarray) -> float:
    step = max(1, min(image.shape) // 64)
    return float(np.quantile(image[::step, ::step, ::step], _BRIGHT))


def blurred(image: np.ndarray, width: float) -> np.ndarray:
    """Blur with a Gaussian; the edge values are extended.

    Parameters
    ----------
    image : (X, Y, Z) float32
        The image.
    width : float
        Standard deviation, voxels; below 0.1 as 0.1, which changes nothing.

    Returns
    -------
    (X, Y, Z) float32
    """
    return along_axes(image, [sampling(n, 1.0, width)[0] for n in image.shape])


def thick_slices(image: np.ndarray, axis: int, thickness: float) -> np.ndarray:
    """Average an axis over thick slices, and interpolate linearly between them.

    Parameters
    ----------
    image : (X, Y, Z) float32
        The image.
    axis : int
        Axis normal to the slices.
    thickness : float
        Distance of the slices, and full width at half maximum of their profile, voxels.

    Returns
    -------
    (X, Y, Z) float32
    """
    down, up = sampling(image.shape[axis], thickness, _PROFILE * thickness)
    return np.moveaxis(np.tensordot(up @ down, image, axes=(1, axis)), 0, axis)


def with_gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    """Apply a gamma curve within the intensity range.

    Parameters
    ----------
    image : array of float32
        Clipped to 0 to 255.
    exponent : float
        Above 1 darkens the image.

    Returns
    -------
    float32 array of the same shape
    """
    scaled = np.clip(image, 0, _TOP)
    scaled /= np.float32(_TOP)
    scaled **= np.float32(exponent)
    scaled *= np.float32(_TOP)
    return scaled
