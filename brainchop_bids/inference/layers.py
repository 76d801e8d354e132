"""Single layers on slabs: what an engine does for a stream, and how volumes are cut into slabs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from .steps import Head, Step

ALIGNMENT = 64
Moments = tuple[np.ndarray, np.ndarray]


class Layers(ABC):
    """Computes single layers on slabs, channels last: an engine's part of a stream.

    Attributes
    ----------
    slab_bytes : int
        Of the output of one slab.
    dtype : dtype
        Of features; what it stands for is the engine's own affair.
    picks_planes : bool
        Whether planes between the elements of a dilated kernel are better left out.
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
        """Compute a convolution and, where nothing normalises in between, its activations.

        Parameters
        ----------
        step : Step
            The layer.
        blocks : sequence of (X, Y, Z, Cin) array
            Planes that follow each other.
        dilation : int
            Along x among them.
        padding : sequence of 2 (int, int)
            Zeros before and after, along y and z.
        out : (X, Y, Z, Cout) array
            Is filled.

        Returns
        -------
        tuple of (Cout,) array or None
            Mean and variance of each channel where the step normalises.
        """

    @abstractmethod
    def normalise(
        self, step: Step, block: np.ndarray, factor: np.ndarray, term: np.ndarray
    ) -> None:
        """Multiply, add and activate in place, each channel on its own."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what was compiled."""

    @abstractmethod
    def head(self, head: Head, block: np.ndarray, kinds: tuple[str, ...]) -> list[np.ndarray]:
        """Compute what is wanted of features.

        Parameters
        ----------
        head : Head
            The last layer.
        block : (X, Y, Z, C) array
            Features of so many places.
        kinds : tuple of str
            ``'labels'``, ``'probabilities'`` or ``'logits'``.

        Returns
        -------
        list of (U, U, U, X, Y, Z) or (U, U, U, X, Y, Z, classes) array
            Labels, or the others, of each voxel of a place.
        """


def by_place(
    values: np.ndarray, up: int, shape: Sequence[int], *, first: bool = False
) -> np.ndarray:
    """Return a head's values with the voxels of a place first.

    Parameters
    ----------
    values : (X Y Z, U^3) or (X Y Z, U^3, classes) array
        Of each place in turn; with ``first`` the places of each voxel, (U^3, X Y Z).
    up : int
        U, the voxels of a place along each axis.
    shape : sequence of 3 int
        X, Y and Z.
    first : bool
        See above.

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
    """Cut the first axis of a float32 volume into slices of at most so many bytes.

    All have the same size, since each size is compiled on its own: where need be the last one
    begins within the one before it, unless each voxel may come but ``once``.
    """
    rows = slab_rows(shape, channels, nbytes)
    for start in range(0, shape[0], rows):
        stop = min(start + rows, shape[0])
        yield slice(start if once else stop - rows, stop)


def slab_rows(shape: Sequence[int], channels: int, nbytes: int) -> int:
    """Return the planes of a slab of at most so many bytes."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64))) * channels * 4
    most = min(shape[0], max(1, nbytes // plane))
    # As few as this where that leaves no rest.
    for rows in range(most, most // 2, -1):
        if shape[0] % rows == 0:
            return rows
    return -(-shape[0] // -(-shape[0] // most))
