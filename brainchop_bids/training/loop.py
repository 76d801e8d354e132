"""The training loop over stages; a run that is interrupted anywhere resumes at its checkpoint."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from ..models.derived import read_derived
from ..models.formats import read_network
from ..models.keras_model import network_of
from ..models.mapping import read_mapping
from ..models.network import Network
from ..system.atomic import write_text
from ..system.errors import SettingsError
from ..system.resources import available_cpus
from .callbacks import BEST, CHECKPOINTS, Progress, StageTrainer, StopCondition
from .checkpoints import list_states, load_state, newest_state
from .config import TrainConfig, read_training_config
from .data.cache import side_pairs
from .data.loader import PatchLoader
from .data.sources import Sources, find_sources
from .devices import configure_keras, distribute
from .losses.registry import build_loss
from .losses.subvoxels import whole_network, with_subvoxels
from .metrics import ClassDice
from .optimizers import apply_average, average_statistics, build_optimizer
from .report.log import EVENTS, LOG, TrainingLog, label_table
from .report.page import REPORT
from .report.scores import PICTURES, VALIDATION
from .reuse import find_reuse
from .stages import build_stage, inherit_weights, recompute_statistics, trained_network
from .transfer import (
    compatibility_warnings,
    freeze,
    load_pretrained,
    transfer_table,
)
from .validate import ValidationScan, Validator

CONFIG = 'config.toml'
# Patches from which statistics of batch normalisation are recomputed at the end of a stage.
_STATISTICS = 48


def train(
    config: TrainConfig, out: Path, stop: StopCondition | None = None
) -> tuple[Network, Sources] | None:
    """Train a network, or resume its training.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    out : Path
        Folder of the run, with its config, checkpoints, log and TensorBoard files. A run with
        the same config is resumed at its last checkpoint.
    stop : StopCondition, optional
        Stops the run before the next step, with a checkpoint.

    Returns
    -------
    network : Network
        The network of the best validation, or of the last step if no whole volumes are scored.
    sources : Sources
        Its training and held-out data.
    None
        If the run was stopped.

    Raises
    ------
    SettingsError
        If the folder holds a run with another config, or the config cannot be used.
    BrainchopError
        If the loss is not finite.
    DatasetError, InputError, ModelError, OutputError
        If images, labels or files cannot be used.
    """
    stop = stop or StopCondition()
    check_folder(config, out)
    distribute(config.devices, [stage.batch for stage in config.stages])
    keras.utils.set_random_seed(config.seed)
    configure_keras(config.precision)
    mapping = read_mapping(config.data.mapping)
    classes = config.classes_of(mapping.classes)
    build = stage_builder(config, classes)
    labels = label_table(config, classes)
    # An error in the card must not show only at the end of the run.
    read_derived(config.card.derived, labels, Path('card in the training config'))
    # Label maps are mirrored before their codes become classes.
    flips = config.augmentation.flip > 0 and not config.data.label_maps
    swap = side_pairs(labels) if flips else ()
    sources = find_sources(config, tuple(swap))
    workers = config.workers or max(1, int(available_cpus().amount) - 1)
    with (
        PatchLoader(config, workers, sources) as loader,
        TrainingLog(config, out, classes) as log,
    ):
        if mapping.empty:
            numbers = ', '.join(map(str, mapping.empty))
            log.say(f'warning: {mapping.name}: no code is mapped to label {numbers}')
        for note in sources.notes:
            log.say(note)
        write_text(out / CONFIG, config.to_toml())
        model = _train_stages(config, out, stop, build, loader, log)
    if model is None:
        return None
    if (out / BEST).exists():
        return read_network(out / BEST)[0], sources
    return trained_network(config.model, config.stages[-1], model), sources


def _train_stages(
    config: TrainConfig,
    out: Path,
    stop: StopCondition,
    build: Callable[[int], Any],
    loader: PatchLoader,
    log: TrainingLog,
) -> Any:
    """Train all stages; return the model of the last one, or None if the run was stopped."""
    first, step, path = newest_state(out / CHECKPOINTS, log.say)
    log.resume(_global_step(config, first, step))
    validator = None
    if config.validation.every:
        scans = [ValidationScan(*scan) for scan in loader.scans()]
        validator = Validator(scans, log.names)
    previous = None
    for number in range(first, len(config.stages)):
        model = build(number)
        if number == first and path is not None:
            load_state(path, model)
        elif previous is not None:
            inherit_weights(previous, model)
        elif config.init.model:
            whole = whole_network(model)
            for warning in compatibility_warnings(whole, config.init, config.data):
                log.say(f'warning: {warning}')
            log.say(_load_pretrained(config, whole))
        begin = step if number == first else 0
        progress = Progress(config, number, begin, _global_step(config, number, 0))
        complete = begin >= progress.stage.steps
        # An earlier call may also have ended the stage for lack of improvement.
        if not complete and not progress.patience(log.validations.means).over:
            trainer = StageTrainer(progress, out, loader, log, stop, validator)
            trainer.fit(model)
            last = number == len(config.stages) - 1
            if stop.met and not (last and trainer.ended):
                return None
        apply_average(model)
        if config.optimizer.ema:
            count = min(progress.stage.steps, -(-_STATISTICS // progress.stage.batch))
            batches = itertools.islice(loader.batches(number), count)
            recompute_statistics(model, (inputs for inputs, _ in batches))
        previous = model
    return previous


def check_folder(config: TrainConfig, out: Path) -> None:
    """Check that a folder is new or of the same run, and that the model overwrites no file of it.

    Raises
    ------
    SettingsError
        If it holds a run with another config, or the model has the name of one of its files.
    """
    if config.card.name in (CONFIG, CHECKPOINTS, BEST, EVENTS, LOG, PICTURES, VALIDATION, REPORT):
        raise SettingsError(
            f'card.name in the training config: {config.card.name} is the name of a file or '
            'folder of the run; choose another'
        )
    path = out / CONFIG
    if path.exists() and list_states(out / CHECKPOINTS) and read_training_config(path) != config:
        raise SettingsError(
            f'{out}: holds a run with another config ({path}); choose another --out, or remove it'
        )


def stage_builder(config: TrainConfig, classes: int) -> Callable[[int], Any]:
    """Return a function that builds and compiles the network of a stage.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    classes : int
        Number of classes.

    Returns
    -------
    callable
        Takes the index of a stage, from 0, and returns its compiled `keras.Model`.

    Raises
    ------
    SettingsError
        If the network of any stage cannot be built, or the card does not have one label for
        each class, or the pretrained model does not fit.
    """
    channels = len(config.data.channels)
    init = config.init

    def build(number: int) -> Any:
        stage = config.stages[number]
        model = build_stage(config.model, stage, classes, channels)
        reuse = None
        if init.freeze and init.model:
            # Matched without stride, which also changes dilations.
            whole = build_stage(config.model, replace(stage, stride=1), classes, channels)
            reuse = find_reuse(network_of(whole), init)
        # Before it is compiled, when Keras collects the trainable weights.
        freeze(model, init.freeze, reuse)
        if stage.subvoxels:
            model = with_subvoxels(model, stage.subvoxels)
        average_statistics(model, config.optimizer.ema)
        loss = config.loss if stage.weighted else replace(config.loss, class_weights=())
        model.compile(
            build_optimizer(config.optimizer, stage.learning_rate, stage.steps),
            build_loss(loss, classes),
            metrics=[ClassDice(classes)],
        )
        return model

    # Errors in later stages must not show only after hours.
    if config.card.labels and len(config.card.labels) != classes:
        raise SettingsError(
            f'card.labels has {len(config.card.labels)} entries; the table '
            f'{config.data.mapping} makes {classes} classes'
        )
    models = [build(number) for number in range(len(config.stages))]
    if init.model:
        _load_pretrained(config, whole_network(models[0]))
    return build


def _load_pretrained(config: TrainConfig, model: Any) -> str:
    """Initialise a stage's model with pretrained weights; return a table of its layers."""
    stage = config.stages[0]
    if stage.stride == 1:
        return transfer_table(load_pretrained(model, config.init))
    # The same network without stride, whose dilations are those of the pretrained model.
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
    rows = load_pretrained(whole, config.init)
    for layer in whole.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    return transfer_table(rows)


def _global_step(config: TrainConfig, number: int, step: int) -> int:
    return sum(stage.steps for stage in config.stages[:number]) + step
