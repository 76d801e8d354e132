"""Which convolutions of a network have a counterpart in another, and what it can give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.network import NORMS, Network, Op

# Of a kernel's fresh values where they feed what is reused: enough to learn from, too little to
# drown it.
_SMALL = 0.1
CONVOLUTIONS = ('conv', 'conv_transpose')
# Of a network's channels, and of another's.
Places = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Unit:
    """A convolution and the normalisation behind it.

    Parameters
    ----------
    conv : Op
        The convolution, transposed or not.
    batch : Op or None
        Its batch normalisation.
    group : bool
        Whether its channels are normalised in groups.
    entering, leaving : tuple of int
        Channels of each volume that its input is joined of, and of those that its output is
        added to.
    sees_image : bool
        Whether its input is the network's.
    """

    conv: Op
    batch: Op | None
    group: bool
    entering: tuple[int, ...]
    leaving: tuple[int, ...]
    sees_image: bool

    @property
    def kernel(self) -> np.ndarray:
        """``(X, Y, Z, Cin, Cout)``."""
        kernel = self.conv.weights['kernel']
        return kernel if self.conv.kind == 'conv' else np.swapaxes(kernel, 3, 4)

    @property
    def form(self) -> tuple[Any, ...]:
        """What must be the same for kernels to mean the same."""
        size, settings = self.conv.kernel_size, self.conv.settings
        dilation = settings['dilation'] if max(size) > 1 else (1, 1, 1)
        return self.conv.kind, size, settings['strides'], dilation, settings['groups']

    def takes(self, other: 'Unit') -> bool:
        """Tell whether it can have weights of another one."""
        whole = self.conv.settings['groups'] == 1 or self.kernel.shape == other.kernel.shape
        return self.form == other.form and whole


def units_of(network: Network) -> list[Unit]:
    """Return a network's convolutions, in order."""
    found = []
    parts = _parts(network)
    for op in network.ops:
        if op.kind not in CONVOLUTIONS:
            continue
        behind = network.takers(op.name)
        norm = behind[0] if len(behind) == 1 and behind[0].kind in NORMS else None
        end = op if norm is None else norm
        sums = [parts[taker.name] for taker in network.takers(end.name) if taker.kind == 'add']
        found.append(
            Unit(
                op,
                norm if norm is not None and norm.kind == 'batch_norm' else None,
                norm is not None and norm.kind == 'group_norm',
                parts[op.inputs[0]],
                max(sums, key=len, default=(op.channels,)),
                network[op.inputs[0]].kind == 'input',
            )
        )
    return found


def _parts(network: Network) -> dict[str, tuple[int, ...]]:
    """Return of what volumes, by their channels, each operation's output is joined."""
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


def align(units: Sequence[Unit], learnt: Sequence[Unit]) -> dict[int, int]:
    """Match two rows of convolutions in order, as a longest common subsequence.

    Pairs count most, and among as many pairs equal channels. Of equal ways the first pairs are
    the earliest.

    Parameters
    ----------
    units : sequence of Unit
        Those that are to be given weights.
    learnt : sequence of Unit
        Those that have them.

    Returns
    -------
    dict of int to int
        For each place in ``units`` that has a counterpart, this one's place in ``learnt``.
    """

    def worth(i: int, j: int) -> int:
        if not units[i].takes(learnt[j]):
            return 0
        ours, theirs = units[i].kernel.shape[3:], learnt[j].kernel.shape[3:]
        return 1000 + sum(a == b for a, b in zip(ours, theirs, strict=True))

    rows, columns = len(units), len(learnt)
    best = np.zeros((rows + 1, columns + 1), int)
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            pair = worth(i, j)
            both = best[i + 1, j + 1] + pair if pair else 0
            best[i, j] = max(both, best[i + 1, j], best[i, j + 1])
    pairs: dict[int, int] = {}
    i = j = 0
    while i < rows and j < columns:
        pair = worth(i, j)
        if pair and best[i, j] == best[i + 1, j + 1] + pair:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i, j] == best[i, j + 1]:
            j += 1
        else:
            i += 1
    return pairs


def reuse(unit: Unit, given: Unit) -> list[tuple[Op, dict[str, np.ndarray], str]]:
    """Return the weights of a convolution and its normalisation, and how far they are reused.

    Parameters
    ----------
    unit : Unit
        With its fresh weights.
    given : Unit
        Its counterpart; without batch normalisation where ``unit`` has none.

    Returns
    -------
    list of (Op, dict of str to float32 array, str)
        The operation, its weights by name, and ``'reused'`` or ``'in part'``.
    """
    same = unit.kernel.shape == given.kernel.shape
    outputs = _common(unit.leaving, given.leaving)
    kernel = _kernel(unit, given, outputs)
    conv = {'kernel': kernel if unit.conv.kind == 'conv' else np.swapaxes(kernel, 3, 4)}
    bias = given.conv.weights.get('bias', np.zeros(given.conv.channels, np.float32))
    if 'bias' in unit.conv.weights:
        conv['bias'] = _begun(unit.conv.weights['bias'], bias, outputs)
        bias = np.zeros_like(bias)
    made = [(unit.conv, conv, 'reused' if same else 'in part')]
    if unit.batch is None:
        return made
    # What a bias adds, the mean takes away; where nothing was normalised nothing shall be.
    epsilon = unit.batch.settings['epsilon']
    values = {'gamma': np.ones_like(bias), 'beta': bias, 'moving_mean': np.zeros_like(bias)}
    values['moving_variance'] = np.full_like(bias, 1 - epsilon)
    state = 'in part'
    if given.batch is not None:
        theirs = given.batch.weights
        values = {**values, 'beta': np.zeros_like(bias), **theirs}
        values['moving_mean'] = theirs['moving_mean'] - bias
        spread = theirs['moving_variance'] + (given.batch.settings['epsilon'] - epsilon)
        values['moving_variance'] = np.maximum(spread, 0)
        state = 'reused' if len(bias) == unit.conv.channels else 'in part'
    fresh = unit.batch.weights
    made.append((unit.batch, {k: _begun(v, values[k], outputs) for k, v in fresh.items()}, state))
    return made


def _begun(fresh: np.ndarray, given: np.ndarray, places: Places) -> np.ndarray:
    """Return the values of one, and in some places the other's."""
    made = fresh.copy()
    made[places[0]] = given[places[1]]
    return made


def _kernel(unit: Unit, given: Unit, outputs: Places) -> np.ndarray:
    """Return a kernel (X, Y, Z, Cin, Cout) that holds what it can of the other's."""
    made, learnt = unit.kernel.copy(), given.kernel
    inputs = _common(unit.entering, given.entering)
    if unit.conv.settings['groups'] > 1:
        inputs = _common(made.shape[3:4], learnt.shape[3:4])
    others = np.setdiff1d(np.arange(made.shape[3]), inputs[0])
    if unit.sees_image:
        made[..., others, :] = 0
    else:
        made[..., others[:, None], outputs[0]] *= _SMALL
    reused = learnt[..., inputs[1][:, None], outputs[1]]
    made[..., inputs[0][:, None], outputs[0]] = reused
    return made


def _common(ours: Sequence[int], theirs: Sequence[int]) -> Places:
    """Return which channels of joined volumes are which of the other's.

    Each volume begins with its own channels.
    """
    if len(ours) != len(theirs):
        ours, theirs = (sum(ours),), (sum(theirs),)
    places: tuple[list[int], list[int]] = [], []
    for i, (n, m) in enumerate(zip(ours, theirs, strict=True)):
        for found, start in zip(places, (sum(ours[:i]), sum(theirs[:i])), strict=True):
            found.extend(range(start, start + min(n, m)))
    return np.array(places[0]), np.array(places[1])
