"""Sampling of training patches from volumes."""

from collections.abc import Sequence

import numpy as np

from ...system.errors import SettingsError

# Patches drawn at most if the earlier ones contain too few labelled voxels.
_TRIES = 20

Box = tuple[slice, ...]


def draw_box(
    shape: Sequence[int],
    sides: Sequence[int],
    inside: np.ndarray,
    rng: np.random.Generator,
    centred: float,
    labelled: float = 0.0,
) -> Box:
    """Draw the box of a patch, around a labelled voxel or anywhere.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the volume.
    sides : sequence of 3 int
        Shape of the patch, voxels.
    inside : (n,) integers
        Flat indices of the labelled voxels, from `numpy.flatnonzero`.
    rng : numpy.random.Generator
        Random generator.
    centred : float
        Probability that the patch is centred on a labelled voxel, up to a quarter of its sides
        and the end of the volume.
    labelled : float
        Minimum share of labelled voxels. Up to 20 patches are drawn; if none has so many, the
        one with most is taken.

    Returns
    -------
    tuple of 3 slice
        Box within the volume; the slices have the lengths ``sides``.

    Raises
    ------
    SettingsError
        If the volume is smaller than the patch.
    """
    if any(n < side for n, side in zip(shape, sides, strict=True)):
        size = 'x'.join(map(str, sides))
        raise SettingsError(f'cubes of {size} voxels do not fit a volume of {tuple(shape)}')
    boxes = [_draw(shape, sides, inside, rng, centred)]
    # Without labelled voxels no patch is better than another.
    if labelled <= 0 or not len(inside):
        return boxes[0]
    shares = [labelled_share(shape, boxes[0], inside)]
    while max(shares) < labelled and len(boxes) < _TRIES:
        boxes.append(_draw(shape, sides, inside, rng, centred))
        shares.append(labelled_share(shape, boxes[-1], inside))
    return boxes[int(np.argmax(shares))]


def labelled_share(shape: Sequence[int], box: Box, inside: np.ndarray) -> float:
    """Return the share of labelled voxels in a box.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the volume.
    box : tuple of 3 slice
        Within it.
    inside : (n,) integers
        Flat indices of the labelled voxels, sorted.

    Returns
    -------
    float
        0 to 1.
    """
    x, y, z = box
    rows = np.arange(x.start, x.stop)[:, None] * shape[1] + np.arange(y.start, y.stop)
    # Each row of the box is a range of flat indices.
    begin = np.searchsorted(inside, (rows * shape[2] + z.start).ravel())
    end = np.searchsorted(inside, (rows * shape[2] + z.stop).ravel())
    return float((end - begin).sum()) / (rows.size * (z.stop - z.start))


def subsample(labels: np.ndarray, stride: int) -> np.ndarray:
    """Return the labels of the voxels that a network with a stride computes.

    A convolution of stride 2 with 'same' padding and an even size has its first output at voxel 1.

    Parameters
    ----------
    labels : (X, Y, Z, ...) or (X, Y) array
        Labels of a patch.
    stride : {1, 2}
        Stride of the stage.

    Returns
    -------
    (X / stride, Y / stride, Z / stride, ...) view
    """
    return labels[(slice(stride - 1, None, stride),) * min(3, labels.ndim)]


def _draw(
    shape: Sequence[int],
    sides: Sequence[int],
    inside: np.ndarray,
    rng: np.random.Generator,
    centred: float,
) -> Box:
    size = np.array(sides)
    if len(inside) and rng.random() < centred:
        chosen = inside[rng.integers(len(inside))]
        middle = np.array(np.unravel_index(chosen, tuple(shape)))
        middle += rng.integers(-(size // 4), size // 4 + 1)
    else:
        middle = rng.integers(0, shape)
    start = np.clip(middle - size // 2, 0, np.array(shape) - size)
    return tuple(slice(low, low + n) for low, n in zip(start.tolist(), size.tolist(), strict=True))
