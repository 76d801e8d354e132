"""Training and held-out data of a run: label maps to synthesise images from, or labelled scans."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...image.conform import conformed_grid
from ...image.headers import SUFFIXES, stem
from ...image.io import load_labels, read_volume, require_contrast
from ...image.lookup import lookup
from ...models.freesurfer import structure_of
from ...models.mapping import LabelMapping, read_mapping
from ...system.errors import DatasetError, InputError, SettingsError
from ..augment.scan_frames import OrganScan
from ..augment.synthesis import synthesise
from ..augment.tissues import t1_prior
from ..augment.transforms import augment
from ..config import TrainConfig
from ..options import DataOptions, Stage
from .alignment import SCAN_GRID, describe_misalignment, matching_grid
from .cache import codes_on_grid, load_example, open_cache
from .datasets import Example
from .label_maps import Atlas, build_atlas
from .splits import draw_held_out, find_examples, split

Item = Path | Example


@dataclass(frozen=True)
class Sources:
    """Training and held-out data of a run.

    Parameters
    ----------
    training, held_out : tuple of Path or Example
        Label maps or labelled scans.
    cache : Path or None
        Folder of cached conformed volumes.
    notes : tuple of str
        Messages for the user, one line each, such as skipped scans.
    swap : tuple of (int, int)
        Pairs of classes that are exchanged when a scan is flipped.
    """

    training: tuple[Item, ...]
    held_out: tuple[Item, ...]
    cache: Path | None = None
    notes: tuple[str, ...] = ()
    swap: tuple[tuple[int, int], ...] = ()


def find_sources(config: TrainConfig, swap: tuple[tuple[int, int], ...] = ()) -> Sources:
    """Find the training and held-out data of a run.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    swap : tuple of (int, int)
        See `Sources`.

    Returns
    -------
    Sources

    Raises
    ------
    DatasetError, SettingsError
        If there are none, or held-out ones are missing.
    """
    data = config.data
    if data.label_maps:
        maps, held_out_maps = label_map_files(data, config.seed)
        return Sources(tuple(maps), tuple(held_out_maps), swap=swap)
    notes: list[str] = []
    examples = find_examples(data, notes)
    training, held_out = split(examples, data, config.seed)
    if not training:
        raise DatasetError(
            'data: no scan is left to train on; hold fewer subjects out, or give more scans'
        )
    cache, warning = open_cache(data)
    if warning:
        notes.append(warning)
    return Sources(tuple(training), tuple(held_out), cache, tuple(notes), swap)


def label_map_files(data: DataOptions, seed: int = 0) -> tuple[list[Path], list[Path]]:
    """Return the training and held-out label maps, sorted.

    Parameters
    ----------
    data : DataOptions
        Folder, and names to hold out or the share to train on.
    seed : int
        Seed of the draw, with ``split``.

    Returns
    -------
    training, held_out : list of Path

    Raises
    ------
    DatasetError
        If the folder is missing, empty or entirely held out, or a held-out map is missing.
    """
    if data.folds:
        raise SettingsError('data.folds: label maps are held out by name; set data.hold_out')
    if data.hold_out and data.split:
        raise SettingsError('data.hold_out and data.split both say what is held out; keep one')
    folder = Path(data.label_maps).expanduser()
    try:
        files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    except OSError as error:
        raise DatasetError(
            f'{folder}: label maps cannot be read ({error.strerror}); set data.label_maps'
        ) from error
    names = {stem(path): path for path in files}
    missing = [name for name in data.hold_out if name not in names]
    if missing:
        raise DatasetError(f'{folder}: has no {", ".join(missing)}, named in data.hold_out')
    held: Iterable[str] = data.hold_out
    if data.split and names:
        held = sorted(draw_held_out(names, data.split, seed))
    held_out = [names[name] for name in held]
    training = [path for path in files if path not in held_out]
    if not training:
        raise DatasetError(
            f'{folder}: no label maps to train on; expected files that end in '
            f'{", ".join(SUFFIXES)} and are not held out'
        )
    return training, held_out


def load_label_map(path: Path, mapping: LabelMapping) -> np.ndarray:
    """Read a label map, resampled to the conformed grid by nearest neighbours.

    Parameters
    ----------
    path : Path
        The file.
    mapping : LabelMapping
        Table of codes, which must have all codes of the map.

    Returns
    -------
    (W, W, W) uint16
        LIA, 1 mm.

    Raises
    ------
    InputError, ModelError
        As `load_labels` and `LabelMapping.check`.
    """
    labels, geometry = load_labels(path)
    mapping.check(labels, path)
    labels = _whole_structures(mapping.with_sides(labels, path), mapping)
    target, _ = conformed_grid(geometry)
    return codes_on_grid(labels, geometry, target)


def item_name(item: Item) -> str:
    """Return the name of a volume for messages and tables."""
    return item.name if isinstance(item, Example) else stem(item)


def item_files(item: Item) -> str:
    """Return the files of a volume, for messages."""
    if isinstance(item, Example):
        return ', '.join(map(str, (*item.images, item.labels)))
    return str(item)


def check_item(item: Item, config: TrainConfig, cache: Path | None) -> None:
    """Read a volume once, so that errors show before training begins.

    Raises
    ------
    InputError, ModelError, SettingsError
        As `load_example`, `load_organ_scan` and `load_label_map`.
    """
    data = config.data
    if isinstance(item, Example) and config.localises:
        load_organ_scan(item, data.mapping)
    elif isinstance(item, Example):
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
    """Make a volume: an image synthesised from a label map, or a scan with augmentation.

    Parameters
    ----------
    item : Path or Example
        Label map or labelled scan.
    config : TrainConfig
        Config of the run.
    stage : Stage
        The stage.
    sources : Sources
        Cache of conformed scans, and pairs of classes to exchange in flips.
    rng : numpy.random.Generator
        Random generator.
    training : bool
        Whether scans are augmented; those for validation are not.

    Returns
    -------
    images : (W, W, W, C) uint8
        As from conforming, 0 to 255.
    labels : (W, W, W) uint8
        Classes.
    """
    table = _mapping(config.data.mapping).table
    if isinstance(item, Example):
        images, codes = _example(item, config.data, sources.cache)
        labels = lookup(table, codes)
        if training:
            changed, labels = augment(images, labels, rng, config.augmentation, swap=sources.swap)
            # Conformed scans are integers, too.
            images = np.rint(changed).astype(np.uint8)
        return images, labels
    codes = load_label_map(item, _mapping(config.data.mapping))
    image, moved = synthesise(codes, rng, config.options(stage), prior=t1_prior())
    return image[..., None], lookup(table, moved)


# Each worker reads each map once; 20 maps are 0.2 GB. Scans are memory maps.
@lru_cache(maxsize=32)
def load_atlas(path: Path, mapping: str) -> Atlas:
    """Read a label map as an atlas, once in each process.

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
        As `load_label_map` and `build_atlas`.
    """
    table = _mapping(mapping)
    return build_atlas(load_label_map(path, table), table)


@lru_cache(maxsize=32)
def load_organ_scan(example: Example, mapping: str) -> OrganScan:
    """Read a scan and the mask of an organ for frames, once in each process.

    Parameters
    ----------
    example : Example
        Its files; the first image is used.
    mapping : str
        Name or path of the table of codes, in which 0 is everything else.

    Returns
    -------
    OrganScan

    Raises
    ------
    InputError
        If a file cannot be read, the labels are not aligned with the scan, or the organ is not
        in them.
    ModelError
        If the table lacks a code.
    """
    table = _mapping(mapping)
    volume = read_volume(example.images[0])
    require_contrast(volume)
    codes, geometry = load_labels(example.labels)
    organ = table.apply(codes, example.labels) > 0
    if not organ.any():
        raise InputError(
            f'{example.labels}: every voxel is background by the table {mapping}; is it the mask '
            f'of {example.images[0]}?'
        )
    scan = volume.geometry
    if matching_grid(geometry, scan) != SCAN_GRID:
        raise InputError(
            f'{example.labels}: does not lie on {example.images[0]}: '
            f'{describe_misalignment(geometry, scan)}'
        )
    if geometry != scan:
        organ = codes_on_grid(organ, geometry, scan) > 0
    return OrganScan.of(volume.data, organ, scan)


@lru_cache(maxsize=32)
def _example(
    example: Example, data: DataOptions, cache: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    mapping = _mapping(data.mapping)
    images, codes = load_example(example, data, mapping, cache)
    return images, mapping.with_sides(codes, example.labels)


def _whole_structures(codes: np.ndarray, mapping: LabelMapping) -> np.ndarray:
    """Replace FreeSurfer's parcels by their structures, unless the table tells them apart.

    Images have intensities of structures, for which parcels would be outside the brain.
    """
    table = np.arange(int(codes.max(initial=0)) + 1).astype(codes.dtype)
    for code, index in mapping.indices.items():
        whole = structure_of(code)
        if code < len(table) and mapping.indices.get(whole) == index:
            table[code] = whole
    return lookup(table, codes)


@lru_cache(maxsize=4)
def _mapping(name: str) -> LabelMapping:
    return read_mapping(name)
