"""Base class of the engines, which compute labels, logits or probabilities of volumes."""

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
from .confidence import CONFIDENCE_STEPS
from .layers import Layers, slabs
from .network_input import Normalised
from .steps import split_gather, split_head, streamable_steps, turned
from .stream import StreamedChain
from .subvolumes import Combination, Subvolumes
from .tiles import Box, Tile, cubes, full, whole
from .uncertainty import entropy


class Engine(ABC):
    """Runs a model on volumes.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    normalization : Normalization, optional
        Normalization that replaces the model's own.

    Raises
    ------
    ModelError
        If the network cannot be read, or does not end with a convolution to classes.
    """

    # Computes single layers, and all hidden layers of networks that are chains.
    _layers: Layers
    _stream: StreamedChain | None = None
    # For networks with a streamed finest level: the chains before and after the coarser grids.
    _level: tuple[StreamedChain, Level, StreamedChain] | None = None

    def __init__(self, spec: ModelSpec, normalization: Normalization | None = None) -> None:
        self.spec = spec
        self._shapes: set[Any] = set()
        self.normalization = normalization or spec.normalization
        self._read()

    def _read(self) -> None:
        """Read the network and split it into its parts."""
        spec = self.spec
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
        """Keep memory that can be used again for the next volume."""
        if self._stream is not None:
            self._stream.keeps_memory = True

    def reserve(self, shape: Sequence[int]) -> None:
        """Allocate the memory for a volume in advance, if memory is kept."""
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
        """Libraries of the engine and their versions."""

    def segment(
        self,
        data: np.ndarray,
        *,
        probabilities: Any = None,
        entropies: Any = None,
        confidences: Any = None,
        tiles: Sequence[Tile] | None = None,
        subvolumes: Subvolumes | None = None,
    ) -> np.ndarray:
        """Label a volume.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            A conformed volume in LIA orientation, not yet normalised. Channels are normalised
            separately.
        probabilities : (X, Y, Z, classes) float32 array, optional
            Filled with the class probabilities in the same pass.
        entropies : (X, Y, Z) float32 array, optional
            Filled with their entropy, see `brainchop_bids.inference.uncertainty.entropy`.
        confidences : (X, Y, Z) uint8 array, optional
            Filled with the probability of the most likely class, see
            `brainchop_bids.inference.confidence`.
        tiles : sequence of Tile, optional
            Parts of the volume that are computed one after the other; voxels that no tile keeps
            become class 0. By default the whole volume is computed at once, or in the cubes that
            the network was trained on.
        subvolumes : Subvolumes, optional
            Cubes that are computed independently in place of tiles, and then combined.

        Returns
        -------
        (X, Y, Z) uint8 or uint16
            The most likely class of each voxel, the first one in a tie, in Fortran order.

        Raises
        ------
        BrainchopError
            If memory runs out.
        """
        dtype = np.uint8 if self.spec.classes <= 256 else np.uint16
        labels = np.zeros(data.shape[:3], dtype, order='F')
        outputs = {'labels': labels}
        if probabilities is not None:
            outputs['probabilities'] = probabilities
        if entropies is not None:
            outputs['entropies'] = entropies
        if confidences is not None:
            outputs['confidences'] = confidences
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
        """Compute class probabilities, the softmax of the logits.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            As for `segment`.
        out : (X, Y, Z, classes) float32 array
            Filled slab by slab; may be a `numpy.memmap`.
        tiles, subvolumes
            As for `segment`.

        Raises
        ------
        BrainchopError
            If memory runs out.
        """
        self._fill(data, {'probabilities': out}, tiles, subvolumes)

    def logits(self, data: np.ndarray) -> np.ndarray:
        """Return the output of the network, (X, Y, Z, classes) float32."""
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
        # Normalised by the whole volume, even if only parts of it are computed.
        rules = [normaliser(channel, self.normalization) for channel in channels]
        volume = Normalised(channels, rules)
        if subvolumes is not None:
            tiles = subvolumes.tiles(shape)
        if tiles is None:
            tiles = whole(shape) if self.spec.block is None else cubes(shape, self.spec.block)
        shapes = {(tile.shape, tuple(map(str, tile.inner))) for tile in tiles}
        if not shapes & self._shapes:
            # Layers that were compiled for other shapes take memory.
            self._layers.forget()
        self._shapes = shapes
        with self._memory_told(tiles[0].shape):
            if subvolumes is not None and subvolumes.overlapping:
                self._combine(
                    volume, tiles, Combination(subvolumes, shape, self.spec.classes, outputs)
                )
                return
            if sum(tile.kept for tile in tiles) < math.prod(shape):
                _be_background(outputs)
            self._compute_each(tiles, volume, outputs)

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

    def _compute_each(
        self, tiles: Sequence[Tile], volume: Normalised, outputs: dict[str, Any]
    ) -> None:
        """Compute tiles; those of one value, as most cubes around a head, are computed once."""
        done: dict[Any, Tile] = {}
        for tile in tiles:
            part = volume.cut(tile)
            value = part.uniform
            key = (value, tile.shape, tuple(map(str, tile.inner)))
            if value and key in done:
                for out in outputs.values():
                    out[tile.own] = out[done[key].own]
                continue
            self._compute(tile, part, outputs)
            if value:
                done[key] = tile

    def _compute(self, tile: Tile, volume: Normalised, outputs: dict[str, Any]) -> None:
        """Compute a tile, and fill the voxels that it keeps."""
        # Networks that halve the grid and double it again need multiples of a number.
        given, up = volume.rounded(self._unit).gathered(self._factor), self._head.up
        keep = [slice(side.start // up, -(-side.stop // up)) for side in tile.inner]
        features = self._features(given.transposed(), (keep[2], keep[1], keep[0]))
        wanted = {
            kind: out[tile.own].transpose(2, 1, 0, *range(3, out.ndim))
            for kind, out in outputs.items()
        }
        # Entropies are computed from probabilities.
        kinds = tuple(kind for kind in wanted if kind != 'entropies')
        if 'entropies' in wanted and 'probabilities' not in wanted:
            kinds += ('probabilities',)
        skip = [side.start % up for side in reversed(tile.inner)]
        # The head has its features, logits and softmax in memory at once.
        copies = 2 + len(wanted.keys() & {'entropies', 'confidences'})
        width = features.shape[-1] + copies * up**3 * self._head.classes
        for rows in slabs(features.shape[:3], width, self._layers.slab_bytes):
            block = features[rows]
            if isinstance(block, np.ndarray):
                block = np.ascontiguousarray(block)
            found = dict(zip(kinds, self._layers.head(self._head, block, kinds), strict=True))
            if 'entropies' in wanted:
                found['entropies'] = entropy(found['probabilities'])
            for kind, out in wanted.items():
                # The voxels of a coarse voxel have the order of the volume's own axes.
                values = found[kind].transpose(2, 1, 0, *range(3, found[kind].ndim))
                _spread(values, rows.start, skip, out)

    def _plan_streams(self) -> None:
        """Decide what is computed slab by slab: the whole network, its finest level, or none."""
        steps = streamable_steps(self._network)
        if steps is not None:
            self._stream = StreamedChain(self._layers, steps)
            return
        # The levels are added by NumPy, which has no bfloat16.
        whole = self.spec.block is None and self._layers.dtype == np.float32
        level = finest_level(self._network) if whole else None
        chains = [streamable_steps(part) for part in (level.before, level.after)] if level else []
        if level is not None and None not in chains:
            before, after = (StreamedChain(self._layers, steps or ()) for steps in chains)
            self._level, self._network = (before, level, after), level.below

    def _features(self, volume: Normalised, keep: Box) -> Any:
        """Return the features that the network's body computes.

        Parameters
        ----------
        volume : Normalised
            The input, with its axes in reversed order.
        keep : tuple of 3 slice
            The part of the result that is needed, with its axes in reversed order.

        Returns
        -------
        (Z, Y, X, channels) array or tensor
            Features of this part.
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
        # The memory of the array is released as soon as the chain has read it.
        handed = _Handed(fine)
        del fine, cubes, coarse
        return after.features(handed, keep)

    @abstractmethod
    def _whole(self, volume: np.ndarray) -> Any:
        """Compute the features of an array with the network's body as one graph, channels last."""

    @abstractmethod
    def _memory_told(self, shape: tuple[int, ...]) -> AbstractContextManager[None]:
        """Turn failures to allocate memory into one line that names the shape of the volume."""

    def _check_grid(self, made: Sequence[int], volume: Normalised) -> None:
        found = tuple(n * self._head.up for n in made)
        shape = tuple(n * self._factor for n in volume.shape[:3])
        if found != shape:
            raise ModelError(
                f'{self.spec.folder}: the network makes a volume of {found} '
                f'out of {shape}; expected one of the same shape'
            )


def _be_background(outputs: dict[str, Any]) -> None:
    """Fill outputs with what is certainly background."""
    if 'probabilities' in outputs:
        outputs['probabilities'][...] = 0
        outputs['probabilities'][..., 0] = 1
    if 'entropies' in outputs:
        outputs['entropies'][...] = 0
    if 'confidences' in outputs:
        outputs['confidences'][...] = CONFIDENCE_STEPS


class _Handed:
    """An array that is released as soon as a part of it is read."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape = array.shape
        self._arrays = [array]

    def __getitem__(self, box: Box) -> np.ndarray:
        part: np.ndarray = self._arrays.pop()[box]
        return part


def _spread(values: np.ndarray, first: int, skip: Sequence[int], out: np.ndarray) -> None:
    """Write the voxels of coarse voxels to their positions in a volume.

    Parameters
    ----------
    values : (U, U, U, X, Y, Z, ...) array
        Values of the U^3 voxels in each of X Y Z coarse voxels.
    first : int
        Position of the first coarse voxel along the first axis.
    skip : sequence of 3 int
        Number of voxels, along each axis, by which the volume begins inside the first coarse
        voxel.
    out : (X', Y', Z', ...) array
        The volume; filled where it overlaps these coarse voxels.
    """
    up = values.shape[0]
    for phase in np.ndindex(values.shape[:3]):
        to, of = [], []
        for place, within, less, count, n in zip(
            (first, 0, 0), phase, skip, values.shape[3:6], out.shape, strict=False
        ):
            start = place * up + within - less
            # Only the first coarse voxel can begin before the volume.
            cut = int(start < 0)
            to.append(slice(start + cut * up, start + count * up, up))
            of.append(slice(cut, cut + len(range(n)[to[-1]])))
        out[tuple(to)] = values[phase][tuple(of)]
