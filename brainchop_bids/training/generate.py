"""Cubes to train on, made in processes of their own, the same ones whatever these do.

Image number v of a stage depends on the seed, the stage and v alone. A run that resumes at step
s therefore goes on with exactly the cubes it would have seen.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import DatasetError
from ..image.conform import conformed_grid
from ..image.headers import SUFFIXES, stem
from ..image.io import load_labels
from ..image.lookup import lookup
from ..image.normalise import Normalization, normalise
from ..image.resample import labels_to_grid
from ..models.mapping import LabelMapping, read_mapping
from .config import TrainConfig
from .options import Stage
from .sampling import computed, draw_box
from .synthesis import synthesise, t1_prior

# Volumes whose cubes are dealt in turn: neighbours of one scan are too much alike.
_DEALT = 4
# In place of a stage's number: what validates is drawn apart.
_VALIDATION = 1000

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Volume:
    """What a worker needs to know to make one image and cut it up."""

    path: Path
    seed: tuple[int, ...]
    config: TrainConfig
    stage: Stage


def label_map_files(config: TrainConfig) -> tuple[list[Path], list[Path]]:
    """Return the label maps to train on and those held out, sorted.

    Parameters
    ----------
    config : TrainConfig
        Names the folder and what is held out.

    Returns
    -------
    training, held_out : list of Path

    Raises
    ------
    DatasetError
        For a folder that is missing, empty or all held out, or a held-out map that is missing.
    """
    folder = Path(config.data.label_maps).expanduser()
    try:
        found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    except OSError as error:
        raise DatasetError(
            f'{folder}: label maps cannot be read ({error.strerror}); set data.label_maps'
        ) from error
    names = {stem(path): path for path in found}
    missing = [name for name in config.data.hold_out if name not in names]
    if missing:
        raise DatasetError(f'{folder}: has no {", ".join(missing)}, named in data.hold_out')
    held_out = [names[name] for name in config.data.hold_out]
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
    moved = labels_to_grid(labels.astype(np.uint16), geometry, target, method='nearest')
    return np.ascontiguousarray(moved)


class CubeSource:
    """Deals batches of cubes; a context manager, since it owns processes.

    Parameters
    ----------
    config : TrainConfig
        The run.
    workers : int
        Processes that make images.

    Raises
    ------
    DatasetError, InputError, ModelError
        Where the label maps are missing, unreadable or hold codes outside the table; all are
        looked at once, before training begins.
    """

    def __init__(self, config: TrainConfig, workers: int) -> None:
        self.config = config
        self.training, self.held_out = label_map_files(config)
        # Forking a process that runs a deep learning library's threads can deadlock.
        context = multiprocessing.get_context('spawn')
        self._pool = ProcessPoolExecutor(workers, context, initializer=_prepare_worker)
        self._ahead = workers + 1
        try:
            jobs = [
                self._pool.submit(_check, path, config.data.mapping)
                for path in [*self.training, *self.held_out]
            ]
            for job in jobs:
                job.result()
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise

    def __enter__(self) -> 'CubeSource':
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, number: int, first: int = 0) -> Iterator[Pair]:
        """Yield a stage's batches without end.

        Parameters
        ----------
        number : int
            The stage, from 0.
        first : int
            The step to begin with.

        Yields
        ------
        images : (batch, N, N, N, 1) float32
            Normalised as whole volumes.
        labels : (batch, M, M, M) int32
            Of the voxels the network computes; ``M`` is ``N / stride``.
        """
        stage = self.config.stages[number]
        cubes = self._cubes(number, first * stage.batch)
        while True:
            pairs = [next(cubes) for _ in range(stage.batch)]
            images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
            yield images[..., None], labels.astype(np.int32)

    def validation(self, number: int) -> list[Pair]:
        """Return single-cube batches of the held-out maps, the same ones at every call."""
        stage = self.config.stages[number]
        stage = replace(stage, cubes_per_volume=1, batch=1)
        files = self.held_out or self.training
        jobs = [
            self._submit(files[i % len(files)], (_VALIDATION, i), stage)
            for i in range(self.config.validation_cubes)
        ]
        pairs = [job.result()[0] for job in jobs]
        return [(image[None, ..., None], label[None].astype(np.int32)) for image, label in pairs]

    def _cubes(self, number: int, first: int) -> Iterator[Pair]:
        stage = self.config.stages[number]
        per_hand = _DEALT * stage.cubes_per_volume
        volume = first // per_hand * _DEALT
        skip = first % per_hand
        jobs: deque[Future[list[Pair]]] = deque()
        while True:
            while len(jobs) < _DEALT + self._ahead:
                jobs.append(self._volume(number, volume, stage))
                volume += 1
            hand = [jobs.popleft().result() for _ in range(_DEALT)]
            cubes = [hand[i % _DEALT][i // _DEALT] for i in range(per_hand)]
            yield from cubes[skip:]
            skip = 0

    def _volume(self, number: int, volume: int, stage: Stage) -> 'Future[list[Pair]]':
        # Every map once, in an order that differs from round to round.
        turn, place = divmod(volume, len(self.training))
        order = np.random.default_rng([self.config.seed, number, turn])
        path = self.training[order.permutation(len(self.training))[place]]
        return self._submit(path, (number, volume), stage)

    def _submit(self, path: Path, place: tuple[int, int], stage: Stage) -> 'Future[list[Pair]]':
        job = Volume(path, (self.config.seed, *place), self.config, stage)
        return self._pool.submit(make_cubes, job)


def make_cubes(job: Volume) -> list[Pair]:
    """Make one image and cut cubes from it.

    Parameters
    ----------
    job : Volume
        Which one.

    Returns
    -------
    list of (image, labels)
        Each image is (N, N, N) float32, its labels (M, M, M) uint8.
    """
    config, stage = job.config, job.stage
    rng = np.random.default_rng(job.seed)
    codes = _label_map(job.path, config.data.mapping)
    image, moved = synthesise(codes, rng, config.options(stage), prior=t1_prior())
    labels = lookup(_mapping(config.data.mapping).table, moved)
    # As in use: the volume's own numbers, never those of a cube.
    scaled = normalise(image, Normalization.parse(config.data.normalization))
    classes = _mapping(config.data.mapping).classes
    inside = np.flatnonzero((labels > 0) & (labels < classes - 1))
    pairs = []
    for _ in range(stage.cubes_per_volume):
        box = draw_box(labels.shape, stage.cube, inside, rng, stage.centred, stage.labelled)
        pairs.append((scaled[box].copy(), computed(labels[box], stage.stride).copy()))
    return pairs


def _prepare_worker() -> None:
    """Let a worker use one processor, and end with the run even if that is killed."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _check(path: Path, mapping: str) -> None:
    _label_map(path, mapping)


# Each worker reads each map once; 20 maps are 0.7 GB.
@lru_cache(maxsize=32)
def _label_map(path: Path, mapping: str) -> np.ndarray:
    return load_label_map(path, _mapping(mapping))


@lru_cache(maxsize=4)
def _mapping(name: str) -> LabelMapping:
    return read_mapping(name)
