"""Matching of the layers of two networks, and reuse of weights across different widths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.network import NORMS, Network, Op

# Factor on a kernel's initial values that feed reused channels: enough to learn from, too little
# to change what these channels compute.
_SMALL = 0.1
CONVOLUTIONS = ('conv', 'conv_transpose')
# Indices of channels in one network, and of the corresponding ones in another.
ChannelIndices = tuple[np.ndarray, np.ndarray]
# Values, and whether each of them is the other network's.
Masked = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class ConvUnit:
    """A convolution with the normalisation that follows it.

    Parameters
    ----------
    conv : Op
        The convolution, transposed or not.
    batch : Op or None
        Its batch normalisation.
    group : bool
        Whether its channels are normalised in groups.
    input_parts, output_parts : tuple of int
        Channels of each of the volumes that are concatenated to its input, and of those of the
        volume that its output is added to.
    sees_image : bool
        Whether its input is the network's.
    """

    conv: Op
    batch: Op | None
    group: bool
    input_parts: tuple[int, ...]
    output_parts: tuple[int, ...]
    sees_image: bool

    @property
    def kernel(self) -> np.ndarray:
        """``(X, Y, Z, Cin, Cout)``."""
        kernel = self.conv.weights['kernel']
        return kernel if self.conv.kind == 'conv' else np.swapaxes(kernel, 3, 4)

    @property
    def form(self) -> tuple[Any, ...]:
        """The settings that must agree for a kernel to compute the same."""
        size, settings = self.conv.kernel_size, self.conv.settings
        dilation = settings['dilation'] if max(size) > 1 else (1, 1, 1)
        return self.conv.kind, size, settings['strides'], dilation, settings['groups']

    def takes(self, other: 'ConvUnit') -> bool:
        """Return whether weights of another one can be used here."""
        whole = self.conv.settings['groups'] == 1 or self.kernel.shape == other.kernel.shape
        return self.form == other.form and whole


def conv_units(network: Network) -> list[ConvUnit]:
    """Return a network's convolutions, in order."""
    units = []
    parts = _parts(network)
    for op in network.ops:
        if op.kind not in CONVOLUTIONS:
            continue
        behind = network.consumers(op.name)
        norm = behind[0] if len(behind) == 1 and behind[0].kind in NORMS else None
        end = op if norm is None else norm
        sums = [parts[user.name] for user in network.consumers(end.name) if user.kind == 'add']
        units.append(
            ConvUnit(
                op,
                norm if norm is not None and norm.kind == 'batch_norm' else None,
                norm is not None and norm.kind == 'group_norm',
                parts[op.inputs[0]],
                max(sums, key=len, default=(op.channels,)),
                network[op.inputs[0]].kind == 'input',
            )
        )
    return units


def _parts(network: Network) -> dict[str, tuple[int, ...]]:
    """Return the channels of the volumes that each operation's output is concatenated from."""
    parts: dict[str, tuple[int, ...]] = {}
    for op in network.ops:
        given = [parts[name] for name in op.inputs]
        if op.kind in (*CONVOLUTIONS, 'input'):
            parts[op.name] = (op.channels,)
        elif op.kind == 'concatenate':
            parts[op.name] = tuple(n for some in given for n in some)
        else:
            parts[op.name] = max(given, key=len)
    return parts


def match_layers(units: Sequence[ConvUnit], sources: Sequence[ConvUnit]) -> dict[int, int]:
    """Match two lists of convolutions in order, as a longest common subsequence.

    The number of pairs counts most, then the number of equal widths. Among equally good
    matchings the earliest pairs are chosen.

    Parameters
    ----------
    units : sequence of ConvUnit
        Those that get weights.
    sources : sequence of ConvUnit
        Those that the weights are from.

    Returns
    -------
    dict of int to int
        For each index in ``units`` that has a counterpart, its index in ``sources``.
    """

    def score(i: int, j: int) -> int:
        if not units[i].takes(sources[j]):
            return 0
        ours, theirs = units[i].kernel.shape[3:], sources[j].kernel.shape[3:]
        return 1000 + sum(a == b for a, b in zip(ours, theirs, strict=True))

    rows, columns = len(units), len(sources)
    best = np.zeros((rows + 1, columns + 1), int)
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            pair = score(i, j)
            both = best[i + 1, j + 1] + pair if pair else 0
            best[i, j] = max(both, best[i + 1, j], best[i, j + 1])
    pairs: dict[int, int] = {}
    i = j = 0
    while i < rows and j < columns:
        pair = score(i, j)
        if pair and best[i, j] == best[i + 1, j + 1] + pair:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i, j] == best[i, j + 1]:
            j += 1
        else:
            i += 1
    return pairs


@dataclass(frozen=True, eq=False)
class Adapted:
    """Initial weights of an operation, and which of them are another network's.

    Parameters
    ----------
    op : Op
        A convolution or batch normalisation.
    weights : dict of str to float32 array
        Its weights by name.
    reused : dict of str to bool array
        For each weight, whether it is that of the other network.
    left_out : int
        Number of weights of the other network's kernel that a narrower one has no place for.
    """

    op: Op
    weights: dict[str, np.ndarray]
    reused: dict[str, np.ndarray]
    left_out: int = 0

    @property
    def count(self) -> int:
        """Number of weights that are reused."""
        return sum(int(mask.sum()) for mask in self.reused.values())

    @property
    def state(self) -> str:
        """``'reused'`` or, if weights are new or left out, ``'in part'``."""
        whole = not self.left_out and all(mask.all() for mask in self.reused.values())
        return 'reused' if whole else 'in part'


def adapt_weights(unit: ConvUnit, source: ConvUnit) -> list[Adapted]:
    """Fit the weights of one convolution and its normalisation to the shape of another.

    Parameters
    ----------
    unit : ConvUnit
        The one that gets the weights, with its initial ones.
    source : ConvUnit
        Its counterpart; without batch normalisation where ``unit`` has none.

    Returns
    -------
    list of Adapted
        The convolution, and its batch normalisation if it has one.
    """
    outputs = _common(unit.output_parts, source.output_parts)
    conv: dict[str, Masked] = {'kernel': _kernel(unit, source, outputs)}
    left_out = source.kernel.size - int(conv['kernel'][1].sum())
    if unit.conv.kind != 'conv':
        values, reused = conv['kernel']
        conv['kernel'] = np.swapaxes(values, 3, 4), np.swapaxes(reused, 3, 4)
    bias = source.conv.weights.get('bias', np.zeros(source.conv.channels, np.float32))
    if 'bias' in unit.conv.weights:
        conv['bias'] = _merged(unit.conv.weights['bias'], bias, outputs)
        bias = np.zeros_like(bias)
    adapted = [_adapted(unit.conv, conv, left_out)]
    if unit.batch is None:
        return adapted
    # The moving mean subtracts what the bias adds. A source that is not normalised gets statistics
    # that change nothing.
    epsilon = unit.batch.settings['epsilon']
    moments = {'gamma': np.ones_like(bias), 'beta': bias, 'moving_mean': np.zeros_like(bias)}
    moments['moving_variance'] = np.full_like(bias, 1 - epsilon)
    known = source.batch is not None
    if source.batch is not None:
        theirs = source.batch.weights
        moments = {**moments, 'beta': np.zeros_like(bias), **theirs}
        moments['moving_mean'] = theirs['moving_mean'] - bias
        spread = theirs['moving_variance'] + (source.batch.settings['epsilon'] - epsilon)
        moments['moving_variance'] = np.maximum(spread, 0)
    norm = {name: _merged(own, moments[name], outputs) for name, own in unit.batch.weights.items()}
    norm = {name: (array, reused & known) for name, (array, reused) in norm.items()}
    return [*adapted, _adapted(unit.batch, norm)]


def _adapted(op: Op, weights: dict[str, Masked], left_out: int = 0) -> Adapted:
    return Adapted(
        op,
        {name: values for name, (values, _) in weights.items()},
        {name: reused for name, (_, reused) in weights.items()},
        left_out,
    )


def _merged(fresh: np.ndarray, source: np.ndarray, channels: ChannelIndices) -> Masked:
    """Return initial values in which some channels are those of the source, and which."""
    values, reused = fresh.copy(), np.zeros(fresh.shape, bool)
    values[channels[0]] = source[channels[1]]
    reused[channels[0]] = True
    return values, reused


def _kernel(unit: ConvUnit, source: ConvUnit, outputs: ChannelIndices) -> Masked:
    """Return a kernel (X, Y, Z, Cin, Cout) with as much as fits of the source's, and where."""
    kernel, source_kernel = unit.kernel.copy(), source.kernel
    inputs = _common(unit.input_parts, source.input_parts)
    if unit.conv.settings['groups'] > 1:
        inputs = _common(kernel.shape[3:4], source_kernel.shape[3:4])
    others = np.setdiff1d(np.arange(kernel.shape[3]), inputs[0])
    if unit.sees_image:
        kernel[..., others, :] = 0
    else:
        kernel[..., others[:, None], outputs[0]] *= _SMALL
    place = (..., inputs[0][:, None], outputs[0])
    kernel[place] = source_kernel[..., inputs[1][:, None], outputs[1]]
    reused = np.zeros(kernel.shape, bool)
    reused[place] = True
    return kernel, reused


def _common(ours: Sequence[int], theirs: Sequence[int]) -> ChannelIndices:
    """Return the indices of channels that two concatenations have in common.

    Of each pair of volumes the first channels correspond.
    """
    if len(ours) != len(theirs):
        ours, theirs = (sum(ours),), (sum(theirs),)
    common: tuple[list[int], list[int]] = [], []
    for i, (n, m) in enumerate(zip(ours, theirs, strict=True)):
        for channels, start in zip(common, (sum(ours[:i]), sum(theirs[:i])), strict=True):
            channels.extend(range(start, start + min(n, m)))
    return np.array(common[0]), np.array(common[1])
