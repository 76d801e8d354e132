"""A network as data: operations in order, with their settings and weights. No Keras here.

Every file format is read into this form and written from it, and engines are built from it, so
that what a model is does not depend on where it came from or on what computes it.
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

# Function of each value alone, but for softmax, which is over the channels.
ACTIVATIONS = (
    'linear', 'relu', 'relu6', 'leaky_relu', 'elu', 'selu', 'silu', 'sigmoid', 'softplus', 'tanh',
    'gelu', 'gelu_tanh', 'softmax',
)  # fmt: skip
# Of negative values, where only the function's name is given: Keras' own.
LEAKY_SLOPE = 0.2
NORMS = ('batch_norm', 'group_norm')


@dataclass(frozen=True, eq=False)
class Op:
    """One operation on channels-last volumes.

    Parameters
    ----------
    name : str
        Unique in its network.
    kind : str
        ``input``; ``conv`` and ``conv_transpose`` (settings ``strides``, ``dilation``,
        ``padding`` 'same' or 'valid' as Keras has them, ``groups``); ``batch_norm``
        (``epsilon``); ``group_norm`` (``epsilon``, ``groups``, -1 for each channel alone);
        ``activation`` (``function``, one of `ACTIVATIONS`, and ``alpha``); ``max_pool``
        (``size``, ``strides``, ``padding``); ``upsample`` (nearest; ``size``); ``zero_pad``
        (``padding``, two for each axis); ``add``; ``concatenate``.
    inputs : tuple of str
        Names of the operations that feed it.
    channels : int
        Of its output.
    settings : mapping
        As above.
    weights : mapping of str to float32 array
        By Keras' names: ``kernel`` (D, H, W, Cin, Cout), when transposed (D, H, W, Cout, Cin),
        ``bias``, ``gamma``, ``beta``, ``moving_mean``, ``moving_variance``.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution that keeps the grid and mixes all channels."""
        return (
            self.kind == 'conv'
            and self.settings['strides'] == (1, 1, 1)
            and self.settings['groups'] == 1
            and (self.settings['padding'] == 'same' or self.kernel_size == (1, 1, 1))
        )

    @property
    def by_cubes(self) -> bool:
        """Whether its kernel is as wide as its stride: cubes of voxels to places, or back."""
        # Both kinds of padding are none then.
        if self.kind not in ('conv', 'conv_transpose'):
            return False
        simple = self.settings['groups'] == 1 and set(self.settings['dilation']) == {1}
        return simple and len({*self.kernel_size, *self.settings['strides']}) == 1

    @property
    def kernel_size(self) -> tuple[int, int, int]:
        """Of a convolution, voxels."""
        x, y, z = self.weights['kernel'].shape[:3]
        return x, y, z

    @property
    def span(self) -> int:
        """Voxels between the first and the last that a kernel meets, along the longest axis."""
        dilation = self.settings['dilation']
        return max((n - 1) * d for n, d in zip(self.kernel_size, dilation, strict=True))

    def is_activation(self, *functions: str) -> bool:
        """Tell whether it is an activation, of these functions if any are given."""
        if self.kind != 'activation':
            return False
        return not functions or self.settings['function'] in functions


@dataclass(frozen=True, eq=False)
class Network:
    """A network of one input and one output.

    Parameters
    ----------
    source : Path
        The file that describes it, for messages.
    ops : tuple of Op
        In an order in which each follows what feeds it; the first is the input, the last the
        output.
    input_shape : tuple of int or None
        Spatial shape that its file names; None where an axis is open.
    files : tuple of Path
        All files that it was read from.
    """

    source: Path
    ops: tuple[Op, ...]
    input_shape: tuple[int | None, int | None, int | None] = (None, None, None)
    files: tuple[Path, ...] = ()

    def __getitem__(self, name: str) -> Op:
        """Return the operation of a name."""
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
        """Number of weights' values."""
        return sum(values.size for op in self.ops for values in op.weights.values())

    @property
    def density(self) -> dict[str, float]:
        """Voxels of each operation's output, for one of the input."""
        found: dict[str, float] = {}
        for op in self.ops:
            here = found[op.inputs[0]] if op.inputs else 1.0
            if op.kind in ('conv', 'max_pool'):
                here /= math.prod(op.settings['strides'])
            elif op.kind == 'upsample':
                here *= math.prod(op.settings['size'])
            elif op.kind == 'conv_transpose':
                here *= math.prod(op.settings['strides'])
            found[op.name] = here
        return found

    @property
    def products(self) -> float:
        """Multiplications for each voxel of the input."""
        density = self.density
        total = 0.0
        for op in self.ops:
            if 'kernel' in op.weights:
                # A transposed convolution multiplies what it is given.
                place = op.inputs[0] if op.kind == 'conv_transpose' else op.name
                total += density[place] * op.weights['kernel'].size
        return total

    @property
    def values(self) -> float:
        """Values that the largest hidden layer holds, for each voxel of the input."""
        density = self.density
        found = [density[op.name] * op.channels for op in self.ops if 'kernel' in op.weights]
        return max(found[:-1], default=found[-1])

    @property
    def held(self) -> float:
        """Values that layers hold at once, for each voxel of the input, computed one by one.

        What a layer makes is held until the last layer that takes it; activations and
        normalisations write over what they are given.
        """
        density = self.density
        # By the layer whose values they write over, what each one gives.
        owners: dict[str, str] = {}
        last: dict[str, int] = {}
        for i, op in enumerate(self.ops):
            inside = op.kind in ('activation', *NORMS)
            owners[op.name] = owners[op.inputs[0]] if inside else op.name
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
        """Whether each operation keeps the grid and feeds the next one alone."""
        return all(
            op.inputs == (before.name,) and (op.is_plain or op.kind in ('activation', *NORMS))
            for before, op in zip(self.ops, self.ops[1:], strict=False)
        )

    @property
    def scales(self) -> dict[str, Fraction]:
        """Voxels of the input, along an axis, for one of each operation's output."""
        found: dict[str, Fraction] = {}
        for op in self.ops:
            scale = max((found[name] for name in op.inputs), default=Fraction(1))
            if op.kind in ('conv', 'max_pool'):
                scale *= max(op.settings['strides'])
            elif op.kind == 'conv_transpose':
                scale /= max(op.settings['strides'])
            elif op.kind == 'upsample':
                scale /= max(op.settings['size'])
            found[op.name] = scale
        return found

    @property
    def stride(self) -> int:
        """Widest stride of the grids in between: sides must be multiples of it."""
        return math.ceil(max(self.scales.values()))

    @property
    def reach(self) -> tuple[int, int] | None:
        """How far an output looks around itself.

        Returns
        -------
        tuple of (int, int) or None
            Voxels of the input, at most, on either side of an output's own place that it
            depends on; and `stride`. None where each output depends on all of the input.
        """
        scales = self.scales
        # Of each operation, in voxels of the input.
        reaches: dict[str, Fraction] = {}
        for op in self.ops:
            scale = max((scales[name] for name in op.inputs), default=Fraction(1))
            reach = max((reaches[name] for name in op.inputs), default=Fraction(0))
            if op.kind == 'group_norm':
                return None
            if op.kind == 'conv':
                # 'same' padding has half of it on either side, unless the grid becomes coarser.
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
                # All that the place of a voxel holds.
                reach += scale - scales[op.name]
            elif op.kind == 'zero_pad':
                reach += scale * max(map(max, op.settings['padding']))
            reaches[op.name] = reach
        return math.ceil(reaches[self.ops[-1].name]), self.stride

    @property
    def streams(self) -> bool:
        """Whether it is a chain that can be computed slab by slab.

        Besides what `is_chain` allows: convolutions with a stride behind a padding of zeros, or
        with kernels as wide as their strides, and transposed ones of the latter kind.
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
        """Return the checksum of all weights, in order, as float32; whatever their file's form."""
        digest = hashlib.sha256()
        for op in self.ops:
            for values in op.weights.values():
                digest.update(np.ascontiguousarray(values, '<f4').tobytes())
        return digest.hexdigest()

    def takers(self, name: str) -> list[Op]:
        """Return the operations that an operation feeds."""
        return [op for op in self.ops if name in op.inputs]

    def fault(self, what: str) -> ModelError:
        """Make the error for something in the file."""
        return ModelError(f'{self.source}: {what}')


def _changes_grid(op: Op, before: Op) -> bool:
    """Tell whether a convolution makes a grid coarser or finer in a way that `streams` allows."""
    padding = before.settings.get('padding') if before.kind == 'zero_pad' else None
    if op.by_cubes and (op.kind == 'conv_transpose' or padding is None):
        return True
    # As many zeros on each side, so that halves of the volume begin where the volume does.
    if op.kind != 'conv' or padding is None or len({n for sides in padding for n in sides}) > 1:
        return False
    strides, zeros = set(op.settings['strides']), 2 * padding[0][0]
    if len(strides) > 1 or strides == {1} or set(op.settings['dilation']) != {1}:
        return False
    exact = all(n - min(strides) <= zeros < n for n in op.kernel_size)
    return op.settings['groups'] == 1 and op.settings['padding'] == 'valid' and exact


def fold_batchnorm(network: Network) -> Network:
    """Return a network without batch normalisation that computes the same.

    At inference batch normalisation is one multiplication and one addition per channel,
    ``y = (x - mean) * gamma / sqrt(variance + epsilon) + beta``. After a convolution both go
    into its kernel and bias (Jacob et al., https://arxiv.org/abs/1712.05877, section 3.2).

    Parameters
    ----------
    network : Network
        Each batch normalisation must alone take the output of a convolution, or of another
        normalisation that does.

    Returns
    -------
    Network
        The same one where there is nothing to fold.

    Raises
    ------
    ModelError
        Naming the operation that cannot be folded.
    """
    for name in [op.name for op in network.ops if op.kind == 'batch_norm']:
        norm = network[name]
        target = network[norm.inputs[0]]
        reason = ''
        if target.kind not in ('conv', 'conv_transpose'):
            reason = f'it follows {target.name!r}, no convolution'
        elif len(network.takers(target.name)) > 1:
            reason = f'{target.name!r} feeds other layers too'
        if reason:
            raise network.fault(
                f'batch normalisation {norm.name!r} cannot be folded: {reason}; expected it '
                'alone behind a convolution without activation'
            )
        network = _replaced(network, {target.name: _with_norm(target, norm), norm.name: None})
    return network


def _with_norm(conv: Op, norm: Op) -> Op:
    # In double precision: a tiny variance makes a huge factor.
    values = {name: np.asarray(array, np.float64) for name, array in norm.weights.items()}
    scale = values.get('gamma', 1.0) / np.sqrt(
        values['moving_variance'] + norm.settings['epsilon']
    )
    kernel = np.asarray(conv.weights['kernel'], np.float64)
    # The output channel is the last axis of a kernel, but the last but one when transposed.
    kernel = kernel * (scale if conv.kind == 'conv' else scale[:, None])
    bias = (conv.weights.get('bias', 0.0) - values['moving_mean']) * scale
    bias = bias + values.get('beta', 0.0)
    weights = {'kernel': kernel.astype(np.float32), 'bias': bias.astype(np.float32)}
    return replace(conv, weights=weights)


def _replaced(network: Network, changes: Mapping[str, Op | None]) -> Network:
    """Exchange operations by name, and take out those that become None: one input each."""
    gone = {op.name: op.inputs[0] for op in network.ops if changes.get(op.name, op) is None}
    ops = []
    for op in network.ops:
        new = changes.get(op.name, op)
        if new is not None:
            ops.append(replace(new, inputs=tuple(gone.get(name, name) for name in new.inputs)))
    return replace(network, ops=tuple(ops))


def without(network: Network, wanted: Callable[[Op], bool]) -> Network:
    """Return a network without some operations; what fed each feeds what it fed."""
    for op in network.ops:
        if wanted(op):
            network = _replaced(network, {op.name: None})
    return network
