"""What all engines share: volumes in, labels, logits or probabilities out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..errors import ModelError
from ..image.normalise import Normalization, normaliser
from ..models.formats import read_network
from ..models.spec import ModelSpec
from .plan import split_head
from .stream import Layers, StreamedChain, slabs
from .subvolumes import Combination, Subvolumes
from .tiles import Box, Tile, cubes, full, whole


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

    # What computes single layers, and all hidden ones where they are a chain.
    _layers: Layers
    _stream: StreamedChain | None = None

    def __init__(self, spec: ModelSpec, normalization: Normalization | None = None) -> None:
        self.spec = spec
        self._shapes: set[Any] = set()
        self.normalization = normalization or spec.normalization
        self._network, self._head = split_head(read_network(spec.folder)[0])
        self._unit = self._network.stride
        if self._head.classes != spec.classes:
            raise ModelError(
                f'{spec.folder}: the network gives {self._head.classes} classes for '
                f'{spec.classes} labels; it must end with a convolution to classes'
            )

    def keep_memory(self) -> None:
        """Hold what memory can be used again for the next volume."""
        if self._stream is not None:
            self._stream.keeps_memory = True

    def reserve(self, shape: Sequence[int]) -> None:
        """Get the memory for a volume to come, where it is held at all."""
        if self._stream is not None:
            self._stream.reserve(shape[::-1])

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
        subvolumes: Subvolumes | None = None,
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
        subvolumes : Subvolumes, optional
            Cubes instead, by themselves, and how they are combined.

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
        self._fill(data, outputs, tiles, subvolumes)
        return labels

    def probabilities(
        self,
        data: np.ndarray,
        out: Any,
        *,
        tiles: Sequence[Tile] | None = None,
        subvolumes: Subvolumes | None = None,
    ) -> None:
        """Write each class's probability, the softmax of the logits.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            As for `segment`.
        out : (X, Y, Z, classes) float32 array
            Is filled slab by slab; a `numpy.memmap` keeps it out of memory.
        tiles, subvolumes
            As for `segment`.

        Raises
        ------
        BrainchopError
            Where memory runs out.
        """
        self._fill(data, {'probabilities': out}, tiles, subvolumes)

    def logits(self, data: np.ndarray) -> np.ndarray:
        """Return the network's output, ``(X, Y, Z, classes)`` float32: all of it, in memory."""
        out = np.empty((*data.shape[:3], self.spec.classes), np.float32)
        self._fill(data, {'logits': out})
        return out

    def _fill(
        self,
        data: np.ndarray,
        outputs: dict[str, Any],
        tiles: Sequence[Tile] | None = None,
        subvolumes: Subvolumes | None = None,
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
        rules = [normaliser(channel, self.normalization) for channel in channels]
        volume = Normalised(channels, rules)
        if subvolumes is not None:
            tiles = subvolumes.tiles(shape)
        if tiles is None:
            tiles = whole(shape) if self.spec.block is None else cubes(shape, self.spec.block)
        shapes = {(tile.shape, tuple(map(str, tile.inner))) for tile in tiles}
        if not shapes & self._shapes:
            # Whatever was compiled for other shapes holds memory.
            self._layers.forget()
        self._shapes = shapes
        with self._memory_told(tiles[0].shape):
            if subvolumes is not None and subvolumes.overlapping:
                self._combine(
                    volume, tiles, Combination(subvolumes, shape, self.spec.classes, outputs)
                )
                return
            if 'probabilities' in outputs and sum(tile.kept for tile in tiles) < math.prod(shape):
                outputs['probabilities'][...] = 0
                outputs['probabilities'][..., 0] = 1
            for tile in tiles:
                self._compute(tile, volume.cut(tile), outputs)

    def _combine(
        self, volume: 'Normalised', tiles: Sequence[Tile], combination: Combination
    ) -> None:
        for tile in tiles:
            kept = full([side.stop - side.start for side in tile.own])
            found = np.empty((*(side.stop for side in kept), self.spec.classes), np.float32)
            alone = Tile(full(tile.shape), kept)
            self._compute(alone, volume.cut(tile), {'probabilities': found})
            combination.add(tile, found)
        combination.finish()

    def _compute(self, tile: Tile, volume: 'Normalised', outputs: dict[str, Any]) -> None:
        """Fill what a tile keeps."""
        # What halves its grid and doubles it again takes no other sides.
        features, axes = self._features(volume.rounded(self._unit), tile.inner)
        kinds = tuple(outputs)
        # A head holds its features, logits and softmax at once.
        width = features.shape[-1] + 2 * self._head.classes
        for rows in slabs(features.shape[:3], width, self._layers.slab_bytes):
            block = features[rows]
            if isinstance(block, np.ndarray):
                block = np.ascontiguousarray(block)
            for kind, values in zip(
                kinds, self._layers.head(self._head, block, kinds), strict=True
            ):
                out = outputs[kind]
                out[tile.own].transpose(*axes, *range(3, out.ndim))[rows] = values

    def _streamed(
        self, chain: StreamedChain, volume: 'Normalised', keep: Box
    ) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Return a chain's features of a part of a volume, as `_features` does.

        The chain has transposed kernels and runs on the transposed volume: NIfTI's arrays have x
        as the fastest axis in memory, so that nothing needs to be turned around on the way in or
        out, and a slab of probabilities is one piece of its file for each class.
        """
        self._check_grid(chain.made(volume.shape), volume.shape[:3])
        x, y, z = keep
        return chain.features(volume.transposed(), (z, y, x)), (2, 1, 0)

    @abstractmethod
    def _features(self, volume: 'Normalised', keep: Box) -> tuple[Any, tuple[int, int, int]]:
        """Return what the network's body gives, channels last.

        Parameters
        ----------
        volume : Normalised
            The input.
        keep : tuple of 3 slice
            The part of the result that is wanted.

        Returns
        -------
        features : array or tensor
            Of this part, its axes in another order.
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


class Normalised:
    """A volume's normalised channels, made part by part.

    Parameters
    ----------
    channels : sequence of (X, Y, Z) array
        Before normalisation.
    rules : sequence of callable
        How each is normalised.
    beyond : tuple of 3 int
        Voxels of zeros that follow the last ones.
    """

    def __init__(
        self,
        channels: Sequence[np.ndarray],
        rules: Sequence[Callable[[np.ndarray], np.ndarray]],
        beyond: Sequence[int] = (0, 0, 0),
    ) -> None:
        self._channels = channels
        self._rules = rules
        self._beyond = tuple(beyond)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels and channels."""
        sides = zip(self._channels[0].shape, self._beyond, strict=True)
        return *(n + more for n, more in sides), len(self._channels)

    def cut(self, tile: Tile) -> 'Normalised':
        """Return what a tile computes; behind the end of the volume there is nothing."""
        parts = [channel[tile.outer] for channel in self._channels]
        beyond = [n - m for n, m in zip(tile.shape, parts[0].shape, strict=True)]
        return Normalised(parts, self._rules, beyond)

    def rounded(self, unit: int) -> 'Normalised':
        """Return it with zeros behind its end up to sides that are multiples of a number."""
        beyond = [more + -n % unit for more, n in zip(self._beyond, self.shape[:3], strict=True)]
        return Normalised(self._channels, self._rules, beyond)

    def transposed(self) -> 'Normalised':
        """Return it with its three axes in the opposite order."""
        turned = [channel.transpose(2, 1, 0) for channel in self._channels]
        return Normalised(turned, self._rules, self._beyond[::-1])

    def __getitem__(self, box: Box) -> np.ndarray:
        """Return (X, Y, Z, channels) float32 of a part."""
        parts = [
            rule(channel[box]) for channel, rule in zip(self._channels, self._rules, strict=True)
        ]
        values = parts[0][..., None] if len(parts) == 1 else np.stack(parts, -1)
        missing = [
            side.stop - side.start - n for side, n in zip(box, values.shape[:3], strict=True)
        ]
        return np.pad(values, [*((0, n) for n in missing), (0, 0)]) if any(missing) else values
