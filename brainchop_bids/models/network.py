"""Networks as data: operations in order, with settings and weights, independent of Keras.

All file formats are read into this form and written from it, and all engines are built from it, so
that a model does not depend on its file format or on the engine.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..system.errors import ModelError
from .grids import densities, receptive_radius, scales, streams
from .op import ACTIVATIONS, LEAKY_SLOPE, MERGES, NORMS, POINTWISE, Op

__all__ = [
    'ACTIVATIONS', 'LEAKY_SLOPE', 'MERGES', 'NORMS', 'POINTWISE', 'Network', 'Op',
    'fold_batchnorm', 'without',
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """A network with one input and one output.

    Parameters
    ----------
    source : Path
        The file with its description, for messages.
    ops : tuple of Op
        Operations in topological order; the first is the input, the last the output.
    input_shape : tuple of int or None
        Spatial shape in the file; None for an open axis.
    files : tuple of Path
        All files of the model.
    of_images : bool
        Whether it is a network of images: no operation extends along the first axis of a volume,
        whose planes are the images of a batch.
    """

    source: Path
    ops: tuple[Op, ...]
    input_shape: tuple[int | None, int | None, int | None] = (None, None, None)
    files: tuple[Path, ...] = ()
    of_images: bool = False

    def __getitem__(self, name: str) -> Op:
        """Return the operation with a name."""
        return next(op for op in self.ops if op.name == name)

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.ops[0].channels

    @property
    def classes(self) -> int:
        """Channels of the output."""
        return self.ops[-1].channels

    @property
    def width(self) -> int:
        """Channels of the widest hidden convolution, or of the only one."""
        widths = [op.channels for op in self.ops if op.kind in ('conv', 'conv_transpose')]
        return max(widths[:-1], default=widths[-1])

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(values.size for op in self.ops for values in op.weights.values())

    @property
    def density(self) -> dict[str, float]:
        """Voxels of the output of each operation, for each voxel of the input."""
        return densities(self.ops)

    @property
    def products(self) -> float:
        """Multiplications for each voxel of the input."""
        density = self.density
        total = 0.0
        for op in self.ops:
            if 'kernel' in op.weights:
                # A transposed convolution has a product for each voxel of its input.
                grid = op.inputs[0] if op.kind == 'conv_transpose' else op.name
                total += density[grid] * op.weights['kernel'].size
        return total

    @property
    def values(self) -> float:
        """Values of the largest hidden layer, for each voxel of the input."""
        density = self.density
        sizes = [density[op.name] * op.channels for op in self.ops if 'kernel' in op.weights]
        return max(sizes[:-1], default=sizes[-1])

    @property
    def held(self) -> float:
        """Largest number of values in memory for each voxel of the input, layer by layer.

        The output of a layer is kept until the last layer that takes it; activations and
        normalisations are computed in place.
        """
        density = self.density
        # The layer that owns the memory of each output.
        owners: dict[str, str] = {}
        last: dict[str, int] = {}
        for i, op in enumerate(self.ops):
            in_place = op.kind in POINTWISE
            owners[op.name] = owners[op.inputs[0]] if in_place else op.name
            last.update({owners[name]: i for name in op.inputs})
        most, live = 0.0, {}
        for i, op in enumerate(self.ops[:-1]):
            if op.kind != 'input' and owners[op.name] == op.name:
                live[op.name] = density[op.name] * op.channels
            most = max(most, sum(live.values()))
            live = {name: n for name, n in live.items() if last.get(name, i) > i}
        return most

    @property
    def is_chain(self) -> bool:
        """Whether each operation keeps the grid and is followed by exactly one other."""
        return all(
            op.inputs == (before.name,) and (op.is_plain or op.kind in POINTWISE)
            for before, op in zip(self.ops, self.ops[1:], strict=False)
        )

    @property
    def stride(self) -> int:
        """Largest voxel size of all grids in voxels of the input, which must divide all sides."""
        return math.ceil(max(scales(self.ops).values()))

    @property
    def reach(self) -> tuple[int, int] | None:
        """Radius of the receptive field.

        Returns
        -------
        tuple of (int, int) or None
            Largest distance, in voxels of the input, of voxels that an output depends on, and
            `stride`. None if each output depends on the whole input.
        """
        radius = receptive_radius(self.ops)
        return None if radius is None else (radius, self.stride)

    @property
    def streams(self) -> bool:
        """Whether it can be computed slab by slab, see `brainchop_bids.models.grids.streams`."""
        return streams(self.ops)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of all weights in order, as float32, the same for all formats."""
        digest = hashlib.sha256()
        for op in self.ops:
            for values in op.weights.values():
                digest.update(np.ascontiguousarray(values, '<f4').tobytes())
        return digest.hexdigest()

    def computes_as(self, other: 'Network') -> bool:
        """Return whether another network has the same operations and weights, by any names."""
        return len(self.ops) == len(other.ops) and all(
            mine[:4] == theirs[:4]
            and mine[4].keys() == theirs[4].keys()
            and all(np.array_equal(values, theirs[4][key]) for key, values in mine[4].items())
            for mine, theirs in zip(self._nameless(), other._nameless(), strict=True)
        )

    def _nameless(self) -> Iterator[tuple[Any, ...]]:
        places = {op.name: place for place, op in enumerate(self.ops)}
        for op in self.ops:
            settings = dict(op.settings) | ({'groups': -1} if op.is_per_channel else {})
            inputs = [places[name] for name in op.inputs]
            yield op.kind, op.channels, inputs, settings, op.weights

    def consumers(self, name: str) -> list[Op]:
        """Return the operations that take the output of an operation."""
        return [op for op in self.ops if name in op.inputs]

    def fault(self, problem: str) -> ModelError:
        """Return an error on the file."""
        return ModelError(f'{self.source}: {problem}')


def fold_batchnorm(network: Network) -> Network:
    """Fold batch normalisation into convolutions.

    At inference, batch normalisation is a multiplication and an addition for each channel,
    ``y = (x - mean) * gamma / sqrt(variance + epsilon) + beta``. After a convolution, both
    can be included in kernel and bias (Jacob et al.,
    https://arxiv.org/abs/1712.05877, section 3.2).

    Parameters
    ----------
    network : Network
        The network.

    Returns
    -------
    Network
        The given network if there is nothing to fold. A batch normalisation that is not the only
        consumer of a convolution, or of another such normalisation, stays.
    """
    for name in [op.name for op in network.ops if op.kind == 'batch_norm']:
        norm = network[name]
        target = network[norm.inputs[0]]
        if target.kind in ('conv', 'conv_transpose') and len(network.consumers(target.name)) == 1:
            network = _replaced(network, {target.name: _with_norm(target, norm), name: None})
    return network


def _with_norm(conv: Op, norm: Op) -> Op:
    # In double precision, since a tiny variance gives a large factor.
    values = {name: np.asarray(array, np.float64) for name, array in norm.weights.items()}
    scale = values.get('gamma', 1.0) / np.sqrt(
        values['moving_variance'] + norm.settings['epsilon']
    )
    kernel = np.asarray(conv.weights['kernel'], np.float64)
    # Output channels are the last axis of a kernel, or the second to last if transposed.
    kernel = kernel * (scale if conv.kind == 'conv' else scale[:, None])
    bias = (conv.weights.get('bias', 0.0) - values['moving_mean']) * scale
    bias = bias + values.get('beta', 0.0)
    weights = {'kernel': kernel.astype(np.float32), 'bias': bias.astype(np.float32)}
    return replace(conv, weights=weights)


def _replaced(network: Network, changes: Mapping[str, Op | None]) -> Network:
    """Replace operations by name; those replaced by None, of one input each, are removed."""
    removed = {op.name: op.inputs[0] for op in network.ops if changes.get(op.name, op) is None}
    ops = []
    for op in network.ops:
        new = changes.get(op.name, op)
        if new is not None:
            ops.append(replace(new, inputs=tuple(removed.get(name, name) for name in new.inputs)))
    return replace(network, ops=tuple(ops))


def without(network: Network, wanted: Callable[[Op], bool]) -> Network:
    """Remove operations of one input each, whose consumers take this input instead."""
    for op in network.ops:
        if wanted(op):
            network = _replaced(network, {op.name: None})
    return network
