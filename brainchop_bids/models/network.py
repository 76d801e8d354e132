"""Networks as data: operations in order, with settings and weights, independent of Keras.

All file formats are read into this form and written from it, and all engines are built from it, so
that a model does not depend on its file format or on the engine.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..system.errors import ModelError

# Elementwise functions, except for softmax, which is over the channels.
ACTIVATIONS = (
    'linear', 'relu', 'relu6', 'leaky_relu', 'elu', 'selu', 'silu', 'sigmoid', 'softplus', 'tanh',
    'gelu', 'gelu_tanh', 'softmax',
)  # fmt: skip
# Default slope for negative values, as in Keras.
LEAKY_SLOPE = 0.2
NORMS = ('batch_norm', 'group_norm')


@dataclass(frozen=True, eq=False)
class Op:
    """One operation on channels-last volumes.

    Parameters
    ----------
    name : str
        Unique name.
    kind : str
        ``input``; ``conv`` and ``conv_transpose`` (settings ``strides``, ``dilation``,
        ``padding`` 'same' or 'valid' as Keras has them, ``groups``); ``batch_norm``
        (``epsilon``); ``group_norm`` (``epsilon``, ``groups``, -1 for each channel alone);
        ``activation`` (``function``, one of `ACTIVATIONS`, and ``alpha``); ``max_pool``
        (``size``, ``strides``, ``padding``); ``upsample`` (nearest; ``size``); ``zero_pad``
        (``padding``, two for each axis); ``add``; ``concatenate``.
    inputs : tuple of str
        Names of the operations whose outputs it takes.
    channels : int
        Channels of the output.
    settings : mapping
        Settings of the kind.
    weights : mapping of str to float32 array
        Arrays by Keras' names: ``kernel`` (D, H, W, Cin, Cout), if transposed (D, H, W, Cout,
        Cin), ``bias``, ``gamma``, ``beta``, ``moving_mean``, ``moving_variance``.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution without stride and groups that keeps the grid."""
        return (
            self.kind == 'conv'
            and self.settings['strides'] == (1, 1, 1)
            and self.settings['groups'] == 1
            and (self.settings['padding'] == 'same' or self.kernel_size == (1, 1, 1))
        )

    @property
    def by_cubes(self) -> bool:
        """Whether it is a convolution with a cubic kernel that is as wide as its stride."""
        # Nothing is padded then.
        if self.kind not in ('conv', 'conv_transpose'):
            return False
        simple = self.settings['groups'] == 1 and set(self.settings['dilation']) == {1}
        return simple and len({*self.kernel_size, *self.settings['strides']}) == 1

    @property
    def kernel_size(self) -> tuple[int, int, int]:
        """Kernel size of a convolution, voxels."""
        x, y, z = self.weights['kernel'].shape[:3]
        return x, y, z

    @property
    def span(self) -> int:
        """Distance between the first and the last voxel of a kernel along the longest axis."""
        dilation = self.settings['dilation']
        return max((n - 1) * d for n, d in zip(self.kernel_size, dilation, strict=True))

    def is_activation(self, *functions: str) -> bool:
        """Return whether it is an activation, of one of these functions if any are given."""
        if self.kind != 'activation':
            return False
        return not functions or self.settings['function'] in functions


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
        densities: dict[str, float] = {}
        for op in self.ops:
            density = densities[op.inputs[0]] if op.inputs else 1.0
            if op.kind in ('conv', 'max_pool'):
                density /= math.prod(op.settings['strides'])
            elif op.kind == 'upsample':
                density *= math.prod(op.settings['size'])
            elif op.kind == 'conv_transpose':
                density *= math.prod(op.settings['strides'])
            densities[op.name] = density
        return densities

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
            in_place = op.kind in ('activation', *NORMS)
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
            op.inputs == (before.name,) and (op.is_plain or op.kind in ('activation', *NORMS))
            for before, op in zip(self.ops, self.ops[1:], strict=False)
        )

    @property
    def scales(self) -> dict[str, Fraction]:
        """Size of a voxel of each operation's output along an axis, in voxels of the input."""
        scales: dict[str, Fraction] = {}
        for op in self.ops:
            scale = max((scales[name] for name in op.inputs), default=Fraction(1))
            if op.kind in ('conv', 'max_pool'):
                scale *= max(op.settings['strides'])
            elif op.kind == 'conv_transpose':
                scale /= max(op.settings['strides'])
            elif op.kind == 'upsample':
                scale /= max(op.settings['size'])
            scales[op.name] = scale
        return scales

    @property
    def stride(self) -> int:
        """Largest voxel size of all grids in voxels of the input, which must divide all sides."""
        return math.ceil(max(self.scales.values()))

    @property
    def reach(self) -> tuple[int, int] | None:
        """Radius of the receptive field.

        Returns
        -------
        tuple of (int, int) or None
            Largest distance, in voxels of the input, of voxels that an output depends on, and
            `stride`. None if each output depends on the whole input.
        """
        scales = self.scales
        # Radius of each operation, in voxels of the input.
        reaches: dict[str, Fraction] = {}
        for op in self.ops:
            scale = max((scales[name] for name in op.inputs), default=Fraction(1))
            reach = max((reaches[name] for name in op.inputs), default=Fraction(0))
            if op.kind == 'group_norm':
                return None
            if op.kind == 'conv':
                # With 'same' padding half of the span is on either side, unless there is a stride.
                stride = min(op.settings['strides'])
                reach += scale * (
                    -(-op.span // 2) if op.is_plain else max(op.span + 1 - stride, 0)
                )
            elif op.kind == 'conv_transpose':
                stride = min(op.settings['strides'])
                reach += (
                    scale * -(-max(op.span + 1 - stride, 0) // stride) + scale - scales[op.name]
                )
            elif op.kind == 'max_pool':
                pairs = zip(op.settings['size'], op.settings['strides'], strict=True)
                reach += scale * max(0, *(size - stride for size, stride in pairs))
            elif op.kind == 'upsample':
                # All voxels with the same source.
                reach += scale - scales[op.name]
            elif op.kind == 'zero_pad':
                reach += scale * max(map(max, op.settings['padding']))
            reaches[op.name] = reach
        return math.ceil(reaches[self.ops[-1].name]), self.stride

    @property
    def streams(self) -> bool:
        """Whether it is a chain that can be computed slab by slab.

        In addition to `is_chain`, convolutions may have a stride if zero padding is explicit or
        the kernel is as wide as the stride, and the latter may be transposed.
        """
        ops = self.ops
        if any(op.inputs != (before.name,) for before, op in pairwise(ops)):
            return False
        for before, op, after in zip(ops, ops[1:], [*ops[2:], None], strict=False):
            if op.is_plain or op.kind in ('activation', *NORMS):
                continue
            coarser = after if op.kind == 'zero_pad' else op
            if coarser is None or not _changes_grid(coarser, before if coarser is op else op):
                return False
        return True

    def weights_sha256(self) -> str:
        """Return the SHA-256 of all weights in order, as float32, the same for all formats."""
        digest = hashlib.sha256()
        for op in self.ops:
            for values in op.weights.values():
                digest.update(np.ascontiguousarray(values, '<f4').tobytes())
        return digest.hexdigest()

    def consumers(self, name: str) -> list[Op]:
        """Return the operations that take the output of an operation."""
        return [op for op in self.ops if name in op.inputs]

    def fault(self, problem: str) -> ModelError:
        """Return an error on the file."""
        return ModelError(f'{self.source}: {problem}')


def _changes_grid(op: Op, before: Op) -> bool:
    """Return whether a convolution changes the grid in a way that `streams` allows."""
    padding = before.settings.get('padding') if before.kind == 'zero_pad' else None
    if op.by_cubes and (op.kind == 'conv_transpose' or padding is None):
        return True
    # Equal padding on all sides, so that slabs are aligned with the whole volume.
    if op.kind != 'conv' or padding is None or len({n for sides in padding for n in sides}) > 1:
        return False
    strides, zeros = set(op.settings['strides']), 2 * padding[0][0]
    if len(strides) > 1 or strides == {1} or set(op.settings['dilation']) != {1}:
        return False
    exact = all(n - min(strides) <= zeros < n for n in op.kernel_size)
    return op.settings['groups'] == 1 and op.settings['padding'] == 'valid' and exact


def fold_batchnorm(network: Network) -> Network:
    """Fold batch normalisation into convolutions.

    At inference, batch normalisation is a multiplication and an addition for each channel,
    ``y = (x - mean) * gamma / sqrt(variance + epsilon) + beta``. After a convolution, both
    can be included in kernel and bias (Jacob et al.,
    https://arxiv.org/abs/1712.05877, section 3.2).

    Parameters
    ----------
    network : Network
        Each batch normalisation must be the only consumer of a convolution, or of another such
        normalisation.

    Returns
    -------
    Network
        The given network if there is nothing to fold.

    Raises
    ------
    ModelError
        If an operation cannot be folded.
    """
    for name in [op.name for op in network.ops if op.kind == 'batch_norm']:
        norm = network[name]
        target = network[norm.inputs[0]]
        reason = ''
        if target.kind not in ('conv', 'conv_transpose'):
            reason = f'it follows {target.name!r}, which is not a convolution'
        elif len(network.consumers(target.name)) > 1:
            reason = f'other layers use the output of {target.name!r}, too'
        if reason:
            raise network.fault(
                f'batch normalisation {norm.name!r} cannot be folded: {reason}; expected it '
                'directly after a convolution'
            )
        network = _replaced(network, {target.name: _with_norm(target, norm), norm.name: None})
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
