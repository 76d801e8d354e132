"""The training loop: stages of Keras' `fit`, each of which can be killed and resumed anywhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from ..models.derived import read_derived
from ..models.formats import read_network
from ..models.mapping import read_mapping
from ..models.network import Network
from ..system.atomic import write_text
from ..system.errors import SettingsError
from ..system.resources import available_cpus
from .callbacks import BEST, CHECKPOINTS, Clock, Keeper, Progress
from .checkpoints import list_states, load_state
from .config import TrainConfig, read_config
from .data.cache import side_pairs
from .data.loader import CubeSource
from .data.sources import Sources, find_sources
from .devices import distribute, prepare
from .losses.registry import build_loss
from .losses.subvoxels import whole_network, with_subvoxels
from .metrics import ClassDice
from .network import build_stage, take_over, trained_network
from .optimizers import build_optimizer, take_average
from .report.log import EVENTS, LOG, Record, label_table
from .report.page import REPORT
from .report.scores import PICTURES, VALIDATION
from .transfer import begin_from, differences, freeze, transfer_table
from .validate import ValidationScan, Validator

CONFIG = 'config.toml'


def train(
    config: TrainConfig, out: Path, clock: Clock | None = None
) -> tuple[Network, Sources] | None:
    """Train a network, or go on with it.

    Parameters
    ----------
    config : TrainConfig
        The run.
    out : Path
        Its folder: config, checkpoints, log and TensorBoard's files. What it holds of the same
        run is taken up.
    clock : Clock, optional
        Stops the run at the next step, with a checkpoint.

    Returns
    -------
    network : brainchop_bids.models.network.Network
        That of the best validation; where no whole volumes are scored, of the last step.
    sources : Sources
        What it has learnt from.
    None
        Where the clock stopped the run.

    Raises
    ------
    SettingsError
        Where the folder holds a run of another config, or the config asks for what cannot be.
    BrainchopError
        Where the loss is no longer a number.
    DatasetError, InputError, ModelError, OutputError
        For images, labels and files that cannot be used.
    """
    clock = clock or Clock()
    _check_folder(config, out)
    distribute(config.devices, [stage.batch for stage in config.stages])
    keras.utils.set_random_seed(config.seed)
    prepare(config.precision)
    mapping = read_mapping(config.data.mapping)
    classes = mapping.classes
    networks = stage_builder(config, classes)
    labels = label_table(config, classes)
    # What the model's folder says must not turn out to be wrong after hours.
    read_derived(config.card.derived, labels, Path('card in the training config'))
    # Label maps are mirrored by their codes, before they have classes.
    flips = config.augmentation.flip > 0 and not config.data.label_maps
    swap = side_pairs(labels) if flips else ()
    sources = find_sources(config, tuple(swap))
    workers = config.workers or max(1, int(available_cpus().amount) - 1)
    with CubeSource(config, workers, sources) as cubes, Record(config, out, classes) as record:
        if mapping.empty:
            numbers = ', '.join(map(str, mapping.empty))
            record.say(f'warning: {mapping.name}: no code becomes label {numbers}; no scan has it')
        for note in sources.notes:
            record.say(note)
        write_text(out / CONFIG, config.to_toml())
        model = _train(config, out, clock, networks, cubes, record)
    if model is None:
        return None
    if (out / BEST).exists():
        return read_network(out / BEST)[0], sources
    return trained_network(config.model, config.stages[-1], model), sources


def _train(
    config: TrainConfig,
    out: Path,
    clock: Clock,
    networks: Callable[[int], Any],
    cubes: CubeSource,
    record: Record,
) -> Any:
    """Go through the stages; return the last one's model, None where the clock stopped it."""
    done = list_states(out / CHECKPOINTS)
    first, step, path = done[-1] if done else (0, 0, None)
    record.resume(_global_step(config, first, step))
    validator = None
    if config.validation.every:
        scans = [ValidationScan(*scan) for scan in cubes.scans()]
        validator = Validator(scans, record.names)
    previous = None
    for number in range(first, len(config.stages)):
        model = networks(number)
        if number == first and path is not None:
            load_state(path, model)
        elif previous is not None:
            take_over(previous, model)
        elif config.init.model:
            whole = whole_network(model)
            for warning in differences(whole, config.init, config.data):
                record.say(f'warning: {warning}')
            record.say(_begin(config, whole))
        begin = step if number == first else 0
        progress = Progress(config, number, begin, _global_step(config, number, 0))
        ended = begin >= progress.stage.steps
        # It may have been stopped early, too.
        if not ended and not progress.patience(record.validations.means).over:
            keeper = Keeper(progress, out, cubes, record, clock, validator)
            keeper.fit(model)
            last = number == len(config.stages) - 1
            if clock.over and not (last and keeper.ended):
                return None
        take_average(model)
        previous = model
    return previous


def _check_folder(config: TrainConfig, out: Path) -> None:
    """Refuse a folder in which another run has got somewhere, and a model in a run's own file."""
    if config.card.name in (CONFIG, CHECKPOINTS, BEST, EVENTS, LOG, PICTURES, VALIDATION, REPORT):
        raise SettingsError(
            f'card.name in the training config: {config.card.name} is what a file or folder of '
            'the run is called; choose another'
        )
    path = out / CONFIG
    if path.exists() and list_states(out / CHECKPOINTS) and read_config(path) != config:
        raise SettingsError(
            f'{out}: holds a run of another config ({path}); choose another --out, or remove it'
        )


def stage_builder(config: TrainConfig, classes: int) -> Callable[[int], Any]:
    """Return what builds and compiles the network of a stage.

    Parameters
    ----------
    config : TrainConfig
        The run.
    classes : int
        Number of classes.

    Returns
    -------
    callable
        Takes the number of a stage, from 0, and returns its compiled `keras.Model`.

    Raises
    ------
    SettingsError
        Where a stage's network cannot be built, or labels of the card are not one for each class.
    """
    channels = len(config.data.channels)

    def build(number: int) -> Any:
        stage = config.stages[number]
        model = build_stage(config.model, stage, classes, channels)
        # Before it is compiled, which looks at what is to be trained.
        freeze(model, config.init.freeze)
        if stage.subvoxels:
            model = with_subvoxels(model, stage.subvoxels)
        loss = config.loss if stage.weighted else replace(config.loss, class_weights=())
        model.compile(
            build_optimizer(config.optimizer, stage.learning_rate, stage.steps),
            build_loss(loss, classes),
            metrics=[ClassDice(classes)],
        )
        return model

    # What does not fit together must not come up after hours.
    if config.card.labels and len(config.card.labels) != classes:
        raise SettingsError(
            f'card.labels has {len(config.card.labels)} entries; the table '
            f'{config.data.mapping} makes {classes} classes'
        )
    for number in range(len(config.stages)):
        build(number)
    return build


def _begin(config: TrainConfig, model: Any) -> str:
    """Give a model what another has learnt, and return what became of each layer."""
    stage = config.stages[0]
    if stage.stride == 1:
        return transfer_table(begin_from(model, config.init))
    # The same layers, computed everywhere, with the dilations that the other model has.
    whole = build_stage(
        config.model, replace(stage, stride=1), model.output_shape[-1], model.input_shape[-1]
    )
    there = {layer.name for layer in model.layers}
    lost = [layer.name for layer in whole.layers if layer.weights and layer.name not in there]
    if lost:
        raise SettingsError(
            f'init.model with stages[0].stride = 2: its layers {", ".join(lost)} would be lost; '
            'set stride = 1'
        )
    rows = begin_from(whole, config.init)
    for layer in whole.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    return transfer_table(rows)


def _global_step(config: TrainConfig, number: int, step: int) -> int:
    return sum(stage.steps for stage in config.stages[:number]) + step
