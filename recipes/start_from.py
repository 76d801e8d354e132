"""Give a MeshNet other labels, and perhaps a grid of 2 mm, to begin a training with (`[init]`).

    python recipes/start_from.py MODEL MAPPING OUT [--on-places]

The labels become those of MAPPING, a table of `brainchop_bids/data/mappings`: a structure of one
side begins as the model's, or as its structure of both, and a label that the model does not know
as its background, but less likely.

With `--on-places` a network that was trained on every second voxel becomes one on 2 mm places. A
dilated layer of an even dilation never mixes even voxels with odd ones (see
`brainchop_bids.training.stages`), so that on every second voxel such a network is one on 2 mm
places already: only its first layer must find the voxels among the channels of a place.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from brainchop_bids.models.formats import read_network
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.network import Network, Op
from brainchop_bids.models.sides import without_side
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model

# Taken from the bias of a label that the model does not know.
_UNKNOWN = 3.0


def main() -> int:
    """Read, change, write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='name or folder')
    parser.add_argument('mapping', help='table of the new labels')
    parser.add_argument('out', type=Path, help='folder of the new model')
    parser.add_argument('--on-places', action='store_true', help='compute on a grid of 2 mm')
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    known = [label.name for label in load_spec(folder).labels]
    mapping = read_mapping(arguments.mapping)
    wanted = [mapping.labels[i] for i in range(mapping.classes)]
    network = relabelled(read_network(folder)[0], [_same(name, known) for name in wanted])
    if arguments.on_places:
        network = on_places(network)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_tfjs(network, arguments.out)
    return 0


def relabelled(network: Network, classes: list[int | None]) -> Network:
    """Return the network with other classes.

    Parameters
    ----------
    network : Network
        Ends with a convolution of 1x1x1 voxels.
    classes : list of int
        For each class of the result the class it begins as, None for an unknown one.
    """
    *ops, head = network.ops
    begin = [known or 0 for known in classes]
    bias = head.weights['bias'][begin] - [_UNKNOWN * (known is None) for known in classes]
    weights = {'kernel': head.weights['kernel'][..., begin].copy(), 'bias': bias}
    ops.append(replace(head, channels=len(classes), weights=weights))
    return replace(network, ops=tuple(ops))


def on_places(network: Network) -> Network:
    """Return the network on 2 mm places.

    Parameters
    ----------
    network : Network
        Convolutions of 3x3x3 voxels, the first of dilation 1, the others of even dilations, and
        one of 1x1x1 at the end.
    """
    ops = []
    for op in network.ops:
        kernel = op.weights.get('kernel')
        if op.kind == 'input':
            ops += [op, _gather(op)]
        elif kernel is None:
            ops.append(op)
        elif ops[-1].name == 'space_to_depth':
            weights = {**op.weights, 'kernel': _first(kernel)}
            ops.append(replace(op, inputs=('space_to_depth',), weights=weights))
        elif kernel.shape[0] == 1:
            ops.append(_head(op))
        else:
            halved = tuple(n // 2 for n in op.settings['dilation'])
            ops.append(replace(op, settings={**op.settings, 'dilation': halved}))
    return Network(network.source, tuple(ops), (256, 256, 256))


def _gather(before: Op) -> Op:
    settings = {'strides': (2, 2, 2), 'dilation': (1, 1, 1), 'padding': 'valid', 'groups': 1}
    kernel = np.eye(8, dtype=np.float32).reshape(2, 2, 2, 1, 8)
    return Op('space_to_depth', 'conv', (before.name,), 8, settings, {'kernel': kernel})


def _first(kernel: np.ndarray) -> np.ndarray:
    """Return the kernel of the first layer at the last voxel of each place."""
    made = np.zeros((3, 3, 3, 2, 2, 2, kernel.shape[-1]), np.float32)
    for x, y, z in np.ndindex(3, 3, 3):
        # The voxels before and at the middle are the place's own, the one behind the next's.
        place = tuple(1 + n // 2 for n in (x, y, z))
        made[(*place, x % 2, y % 2, z % 2)] = kernel[x, y, z, 0]
    return made.reshape(3, 3, 3, 8, -1)


def _head(op: Op) -> Op:
    kernel = op.weights['kernel'][0, 0, 0].T
    weights = {**op.weights, 'kernel': np.broadcast_to(kernel, (2, 2, 2, *kernel.shape)).copy()}
    settings = {**op.settings, 'strides': (2, 2, 2)}
    return replace(op, kind='conv_transpose', settings=settings, weights=weights)


def _same(name: str, known: list[str]) -> int | None:
    plain = without_side(name).replace('Inf-Lat-Vent', 'Inferior-Lateral-Ventricle')
    return next((known.index(same) for same in (name, plain) if same in known), None)


if __name__ == '__main__':
    sys.exit(main())
