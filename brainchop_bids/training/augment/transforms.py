"""Random changes of a scan and its labels: what other heads, scanners and fields of view do.

Every transform draws from a generator of its own, which the seed and the transform's name decide:
with one of them switched on, off or changed, all others stay what they were.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...image.head import head_box
from ...image.lookup import lookup
from ...system.errors import SettingsError
from .fields import along_axes, bias_field, sampling, turned
from .warp import Displacement, Warp

_TOP = 255.0
# Share of voxels below what counts as the brightest, as in the conform step.
_BRIGHT = 0.999
# A slice profile of that full width at half maximum has this standard deviation.
_PROFILE = 0.42

Draw = Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class Augmentation:
    """How a scan and its labels are changed: the ``[augmentation]`` table of a training config.

    A transform's own name is its probability, 0 for never; the names after it say how far it
    goes, at most, drawn evenly. Lengths are voxels of the conformed grid, 1 mm as a rule.

    Parameters
    ----------
    rigid : float
        Probability of turning and shifting the head.
    rotation, translation : float
        Largest angle about each axis, degrees; largest shift along each axis, mm.
    zoom : float
        Probability of another size.
    scaling : float
        Largest relative change along each axis.
    elastic : float
        Probability of bending.
    displacement : float
        Largest standard deviation of the displacement, mm.
    spacing : int
        Distance of its control points, mm.
    flip : float
        Probability of exchanging left and right, anatomy and labels.
    crop : float
        Probability of a field of view that ends within the head, on one side.
    crop_depth : float
        By how much, mm.
    bias : float
        Probability of shading by a coil.
    bias_strength : float
        Largest standard deviation of its logarithm.
    blur : float
        Probability of blurring.
    blur_width : float
        Largest standard deviation of the Gaussian, mm.
    noise : float
        Probability of Gaussian noise; what falls below 0 becomes 0.
    noise_level : float
        Its largest standard deviation, as a share of the intensity range.
    anisotropy : float
        Probability of thick slices across one axis, interpolated as conforming does.
    thickness : float
        Largest thickness of these, mm.
    gamma : float
        Probability of another contrast exponent.
    gamma_range : float
        Largest logarithm of the exponent, up or down.

    Raises
    ------
    SettingsError
        For a probability beyond 0 to 1, or a range that makes no sense.
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
        """Refuse what no image could be changed by."""
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
    options: Augmentation,
    *,
    swap: Sequence[tuple[int, int]] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Change a scan and its labels.

    First anatomy and field of view, which all channels share; then intensities, each channel's
    by themselves.

    Parameters
    ----------
    images : (X, Y, Z, C) uint8 or float32
        Conformed channels of one head, LIA, 0 to 255.
    labels : (X, Y, Z) uint8
        Their classes; 0 is background.
    rng : numpy.random.Generator
        Decides; one number is drawn from it, whatever the options.
    options : Augmentation
        How.
    swap : sequence of (int, int)
        Classes of left and right that a flip exchanges, as
        `brainchop_bids.models.labels.lateral_pairs` gives them.

    Returns
    -------
    images : (X, Y, Z, C) float32
        0 to 255; each channel is C-contiguous. 0 outside the field of view.
    labels : (X, Y, Z) uint8
        0 outside the field of view.

    Notes
    -----
    Networks are given conformed scans, and these are uint8: round before normalising. What is
    foreground (above 0) differs otherwise.
    """
    if images.shape[:3] != labels.shape or images.ndim != 4:
        raise ValueError(
            f'images have shape {images.shape} and labels {labels.shape}; expected (X, Y, Z, C) '
            'and (X, Y, Z)'
        )
    seed = int(rng.integers(2**63))
    channels, labels = _moved(images, labels, partial(_generator, seed, 0), options, swap)
    for number, channel in enumerate(channels):
        channels[number] = _exposed(channel, partial(_generator, seed, number), options)
    return np.moveaxis(channels, 0, -1), labels


def _generator(seed: int, channel: int, transform: str) -> np.random.Generator:
    """Return a transform's own generator."""
    return np.random.default_rng((seed, zlib.crc32(transform.encode()), channel))


def _moved(
    images: np.ndarray,
    labels: np.ndarray,
    draw: Draw,
    options: Augmentation,
    swap: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the channels, (C, X, Y, Z) float32, and the labels where they went, as copies."""
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
        gone = _end_of_view(channels[0], rng, options.crop_depth)
        for part in (*channels, labels):
            part[gone] = 0
    return channels, labels


def _exchange(swap: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the table that gives left classes for right ones, and right for left."""
    table = np.arange(256, dtype=np.uint8)
    for left, right in swap:
        table[left], table[right] = right, left
    return table


def _warp(shape: tuple[int, ...], draw: Draw, options: Augmentation) -> Warp | None:
    """Compose what moves voxels; None where nothing does."""
    matrix, shift = np.eye(3), np.zeros(3)
    displacement = None
    zoom, rigid, elastic = draw('zoom'), draw('rigid'), draw('elastic')
    zoomed, turns, bends = (
        zoom.random() < options.zoom,
        rigid.random() < options.rigid,
        elastic.random() < options.elastic,
    )
    if zoomed:
        # The map leads back to where a voxel came from.
        matrix = np.diag(1 / (1 + zoom.uniform(-1, 1, 3) * options.scaling))
    if turns:
        matrix = turned(matrix, np.deg2rad(rigid.uniform(-1, 1, 3) * options.rotation))
        shift = rigid.uniform(-1, 1, 3) * options.translation
    if bends:
        size = elastic.uniform(0, options.displacement)
        displacement = Displacement.draw(shape, options.spacing, size, elastic)
    if not (zoomed or turns or bends):
        return None
    middle = (np.array(shape) - 1) / 2
    shift = middle - matrix @ middle + shift
    whole = np.column_stack([matrix, shift]).astype(np.float32)
    return Warp(whole, (shape[0], shape[1], shape[2]), displacement)


def _end_of_view(image: np.ndarray, rng: np.random.Generator, depth: float) -> tuple[slice, ...]:
    """Return what lies beyond a field of view that ends within the head, as a box."""
    axis = int(rng.integers(3))
    head = head_box(image.astype(np.uint8), (0, 0, 0), 1)[axis]
    inside = round(rng.uniform(0, depth))
    # Some of the head is always left.
    inside = min(inside, (head.stop - head.start) // 2)
    box = [slice(None)] * 3
    low = rng.random() < 0.5
    box[axis] = slice(0, head.start + inside) if low else slice(head.stop - inside, None)
    return tuple(box)


def _exposed(image: np.ndarray, draw: Draw, options: Augmentation) -> np.ndarray:
    """Spoil the intensities of a channel as coil, scanner and reconstruction do, in this order."""
    before = image
    rng = draw('bias')
    if rng.random() < options.bias:
        image = _shaded(image, rng.uniform(0, options.bias_strength), rng)
    rng = draw('blur')
    if rng.random() < options.blur:
        image = blurred(image, rng.uniform(0, options.blur_width))
    rng = draw('noise')
    if rng.random() < options.noise:
        level = np.float32(_TOP * rng.uniform(0, options.noise_level))
        grain = rng.standard_normal(image.shape, dtype=np.float32)
        grain *= level
        image = np.add(image, grain, out=grain)
    # After the noise: a thick slice has less of it.
    rng = draw('anisotropy')
    if rng.random() < options.anisotropy:
        axis = int(rng.integers(3))
        image = thick_slices(image, axis, rng.uniform(1, options.thickness))
    rng = draw('gamma')
    if rng.random() < options.gamma:
        image = with_gamma(image, np.exp(rng.uniform(-1, 1) * options.gamma_range))
    return image if image is before else np.clip(image, 0, _TOP)


def _shaded(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply by a bias field, the brightest voxels as bright as before, as conforming does."""
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
    """Blur with a Gaussian; the edges go on as they are.

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
    """Sample an axis by thick slices, and interpolate linearly between these.

    Parameters
    ----------
    image : (X, Y, Z) float32
        The image.
    axis : int
        Across the slices.
    thickness : float
        Distance of the slices, and the width of their profile, voxels.

    Returns
    -------
    (X, Y, Z) float32
    """
    down, up = sampling(image.shape[axis], thickness, _PROFILE * thickness)
    return np.moveaxis(np.tensordot(up @ down, image, axes=(1, axis)), 0, axis)


def with_gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    """Raise to a power within the intensity range.

    Parameters
    ----------
    image : array of float32
        Cut to 0..255.
    exponent : float
        Above 1 darkens what lies between.

    Returns
    -------
    float32 array of the same shape
    """
    scaled = np.clip(image, 0, _TOP)
    scaled /= np.float32(_TOP)
    scaled **= np.float32(exponent)
    scaled *= np.float32(_TOP)
    return scaled
