"""Write the model that a run has come to, while it goes on, to be scored.

    KERAS_BACKEND=torch python recipes/export_checkpoint.py RUN OUT

RUN is the folder of `brainchop-train --out`; of its last checkpoint the averaged weights are taken
where the run keeps any. OUT/NAME is the model's folder, without a card.
"""

import argparse
import sys
from pathlib import Path

from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.training.callbacks import CHECKPOINTS
from brainchop_bids.training.checkpoints import list_states, load_state
from brainchop_bids.training.config import read_training_config
from brainchop_bids.training.export import write_model
from brainchop_bids.training.loop import CONFIG, stage_builder
from brainchop_bids.training.optimizers import apply_average
from brainchop_bids.training.stages import trained_network


def main() -> int:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('run', type=Path)
    parser.add_argument('out', type=Path)
    arguments = parser.parse_args()
    config = read_training_config(arguments.run / CONFIG)
    states = list_states(arguments.run / CHECKPOINTS)
    if not states:
        parser.error(f'{arguments.run}: has no checkpoint yet')
    number, step, path = states[-1]
    classes = config.classes_of(read_mapping(config.data.mapping).classes)
    model = stage_builder(config, classes)(number)
    load_state(path, model)
    apply_average(model)
    network = trained_network(config.model, config.stages[number], model)
    folder = arguments.out / config.card.name
    write_model(config, network, folder)
    print(f'{folder}: stage {number}, step {step}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
