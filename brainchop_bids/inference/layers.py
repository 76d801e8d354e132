"""Base class for computing single layers on slabs, and the division of volumes into slabs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from .steps import Head, Step

ALIGNMENT = 64
Moments = tuple[np.ndarray, np.ndarray]


class Layers(ABC):
    """Base class for computing single layers on slabs with an engine, channels last.

    Attributes
    ----------
    slab_bytes : int
        Maximum size of the output of one slab, in bytes.
    dtype : dtype
        Type of the arrays of features; OpenVINO stores bfloat16 in an integer type.
    picks_planes : bool
        True if it is faster to leave out planes between the elements of a dilated kernel.
    """

    slab_bytes: int
    dtype: np.dtype = np.dtype(np.float32)
    picks_planes: bool = False

    @abstractmethod
    def convolve(
        self,
        step: Step,
        blocks: Sequence[np.ndarray],
        dilation: int,
        padding: Sequence[tuple[int, int]],
        out: np.ndarray,
    ) -> Moments | None:
        """Compute a convolution, and its activations if the step does not normalise.

        Parameters
        ----------
        step : Step
            The layer.
        blocks : sequence of (X, Y, Z, Cin) array
            Consecutive planes of the input.
        dilation : int
            Dilation along x within these planes.
        padding : sequence of 2 (int, int)
            Zeros before and after, along y and z.
        out : (X, Y, Z, Cout) array
            Filled with the result.

        Returns
        -------
        tuple of (Cout,) array or None
            Mean and variance of each channel if the step normalises.
        """

    @abstractmethod
    def normalise(
        self, step: Step, block: np.ndarray, factor: np.ndarray, term: np.ndarray
    ) -> None:
        """Multiply by a factor, add a term and activate, per channel and in place."""

    @abstractmethod
    def forget(self) -> None:
        """Release compiled graphs."""

    @abstractmethod
    def head(self, head: Head, block: np.ndarray, kinds: tuple[str, ...]) -> list[np.ndarray]:
        """Compute labels, confidences, probabilities or logits of features.

        Parameters
        ----------
        head : Head
            The last layer.
        block : (X, Y, Z, C) array
            Features of X Y Z coarse voxels.
        kinds : tuple of str
            Results to compute: ``'labels'``, ``'confidences'``, ``'probabilities'`` or
            ``'logits'``; see `brainchop_bids.inference.confidence` for the second.

        Returns
        -------
        list of (U, U, U, X, Y, Z) or (U, U, U, X, Y, Z, classes) array
            Results for the U^3 voxels of each coarse voxel; labels and confidences have no axis
            of classes.
        """


def by_place(
    values: np.ndarray, up: int, shape: Sequence[int], *, first: bool = False
) -> np.ndarray:
    """Reshape the values of a head so that the voxels of a coarse voxel are the first axes.

    Parameters
    ----------
    values : (X Y Z, U^3) or (X Y Z, U^3, classes) array
        Values for each coarse voxel; with ``first`` their shape is (U^3, X Y Z).
    up : int
        U, the number of voxels of a coarse voxel along each axis.
    shape : sequence of 3 int
        X, Y and Z.
    first : bool
        True if U^3 is the first axis of the values.

    Returns
    -------
    (U, U, U, X, Y, Z) or (U, U, U, X, Y, Z, classes) array
        A view.
    """
    if first:
        return values.reshape(up, up, up, *shape)
    cut = values.reshape(*shape, up, up, up, *values.shape[2:])
    return cut.transpose(3, 4, 5, 0, 1, 2, *range(6, cut.ndim))


def slabs(
    shape: Sequence[int], channels: int, nbytes: int, *, once: bool = False
) -> Iterator[slice]:
    """Cut the first axis of a float32 volume into slices of at most ``nbytes`` bytes.

    All slices have the same size, since layers are compiled for each size; if necessary, the last
    one overlaps the one before it. With ``once`` no voxel is in two slices.
    """
    rows = slab_rows(shape, channels, nbytes)
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield slice(start if once else stop - rows, stop)


def slab_rows(shape: Sequence[int], channels: int, nbytes: int) -> int:
    """Return the number of planes of a slab of at most ``nbytes`` bytes."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64))) * channels * 4
    most = min(shape[0], max(1, nbytes // plane))
    # Prefer a smaller number if it divides the length without a rest.
    for rows in range(most, most // 2, -1):
        if shape[0] % rows == 0:
            return rows
    return -(-shape[0] // -(-shape[0] // most))
