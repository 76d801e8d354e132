"""What all engines share: volumes in, labels, logits or probabilities out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..errors import ModelError
from ..image.normalise import Normalization, normalise
from ..models.formats import read_network
from ..models.spec import ModelSpec
from .plan import split_head
from .stream import Layers, StreamedChain, slabs
from .tiles import Tile, cubes, whole


class Engine(ABC):
    """Runs a model on volumes.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    normalization : Normalization, optional
        Replaces the model's own.

    Raises
    ------
    ModelError
        Where the network cannot be read, or does not end with a convolution to classes.
    """

    # What computes single layers.
    _layers: Layers

    def __init__(self, spec: ModelSpec, normalization: Normalization | None = None) -> None:
        self.spec = spec
        self.normalization = normalization or spec.normalization
        self._network, self._head = split_head(read_network(spec.folder)[0])
        if self._head.classes != spec.classes:
            raise ModelError(
                f'{spec.folder}: the network gives {self._head.classes} classes for '
                f'{spec.classes} labels; it must end with a convolution to classes'
            )

    @property
    @abstractmethod
    def device(self) -> str:
        """``'gpu'`` or ``'cpu'``."""

    @property
    @abstractmethod
    def versions(self) -> str:
        """What computes, with versions."""

    def segment(
        self,
        data: np.ndarray,
        *,
        probabilities: Any = None,
        tiles: Sequence[Tile] | None = None,
    ) -> np.ndarray:
        """Label a volume.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            A conformed volume before normalisation, LIA; with all channels where the network
            takes several, each of which is normalised by itself.
        probabilities : (X, Y, Z, classes) float32 array, optional
            Is filled as by `probabilities`, in the same pass.
        tiles : sequence of Tile, optional
            Computed one after the other; what none of them keeps is the first class. By default
            the whole volume at once, or the cubes that a network was trained on.

        Returns
        -------
        (X, Y, Z) uint8 or uint16
            The most likely class of each voxel; of equal ones the first. In Fortran order.

        Raises
        ------
        BrainchopError
            Where memory runs out.
        """
        dtype = np.uint8 if self.spec.classes <= 256 else np.uint16
        labels = np.zeros(data.shape[:3], dtype, order='F')
        outputs = {'labels': labels}
        if probabilities is not None:
            outputs['probabilities'] = probabilities
        self._fill(data, outputs, tiles)
        return labels

    def probabilities(
        self, data: np.ndarray, out: Any, *, tiles: Sequence[Tile] | None = None
    ) -> None:
        """Write each class's probability, the softmax of the logits.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            As for `segment`.
        out : (X, Y, Z, classes) float32 array
            Is filled slab by slab; a `numpy.memmap` keeps it out of memory.
        tiles : sequence of Tile, optional
            As for `segment`.

        Raises
        ------
        BrainchopError
            Where memory runs out.
        """
        self._fill(data, {'probabilities': out}, tiles)

    def logits(self, data: np.ndarray) -> np.ndarray:
        """Return the network's output, ``(X, Y, Z, classes)`` float32: all of it, in memory."""
        out = np.empty((*data.shape[:3], self.spec.classes), np.float32)
        self._fill(data, {'logits': out}, None)
        return out

    def _fill(
        self, data: np.ndarray, outputs: dict[str, Any], tiles: Sequence[Tile] | None
    ) -> None:
        channels = [data] if data.ndim == 3 else list(np.moveaxis(data, -1, 0))
        if channels[0].ndim != 3 or len(channels) != self.spec.in_channels:
            raise ModelError(
                f'{self.spec.name} takes volumes of {self.spec.in_channels} channels; '
                f'it was given the shape {data.shape}'
            )
        shape = channels[0].shape
        for out in outputs.values():
            if out.shape[:3] != shape:
                raise ValueError(f'output of shape {out.shape} for a volume of {shape}')
        # Of the whole volume, whatever is computed of it.
        volumes = [normalise(channel, self.normalization) for channel in channels]
        volume = volumes[0][..., None] if len(volumes) == 1 else np.stack(volumes, -1)
        if tiles is None:
            tiles = whole(shape) if self.spec.block is None else cubes(shape, self.spec.block)
        if len(tiles) > 1 and 'probabilities' in outputs:
            outputs['probabilities'][..., 0] = 1
        with self._memory_told(tiles[0].shape):
            for tile in tiles:
                self._compute(tile, _cut(volume, tile), outputs)

    def _compute(self, tile: Tile, volume: np.ndarray, outputs: dict[str, Any]) -> None:
        """Fill what a tile keeps."""
        features, axes = self._features(volume)
        turned = tuple(axes.index(axis) for axis in range(3))
        inner = tuple(tile.inner[axis] for axis in axes)
        self._check_grid([features.shape[turned[axis]] for axis in range(3)], volume.shape[:3])
        features, kinds = features[inner], tuple(outputs)
        # A head holds its features, logits and softmax at once.
        width = features.shape[-1] + 2 * self._head.classes
        for rows in slabs(features.shape[:3], width, self._layers.slab_bytes):
            block = features[rows]
            if isinstance(block, np.ndarray):
                block = np.ascontiguousarray(block)
            for kind, values in zip(kinds, self._layers.head(self._head, block, kinds), strict=True):
                out = outputs[kind]
                out[tile.own].transpose(*axes, *range(3, out.ndim))[rows] = values

    @abstractmethod
    def _features(self, volume: np.ndarray) -> tuple[Any, tuple[int, int, int]]:
        """Return what the network's body gives, channels last.

        Parameters
        ----------
        volume : (X, Y, Z, channels) float32
            Normalised.

        Returns
        -------
        features : array or tensor
            Of the volume, its axes in another order.
        axes : tuple of int
            This order.
        """

    @abstractmethod
    def _memory_told(self, shape: tuple[int, ...]) -> AbstractContextManager[None]:
        """Turn failures inside into one line; the shape is that of what is computed at once."""

    def _check_grid(self, made: Sequence[int], shape: tuple[int, ...]) -> None:
        if tuple(made) != tuple(shape):
            raise ModelError(
                f'{self.spec.folder}: the network makes a volume of {tuple(made)} '
                f'out of {tuple(shape)}; expected one of the same shape'
            )


def streamed(chain: StreamedChain, volume: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return a chain's features of a volume, as `Engine._features` does.

    The chain has transposed kernels and runs on the transposed volume: NIfTI's arrays have x as
    the fastest axis in memory, so that nothing needs to be turned around on the way in or out,
    and a slab of probabilities is one piece of its file for each class.
    """
    return chain.features(volume.transpose(2, 1, 0, 3)), (2, 1, 0)


def _cut(volume: np.ndarray, tile: Tile) -> np.ndarray:
    """Return what a tile computes; behind the end of the volume there is nothing."""
    part = volume[tile.outer]
    missing = [n - m for n, m in zip(tile.shape, part.shape, strict=False)]
    return np.pad(part, [*((0, n) for n in missing), (0, 0)]) if any(missing) else part
