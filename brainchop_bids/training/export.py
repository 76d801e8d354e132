"""From a trained network to a folder that ``brainchop --model`` runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from .. import __version__
from ..models.formats.tfjs import save_tfjs
from ..models.keras_model import network_of
from ..models.labelfiles import OVERRIDES
from ..publish import publish, text_writer
from .config import TrainConfig
from .generate import label_map_files
from .network import build_stage, take_over
from .options import Stage
from .record import LOG, label_table

CARD = 'README.md'
RECIPE = 'training.toml'
_INPUT = (256, 256, 256)


def export(config: TrainConfig, model: Any, out: Path) -> Path:
    """Write the model's folder.

    Parameters
    ----------
    config : TrainConfig
        The run.
    model : keras.Model
        The network of its last stage.
    out : Path
        The run's folder, with its log.

    Returns
    -------
    Path
        ``out/<name>``: ``model.json`` and weights, ``brainchop.json``, the recipe, the log and
        a model card.

    Raises
    ------
    ModelError, OutputError
        Where it cannot be written.
    """
    classes = model.output_shape[-1]
    # Mixed precision is for training alone.
    keras.config.set_dtype_policy('float32')
    network = replace(config.model, dropout=0.0)
    whole = build_stage(network, Stage(cube=32, norm='none'), classes)
    take_over(model, whole)
    folder = out / config.card.name
    folder.mkdir(parents=True, exist_ok=True)
    save_tfjs(replace(network_of(whole), input_shape=_INPUT), folder)
    log = (out / LOG).read_text(encoding='utf-8')
    publish(
        [
            (folder / OVERRIDES, text_writer(json.dumps(_facts(config), indent=2) + '\n')),
            (folder / RECIPE, text_writer(config.to_toml())),
            (folder / LOG, text_writer(log)),
            (folder / CARD, text_writer(model_card(config, whole, log))),
        ]
    )
    return folder


def model_card(config: TrainConfig, model: Any, log: str) -> str:
    """Write down what a model is, what it learnt from and how well it did.

    Parameters
    ----------
    config : TrainConfig
        The run.
    model : keras.Model
        The network.
    log : str
        The run's CSV log.

    Returns
    -------
    str
        Markdown.
    """
    card, data = config.card, config.data
    training, held_out = label_map_files(config)
    header, *_, last = [line.split(',') for line in log.splitlines()]
    final = dict(zip(header, last, strict=True))
    names = [label.abbreviation for label in label_table(config, model.output_shape[-1])]
    scores = ', '.join(f'{name} {final[f"validation_dice_{name}"]}' for name in names[1:])
    dilations = ', '.join(map(str, config.model.dilations))
    stages = '\n'.join(
        f'| {i} | {stage.steps} | {stage.batch} x {stage.cube}^3 | {stage.stride} | '
        f'{stage.learning_rate:g} | {stage.norm} |'
        for i, stage in enumerate(config.stages)
    )
    status = f'\nStatus: **{card.status}**.\n' if card.status else ''
    notes = f'\n{card.notes.strip()}\n' if card.notes else ''
    return f"""# {card.name}
{status}
MeshNet, {config.model.channels} channels, dilations {dilations}, {config.model.activation},
{model.count_params()} weights, classes {', '.join(names)}. Input: conformed to 1 mm, scaled by
`{data.normalization}`. Licence: {card.license or 'not stated'}.
{notes}
## Data

Synthetic images only, from {len(training)} label maps of `{Path(data.label_maps).name}`;
{len(held_out)} held out ({', '.join(data.hold_out) or 'none'}). Codes to labels: table
`{data.mapping}`. {config.synthesis.t1:.0%} of the images have a T1-like contrast, the others a
random one.

## Recipe

brainchop-bids {__version__}, seed {config.seed}, {config.steps} steps, loss {config.loss.kind},
Adam with a one-cycle schedule in each stage; all settings are in `{RECIPE}`, the course of the
training is in `{LOG}`.

| stage | steps | cubes | stride | learning rate | norm |
|---|---|---|---|---|---|
{stages}

## Scores

Dice on {config.validation_cubes} synthetic cubes of the held-out maps after the last step:
{scores}. Scores on real scans come from `brainchop-evaluate`.
"""


def _facts(config: TrainConfig) -> dict[str, Any]:
    card = config.card
    facts: dict[str, Any] = {'name': card.name, 'normalization': config.data.normalization}
    if card.labels:
        facts['labels'] = list(card.labels)
    for key in ('task', 'components', 'mask', 'license', 'citation'):
        if getattr(card, key):
            facts[key] = getattr(card, key)
    return facts
