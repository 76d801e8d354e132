"""What a run learns from: label maps that images are made of, or scans with their labels."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...image.conform import conformed_grid
from ...image.headers import SUFFIXES, stem
from ...image.io import load_labels
from ...image.lookup import lookup
from ...models.mapping import LabelMapping, read_mapping
from ...system.errors import DatasetError, SettingsError
from ..augment.synthesis import synthesise, t1_prior
from ..augment.transforms import augment
from ..config import TrainConfig
from ..options import Data, Stage
from .cache import codes_on_grid, load_example, open_cache
from .label_maps import Atlas, prepare
from .splits import Example, find_examples, split

Item = Path | Example


@dataclass(frozen=True)
class Sources:
    """The volumes of a run.

    Parameters
    ----------
    training, held_out : tuple of Path or Example
        Label maps, or scans with their labels.
    cache : Path or None
        Folder of conformed volumes.
    notes : tuple of str
        What a user should know, one line each: scans left out, a cache that cannot be written.
    swap : tuple of (int, int)
        Classes that change places when a scan is mirrored.
    """

    training: tuple[Item, ...]
    held_out: tuple[Item, ...]
    cache: Path | None = None
    notes: tuple[str, ...] = ()
    swap: tuple[tuple[int, int], ...] = ()


def find_sources(config: TrainConfig, swap: tuple[tuple[int, int], ...] = ()) -> Sources:
    """Find the volumes of a run.

    Parameters
    ----------
    config : TrainConfig
        Says where they lie.
    swap : tuple of (int, int)
        As `Sources` keeps them.

    Returns
    -------
    Sources

    Raises
    ------
    DatasetError, SettingsError
        Where there are none, or what is held out is not there.
    """
    data = config.data
    if data.label_maps:
        training, held_out = label_map_files(data)
        return Sources(tuple(training), tuple(held_out), swap=swap)
    notes: list[str] = []
    examples = find_examples(data, notes)
    learnt, kept = split(examples, data)
    if not learnt:
        raise DatasetError(
            'data: no scan is left to train on; hold fewer subjects out, or give more scans'
        )
    cache, warning = open_cache(data)
    if warning:
        notes.append(warning)
    return Sources(tuple(learnt), tuple(kept), cache, tuple(notes), swap)


def label_map_files(data: Data) -> tuple[list[Path], list[Path]]:
    """Return the label maps to train on and those held out, sorted.

    Parameters
    ----------
    data : Data
        Names the folder and what is held out.

    Returns
    -------
    training, held_out : list of Path

    Raises
    ------
    DatasetError
        For a folder that is missing, empty or all held out, or a held-out map that is missing.
    """
    if data.folds:
        raise SettingsError('data.folds: label maps are held out by name; set data.hold_out')
    folder = Path(data.label_maps).expanduser()
    try:
        found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    except OSError as error:
        raise DatasetError(
            f'{folder}: label maps cannot be read ({error.strerror}); set data.label_maps'
        ) from error
    names = {stem(path): path for path in found}
    missing = [name for name in data.hold_out if name not in names]
    if missing:
        raise DatasetError(f'{folder}: has no {", ".join(missing)}, named in data.hold_out')
    held_out = [names[name] for name in data.hold_out]
    training = [path for path in found if path not in held_out]
    if not training:
        raise DatasetError(
            f'{folder}: no label maps to train on; expected files that end in '
            f'{", ".join(SUFFIXES)} and are not held out'
        )
    return training, held_out


def load_label_map(path: Path, mapping: LabelMapping) -> np.ndarray:
    """Read a label map and bring it to the conformed grid by nearest neighbours.

    Parameters
    ----------
    path : Path
        The file.
    mapping : LabelMapping
        Must know each of its codes.

    Returns
    -------
    (W, W, W) uint16
        LIA, 1 mm.

    Raises
    ------
    InputError, ModelError
        As `load_labels` and `LabelMapping.check` do.
    """
    labels, geometry = load_labels(path)
    mapping.check(labels, path)
    target, _ = conformed_grid(geometry)
    return codes_on_grid(labels, geometry, target)


def item_name(item: Item) -> str:
    """Return what messages and tables call a volume."""
    return item.name if isinstance(item, Example) else stem(item)


def item_files(item: Item) -> str:
    """Return the files of a volume, for messages."""
    if isinstance(item, Example):
        return ', '.join(map(str, (*item.images, item.labels)))
    return str(item)


def check_item(item: Item, data: Data, cache: Path | None) -> None:
    """Read a volume once, so that what is wrong with it is told before training begins.

    Raises
    ------
    InputError, ModelError, SettingsError
        As `load_example` and `load_label_map` do.
    """
    if isinstance(item, Example):
        _example(item, data, cache)
    else:
        load_atlas(item, data.mapping)


def draw_volume(
    item: Item,
    config: TrainConfig,
    stage: Stage,
    sources: Sources,
    rng: np.random.Generator,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Make a volume: an image from a label map, or a scan, changed at random when it trains.

    Parameters
    ----------
    item : Path or Example
        From what.
    config : TrainConfig
        The run.
    stage : Stage
        Its stage.
    sources : Sources
        Where conformed scans lie, and which classes are sided.
    rng : numpy.random.Generator
        Decides everything.
    training : bool
        Scans that validate stay as they are.

    Returns
    -------
    images : (W, W, W, C) uint8
        As the conform step gives them.
    labels : (W, W, W) uint8
        Classes.
    """
    table = _mapping(config.data.mapping).table
    if isinstance(item, Example):
        images, codes = _example(item, config.data, sources.cache)
        labels = lookup(table, codes)
        if training:
            changed, labels = augment(images, labels, rng, config.augmentation, swap=sources.swap)
            # In use a network is given whole numbers, too.
            images = np.rint(changed).astype(np.uint8)
        return images, labels
    codes = load_label_map(item, _mapping(config.data.mapping))
    image, moved = synthesise(codes, rng, config.options(stage), prior=t1_prior())
    return image[..., None], lookup(table, moved)


# Each worker reads each map once; 20 maps are 0.2 GB. Scans lie in files that are mapped.
@lru_cache(maxsize=32)
def load_atlas(path: Path, mapping: str) -> Atlas:
    """Read a label map and prepare it, once in each process.

    Parameters
    ----------
    path : Path
        The file.
    mapping : str
        Name or path of the table of codes.

    Returns
    -------
    Atlas

    Raises
    ------
    InputError, ModelError
        As `load_label_map` and `brainchop_bids.training.data.label_maps.prepare` do.
    """
    table = _mapping(mapping)
    return prepare(load_label_map(path, table), table)


@lru_cache(maxsize=32)
def _example(example: Example, data: Data, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    return load_example(example, data, _mapping(data.mapping), cache)


@lru_cache(maxsize=4)
def _mapping(name: str) -> LabelMapping:
    return read_mapping(name)
