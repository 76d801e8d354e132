"""Base of all engines: volumes in; labels, logits or probabilities out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..image.normalise import Normalization, normaliser
from ..models.formats import read_network
from ..models.levels import Level, finest_level
from ..models.spec import ModelSpec
from ..system.errors import ModelError
from .layers import Layers, slabs
from .network_input import Normalised
from .steps import split_gather, split_head, streamable_steps, turned
from .stream import StreamedChain
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
    # Or the chains before and after the coarser grids of a network, which then is what is between.
    _level: tuple[StreamedChain, Level, StreamedChain] | None = None

    def __init__(self, spec: ModelSpec, normalization: Normalization | None = None) -> None:
        self.spec = spec
        self._shapes: set[Any] = set()
        self.normalization = normalization or spec.normalization
        network, self._head = split_head(read_network(spec.folder)[0])
        self._unit = network.stride
        network, self._factor = split_gather(network)
        self._network = turned(network)
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
            places = [-(-n // self._unit) * self._unit // self._factor for n in shape]
            self._stream.reserve(places[::-1])

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
        self, volume: Normalised, tiles: Sequence[Tile], combination: Combination
    ) -> None:
        for tile in tiles:
            kept = full([side.stop - side.start for side in tile.own])
            found = np.empty((*(side.stop for side in kept), self.spec.classes), np.float32)
            alone = Tile(full(tile.shape), kept)
            self._compute(alone, volume.cut(tile), {'probabilities': found})
            combination.add(tile, found)
        combination.finish()

    def _compute(self, tile: Tile, volume: Normalised, outputs: dict[str, Any]) -> None:
        """Fill what a tile keeps."""
        # What halves its grid and doubles it again takes no other sides.
        given, up = volume.rounded(self._unit).gathered(self._factor), self._head.up
        keep = [slice(side.start // up, -(-side.stop // up)) for side in tile.inner]
        features = self._features(given.transposed(), (keep[2], keep[1], keep[0]))
        kinds = tuple(outputs)
        wanted = [
            outputs[kind][tile.own].transpose(2, 1, 0, *range(3, outputs[kind].ndim))
            for kind in kinds
        ]
        skip = [side.start % up for side in reversed(tile.inner)]
        # A head holds its features, logits and softmax at once.
        width = features.shape[-1] + 2 * up**3 * self._head.classes
        for rows in slabs(features.shape[:3], width, self._layers.slab_bytes):
            block = features[rows]
            if isinstance(block, np.ndarray):
                block = np.ascontiguousarray(block)
            for out, values in zip(
                wanted, self._layers.head(self._head, block, kinds), strict=True
            ):
                # The voxels of a place are by the volume's own axes.
                _spread(values.transpose(2, 1, 0, *range(3, values.ndim)), rows.start, skip, out)

    def _plan_streams(self) -> None:
        """Find out what can go by slabs: all of the network, or its finest level."""
        steps = streamable_steps(self._network)
        if steps is not None:
            self._stream = StreamedChain(self._layers, steps)
            return
        # Sums are NumPy's, which has no bfloat16.
        whole = self.spec.block is None and self._layers.dtype == np.float32
        level = finest_level(self._network) if whole else None
        chains = [streamable_steps(part) for part in (level.before, level.after)] if level else []
        if level is not None and None not in chains:
            before, after = (StreamedChain(self._layers, steps or ()) for steps in chains)
            self._level, self._network = (before, level, after), level.below

    def _features(self, volume: Normalised, keep: Box) -> Any:
        """Return what the network's body gives.

        Parameters
        ----------
        volume : Normalised
            The input, its axes in the opposite order.
        keep : tuple of 3 slice
            The part of the result that is wanted, alike.

        Returns
        -------
        (Z, Y, X, channels) array or tensor
            Of this part.
        """
        if self._stream is not None:
            self._check_grid(self._stream.made(volume.shape), volume)
            return self._stream.features(volume, keep)
        if self._level is None:
            features = self._whole(volume[full(volume.shape[:3])])
            self._check_grid(features.shape[:3], volume)
            return features[keep]
        before, level, after = self._level
        fine = before.features(volume)
        coarse = np.asarray(self._whole(fine))
        sides = [n for side in coarse.shape[:3] for n in (side, level.up)]
        cubes = fine.reshape(*sides, -1)
        cubes += coarse[:, None, :, None, :, None]
        self._check_grid(after.made(fine.shape), volume)
        # Nothing else needs it once the chain has read it.
        handed = _Handed(fine)
        del fine, cubes, coarse
        return after.features(handed, keep)

    @abstractmethod
    def _whole(self, volume: np.ndarray) -> Any:
        """Return what the network's body makes of an array, as one graph; channels last."""

    @abstractmethod
    def _memory_told(self, shape: tuple[int, ...]) -> AbstractContextManager[None]:
        """Turn failures inside into one line; the shape is that of what is computed at once."""

    def _check_grid(self, made: Sequence[int], volume: Normalised) -> None:
        found = tuple(n * self._head.up for n in made)
        shape = tuple(n * self._factor for n in volume.shape[:3])
        if found != shape:
            raise ModelError(
                f'{self.spec.folder}: the network makes a volume of {found} '
                f'out of {shape}; expected one of the same shape'
            )


class _Handed:
    """An array that is let go as soon as a part of it is read."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape = array.shape
        self._arrays = [array]

    def __getitem__(self, box: Box) -> np.ndarray:
        part: np.ndarray = self._arrays.pop()[box]
        return part


def _spread(values: np.ndarray, first: int, skip: Sequence[int], out: np.ndarray) -> None:
    """Put the voxels of places where they belong.

    Parameters
    ----------
    values : (U, U, U, X, Y, Z, ...) array
        The voxels of each place, then the places.
    first : int
        Which place along the first axis of all that are wanted the first one is.
    skip : sequence of 3 int
        Voxels of the first place of all, along each axis, that are not wanted.
    out : (X', Y', Z', ...) array
        All that is wanted; is filled as far as these places reach.
    """
    up = values.shape[0]
    for phase in np.ndindex(values.shape[:3]):
        to, of = [], []
        for place, within, less, count, n in zip(
            (first, 0, 0), phase, skip, values.shape[3:6], out.shape, strict=False
        ):
            start = place * up + within - less
            # Only the first place of all can begin before what is wanted.
            cut = int(start < 0)
            to.append(slice(start + cut * up, start + count * up, up))
            of.append(slice(cut, cut + len(range(n)[to[-1]])))
        out[tuple(to)] = values[phase][tuple(of)]
