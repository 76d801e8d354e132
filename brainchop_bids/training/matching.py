"""Which convolutions of a network have a counterpart in another, and what it can give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.network import Network, Op

# Of a kernel's fresh values where they feed what is reused: enough to learn from, too little to
# drown it.
_SMALL = 0.1
CONVOLUTIONS = ('conv', 'conv_transpose')


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
    entering : tuple of int
        Channels of each volume that is joined to make its input.
    sees_image : bool
        Whether its input is the network's.
    """

    conv: Op
    batch: Op | None
    group: bool
    entering: tuple[int, ...]
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
    for op in network.ops:
        if op.kind not in CONVOLUTIONS:
            continue
        behind = network.takers(op.name)
        alone = behind[0] if len(behind) == 1 else None
        before = network[op.inputs[0]]
        joined = before.inputs if before.kind == 'concatenate' else (before.name,)
        found.append(
            Unit(
                op,
                alone if alone is not None and alone.kind == 'batch_norm' else None,
                alone is not None and alone.kind == 'group_norm',
                tuple(network[name].channels for name in joined),
                before.kind == 'input',
            )
        )
    return found


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
    kernel = _kernel(unit, given)
    conv = {'kernel': kernel if unit.conv.kind == 'conv' else np.swapaxes(kernel, 3, 4)}
    bias = given.conv.weights.get('bias', np.zeros(given.conv.channels, np.float32))
    if 'bias' in unit.conv.weights:
        conv['bias'] = _begun(unit.conv.weights['bias'], bias)
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
    made.append((unit.batch, {k: _begun(v, values[k]) for k, v in fresh.items()}, state))
    return made


def _begun(fresh: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the first values of one, and of the other those behind."""
    made = fresh.copy()
    made[: len(given)] = given[: len(fresh)]
    return made


def _kernel(unit: Unit, given: Unit) -> np.ndarray:
    """Return a kernel (X, Y, Z, Cin, Cout) that holds what it can of the other's."""
    made, learnt = unit.kernel.copy(), given.kernel
    ours, theirs = _common_inputs(unit, given)
    outputs = np.arange(min(made.shape[4], learnt.shape[4]))
    others = np.setdiff1d(np.arange(made.shape[3]), ours)
    if unit.sees_image:
        made[..., others, :] = 0
    else:
        made[..., others[:, None], outputs] *= _SMALL
    made[..., ours[:, None], outputs] = learnt[..., theirs[:, None], outputs]
    return made


def _common_inputs(unit: Unit, given: Unit) -> tuple[np.ndarray, np.ndarray]:
    """Return which channels that enter one convolution are which of the other's.

    Where volumes are joined, each begins with its own channels.
    """
    ours, theirs = unit.entering, given.entering
    if len(ours) != len(theirs) or unit.conv.settings['groups'] > 1:
        ours, theirs = (unit.kernel.shape[3],), (given.kernel.shape[3],)
    found: tuple[list[int], list[int]] = [], []
    for n, m, start, begin in zip(ours, theirs, _starts(ours), _starts(theirs), strict=True):
        found[0].extend(range(start, start + min(n, m)))
        found[1].extend(range(begin, begin + min(n, m)))
    return np.array(found[0]), np.array(found[1])


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]
