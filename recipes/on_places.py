"""Turn a MeshNet that was trained on every second voxel into one on 2 mm places.

    python recipes/on_places.py MODEL MAPPING OUT

A dilated layer of an even dilation never mixes even voxels with odd ones (see
`brainchop_bids.training.stages`), so that on every second voxel such a network is one on 2 mm
places already: only its first layer must find the voxels among the channels of a place. Its
labels become those of MAPPING, a table of `brainchop_bids/data/mappings`, by their names without
sides; a label that it does not know begins as its background. Training begins with the result
(`[init]`).
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
from brainchop_bids.models.sides import side
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model


def main() -> int:
    """Read, turn, write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='name or folder')
    parser.add_argument('mapping', help='table of the new labels')
    parser.add_argument('out', type=Path, help='folder of the new model')
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    known = [label.name for label in load_spec(folder).labels]
    mapping = read_mapping(arguments.mapping)
    wanted = [mapping.labels[i] for i in range(mapping.classes)]
    network = on_places(read_network(folder)[0], [_same(name, known) for name in wanted])
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_tfjs(network, arguments.out)
    return 0


def on_places(network: Network, classes: list[int]) -> Network:
    """Return the network on 2 mm places.

    Parameters
    ----------
    network : Network
        Convolutions of 3x3x3 voxels, the first of dilation 1, the others of even dilations, and
        one of 1x1x1 at the end.
    classes : list of int
        For each class of the result the class it begins as.
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
            ops.append(_head(op, classes))
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


def _head(op: Op, classes: list[int]) -> Op:
    kernel = op.weights['kernel'][0, 0, 0][:, classes].T
    weights = {
        'kernel': np.broadcast_to(kernel, (2, 2, 2, *kernel.shape)).copy(),
        'bias': op.weights['bias'][classes],
    }
    settings = {**op.settings, 'strides': (2, 2, 2)}
    return replace(
        op, kind='conv_transpose', channels=len(classes), settings=settings, weights=weights
    )


def _same(name: str, known: list[str]) -> int:
    plain = name.split('-', 1)[1] if side(name) else name
    plain = plain.replace('Inf-Lat-Vent', 'Inferior-Lateral-Ventricle')
    return known.index(plain) if plain in known else 0


if __name__ == '__main__':
    sys.exit(main())
