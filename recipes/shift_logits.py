"""Make labels of a model less or more likely, by the biases of its last layer.

    python recipes/shift_logits.py MODEL OUT LABEL=SHIFT...

OUT becomes a copy of MODEL. SHIFT is added to the logit of each label whose name is LABEL, or
LABEL with a side before it: -2 makes it 7.4 times less likely beside all others.
"""

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from brainchop_bids.models.formats import read_network
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.sides import without_side
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.training.config import read_training_config
from brainchop_bids.training.inherit import RECIPE


def main() -> int:
    """Read, shift, write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='name or folder')
    parser.add_argument('out', type=Path, help='folder of the new model')
    parser.add_argument('shifts', nargs='+', metavar='LABEL=SHIFT')
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    network, labels = read_network(folder)[0], load_spec(folder).labels
    *ops, head = network.ops
    bias = head.weights['bias'].copy()
    for text in arguments.shifts:
        name, _, shift = text.rpartition('=')
        shifted = [
            index
            for index, label in enumerate(labels)
            if name in (label.name, without_side(label.name))
        ]
        if not shifted:
            parser.error(f'{folder}: has no label {name!r}')
        bias[shifted] += float(shift)
    ops.append(replace(head, weights={**head.weights, 'bias': bias}))
    shutil.copytree(folder, arguments.out)
    weights = read_training_config(folder / RECIPE).card.weights
    save_tfjs(replace(network, ops=tuple(ops)), arguments.out, weights)
    return 0


if __name__ == '__main__':
    sys.exit(main())
