"""Export of trained networks as model folders for ``brainchop --model``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..models.formats.tfjs import save_tfjs
from ..models.labelfiles import OVERRIDES
from ..models.levels import slab_values
from ..models.network import Network
from ..system.atomic import publish, text_writer
from .config import TrainConfig
from .data.sources import Sources, item_name
from .inherit import LIKE, RECIPE
from .options import Stage
from .report.log import LOG, label_table
from .report.scores import VALIDATION, best_step, mean_dice, read_scores

CARD = 'README.md'
_WHOLE = 256


def export(config: TrainConfig, network: Network, sources: Sources, out: Path) -> Path:
    """Write the folder of a trained model.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    network : Network
        Trained network, see `brainchop_bids.training.stages.trained_network`.
    sources : Sources
        Training and held-out data.
    out : Path
        Folder of the run, with its log.

    Returns
    -------
    Path
        ``out/<name>`` with ``model.json`` and weights, ``brainchop.json``, the config, the log
        and a model card.

    Raises
    ------
    ModelError, OutputError
        If it cannot be written.
    """
    folder = out / config.card.name
    write_model(config, network, folder)
    log = (out / LOG).read_text(encoding='utf-8')
    publish(
        [
            (folder / RECIPE, text_writer(config.to_toml())),
            (folder / LOG, text_writer(log)),
            (folder / CARD, text_writer(model_card(config, network, sources, out))),
        ]
    )
    return folder


def write_model(config: TrainConfig, network: Network, folder: Path) -> None:
    """Write a network with its ``brainchop.json``.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    network : Network
        The network.
    folder : Path
        Folder to write.

    Raises
    ------
    ModelError, OutputError
        If it cannot be written.
    """
    # Group normalisation has other statistics on whole volumes than on training patches, and
    # networks that cannot be computed by slabs need too much memory for whole volumes.
    whole = slab_values(network) > 0 and not any(op.kind == 'group_norm' for op in network.ops)
    shape = (_WHOLE,) * 3 if whole else config.stages[-1].shape
    if not network.of_images:
        network = replace(network, input_shape=shape)
    folder.mkdir(parents=True, exist_ok=True)
    save_tfjs(network, folder, config.card.weights)
    facts = json.dumps(_facts(config, network.classes), indent=2) + '\n'
    publish([(folder / OVERRIDES, text_writer(facts))])


def model_card(config: TrainConfig, network: Network, sources: Sources, out: Path) -> str:
    """Return the model card: the network, its training data and its scores.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    network : Network
        The network.
    sources : Sources
        Training and held-out data.
    out : Path
        Folder of the run, with its log and validations.

    Returns
    -------
    str
        Markdown.
    """
    card, data, model = config.card, config.data, config.model
    names = [label.abbreviation for label in label_table(config, network.classes)]
    dilations = f', dilations {", ".join(map(str, model.dilations))}'
    shape = dilations if model.architecture == 'meshnet' else f', {model.levels} levels'
    kind = f'{model.architecture}, {model.channels} channels{shape}, {model.activation},'
    if config.localises:
        kind = 'Localiser of frames of 64 x 64 pixels (inverted residuals),'
    if model.architecture.startswith(LIKE):
        kind = f'The architecture of {Path(model.architecture.removeprefix(LIKE)).name},'
    made = 'frames along three axes' if config.localises else 'conformed to 1 mm'
    power = 2 if config.localises else 3
    stages = '\n'.join(
        f'| {i} | {stage.steps} | {stage.batch} x {_size(stage, power)} | {stage.stride} | '
        f'{stage.learning_rate:g} | {stage.norm} |'
        for i, stage in enumerate(config.stages)
    )
    status = f'\nStatus: **{card.status}**.\n' if card.status else ''
    notes = f'\n{card.notes.strip()}\n' if card.notes else ''
    loss = ' + '.join(f'{term.weight:g} {term.kind}' for term in config.loss.terms)
    optimizer = config.optimizer
    start = (
        f' Initialised from the model `{Path(config.init.model).name}`.'
        if config.init.model
        else ''
    )
    return f"""# {card.name}
{status}
{kind}
{network.parameters} weights, classes {', '.join(names)}. Input: {', '.join(data.channels)},
{made}, scaled by `{data.normalization}`. Licence: {card.license or 'not stated'}.
{notes}
## Data

{_data(config, sources)}

## Recipe

brainchop-bids {__version__}, seed {config.seed}, {config.steps} steps, loss
{loss or config.loss.kind}, {optimizer.name} with the schedule {optimizer.schedule} in each
stage.{start} All settings are in `{RECIPE}`, the log of the training is `{LOG}`.

| stage | steps | cubes | stride | learning rate | norm |
|---|---|---|---|---|---|
{stages}

## Scores

{_scores(config, sources, names, out)}
"""


def _size(stage: Stage, power: int) -> str:
    return (
        f'{stage.cube}^{power}' if isinstance(stage.cube, int) else 'x'.join(map(str, stage.cube))
    )


def _data(config: TrainConfig, sources: Sources) -> str:
    data = config.data
    held_out = ', '.join(sorted(map(item_name, sources.held_out))) or 'none'
    counts = f'{len(sources.held_out)} held out ({held_out}). Codes to labels: table'
    if data.label_maps:
        return (
            f'Synthetic images only, from {len(sources.training)} label maps of '
            f'`{Path(data.label_maps).name}`;\n{counts}\n`{data.mapping}`. '
            f'{config.synthesis.t1:.0%} of the images have a T1-like contrast, the others a\n'
            'random one.'
        )
    where = Path(data.table or data.bids or data.folder).name
    return (
        f'{len(sources.training)} labelled scans of `{where}`;\n{counts}\n'
        f'`{Path(data.mapping).name}`.'
    )


def _scores(config: TrainConfig, sources: Sources, names: list[str], out: Path) -> str:
    header, *_, last = [
        line.split(',') for line in (out / LOG).read_text(encoding='utf-8').splitlines()
    ]
    final = dict(zip(header, last, strict=True))
    cubes = ', '.join(f'{name} {final[f"validation_dice_{name}"]}' for name in names[1:])
    kind = 'frames' if config.localises else 'cubes'
    if config.data.label_maps:
        kind = f'synthetic {kind}'
    data = 'held-out data' if sources.held_out else 'the training data'
    text = (
        f'Dice on {config.validation_cubes} {kind} of {data} after the last step:\n{cubes}. '
        + ('' if config.localises else 'Scores on real scans come from `brainchop-evaluate`.')
    )
    rows = read_scores(out / VALIDATION)
    best = best_step(mean_dice(rows))
    if best is None:
        return text
    rows = [row for row in rows if row.step == best]
    mean = mean_dice(rows)[best]
    scans = len({row.scan for row in rows})
    return (
        f'The weights are those of step {best}: mean Dice {mean:.3f} over {scans} held-out '
        f'whole volumes.\n\n{text}'
    )


def _facts(config: TrainConfig, classes: int) -> dict[str, Any]:
    card = config.card
    facts: dict[str, Any] = {'name': card.name, 'normalization': config.data.normalization}
    names = [{'name': label.name} for label in label_table(config, classes)]
    facts['labels'] = list(card.labels) or names
    if len(config.data.channels) > 1:
        facts['inputs'] = list(config.data.channels)
    keys = ('task', 'components', 'smooth', 'mask', 'derived', 'status', 'license', 'citation')
    facts.update({key: getattr(card, key) for key in keys if getattr(card, key)})
    return facts
