"""Several networks as one whose logits are the mean of theirs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..models.network import Network, Op


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
        Of plain operations, which all engines and file formats know.
    """
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
