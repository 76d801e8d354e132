"""Several networks as one whose logits are the mean of theirs."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..models.network import Network, Op
from .layer_matching import CONVOLUTIONS


def average_networks(networks: Sequence[Network]) -> Network:
    """Join networks side by side, with a last layer that averages their logits.

    The softmax of a mean of logits is the geometric mean of the posteriors, scaled to a sum of 1.

    Parameters
    ----------
    networks : sequence of Network
        With the same input and classes, ending with logits.

    Returns
    -------
    Network
        Of plain operations, which all engines and file formats know. Networks that are chains of
        the same layers give a chain with kernels of blocks, which is computed on whole volumes;
        others are computed side by side.
    """
    return _as_chain(networks) or _side_by_side(networks)


def _as_chain(networks: Sequence[Network]) -> Network | None:
    """Return one chain for chains of the same layers, else None."""
    alike = {tuple(_description(op) for op in network.ops) for network in networks}
    ops = networks[0].ops
    convolutions = [i for i, op in enumerate(ops) if op.kind in CONVOLUTIONS]
    if (
        len(alike) > 1
        or not all(_is_chain(network) for network in networks)
        or len(convolutions) < 2
        or convolutions[-1] != len(ops) - 1
    ):
        return None
    joined = [ops[0]]
    for i, row in enumerate(zip(*(network.ops for network in networks), strict=True)):
        if i in convolutions:
            joined.append(_joined(row, first=i == convolutions[0], last=i == convolutions[-1]))
        elif i:
            channels = row[0].channels * (len(row) if i > convolutions[0] else 1)
            settings = dict(row[0].settings)
            if 'groups' in settings:
                settings['groups'] = -1
            joined.append(replace(row[0], channels=channels, settings=settings))
    return Network(networks[0].source, tuple(joined))


def _description(op: Op) -> tuple[object, ...]:
    shapes = [(name, array.shape) for name, array in sorted(op.weights.items())]
    return op.name, op.kind, op.inputs, op.channels, repr(sorted(op.settings.items())), *shapes


def _is_chain(network: Network) -> bool:
    """Return whether it is a chain of layers that treat blocks of channels alike."""
    ops = network.ops
    for before, op in pairwise(ops):
        whole = op.kind in CONVOLUTIONS and op.settings['groups'] == 1
        each = op.kind == 'activation' or (
            # Of each channel alone.
            op.kind == 'group_norm'
            and op.settings['groups'] in (-1, op.channels)
            and not op.weights
        )
        if op.inputs != (before.name,) or not (whole or each):
            return False
    return True


def _joined(row: Sequence[Op], *, first: bool, last: bool) -> Op:
    """Return a convolution for those of all networks: the mean of the last ones."""
    # Transposed convolutions have their outputs before their inputs.
    turned = row[0].kind == 'conv_transpose'
    kernels = [op.weights['kernel'] for op in row]
    if turned:
        kernels = [np.swapaxes(kernel, 3, 4) for kernel in kernels]
    if first:
        kernel = np.concatenate(kernels, 4)
    elif last:
        kernel = np.concatenate(kernels, 3) / np.float32(len(row))
    else:
        *size, inputs, outputs = kernels[0].shape
        kernel = np.zeros((*size, inputs * len(row), outputs * len(row)), np.float32)
        for i, own in enumerate(kernels):
            place = slice(i * inputs, (i + 1) * inputs), slice(i * outputs, (i + 1) * outputs)
            kernel[..., place[0], place[1]] = own
    weights = {'kernel': np.swapaxes(kernel, 3, 4) if turned else kernel}
    if 'bias' in row[0].weights:
        biases = np.stack([op.weights['bias'] for op in row])
        weights['bias'] = biases.mean(0) if last else biases.ravel()
    channels = row[0].channels if last else row[0].channels * len(row)
    return replace(row[0], channels=channels, weights=weights)


def _side_by_side(networks: Sequence[Network]) -> Network:
    first = networks[0]
    image = replace(first.ops[0], name='input')
    ops = [image]
    for number, network in enumerate(networks):
        names = {op.name: f'fold_{number}_{op.name}' for op in network.ops}
        names[network.ops[0].name] = image.name
        ops += [
            replace(op, name=names[op.name], inputs=tuple(names[name] for name in op.inputs))
            for op in network.ops[1:]
        ]
    ends = tuple(f'fold_{number}_{n.ops[-1].name}' for number, n in enumerate(networks))
    classes = first.classes
    together = Op('fold_logits', 'concatenate', ends, classes * len(networks))
    kernel = np.tile(np.eye(classes, dtype=np.float32) / len(networks), (len(networks), 1))
    mean = Op(
        'output',
        'conv',
        (together.name,),
        classes,
        {
            'strides': (1, 1, 1),
            'dilation': (1, 1, 1),
            'padding': 'same',
            'groups': 1,
        },
        {'kernel': kernel[None, None, None], 'bias': np.zeros(classes, np.float32)},
    )
    return Network(first.source, (*ops, together, mean))
