"""Cubes to train on, made in processes of their own, the same ones whatever these do.

Image number v of a stage depends on the seed, the stage and v alone. A run that resumes at step
s therefore goes on with exactly the cubes it would have seen.
"""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from ...image.normalise import Normalization, normalise_channels
from ...system.errors import SettingsError
from ...system.processes import end_with_run, start_fork_server
from ..augment.tissues import t1_prior
from ..config import TrainConfig
from ..losses.subvoxels import draw_places, labels_at
from ..options import Stage
from .patches import draw_patch
from .sampling import computed, draw_box
from .sources import (
    Item,
    Sources,
    check_item,
    draw_volume,
    item_files,
    item_name,
    load_atlas,
)
from .splits import Example

# Volumes whose cubes are dealt in turn: neighbours of one scan are too much alike.
_DEALT = 4
# In place of a stage's number: what validates is drawn apart.
_VALIDATION = 1000
_SCANS = 2000
_PLACES = 3000

Pair = tuple[np.ndarray, np.ndarray]
# What a network is given, and the labels of what it computes.
Batch = tuple[np.ndarray | tuple[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to make one volume and cut it up."""

    item: Item
    seed: tuple[int, ...]
    config: TrainConfig
    stage: Stage
    sources: Sources
    training: bool = True


class CubeSource:
    """Deals batches of cubes; a context manager, since it owns processes.

    Parameters
    ----------
    config : TrainConfig
        The run.
    workers : int
        Processes that make images.
    sources : Sources
        From what.

    Raises
    ------
    InputError, ModelError, SettingsError
        Where a file is unreadable or holds codes outside the table; all are looked at once,
        before training begins.
    """

    def __init__(self, config: TrainConfig, workers: int, sources: Sources) -> None:
        self.config, self.sources = config, sources
        # Forking a process that runs a deep learning library's threads can deadlock; the fork
        # server runs none.
        context = multiprocessing.get_context('forkserver')
        start_fork_server()
        self._pool = ProcessPoolExecutor(workers, context, initializer=_prepare_worker)
        self._workers = workers
        try:
            jobs = [
                self._pool.submit(check_item, item, config.data, sources.cache)
                for item in [*sources.training, *sources.held_out]
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

    def batches(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield a stage's batches without end.

        Parameters
        ----------
        number : int
            The stage, from 0.
        first : int
            The step to begin with.

        Yields
        ------
        images : (batch, N, N, N, C) float32
            Normalised as whole volumes; where a stage has ``subvoxels``, with the numbers of
            those that this step computes, (batch, subvoxels) int32.
        labels : (batch, M, M, M) int32
            Of the voxels the network computes; ``M`` is ``N / stride``. With subvoxels they are
            the last of five axes.
        """
        stage, factor = self.config.stages[number], self.config.model.space_to_depth
        cubes = self._cubes(number, first * stage.batch)
        for step in itertools.count(first):
            pairs = [next(cubes) for _ in range(stage.batch)]
            images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
            labels = labels.astype(np.int32)
            if stage.subvoxels:
                seed = (self.config.seed, _PLACES, number, step)
                places = draw_places(seed, stage.subvoxels, factor)
                yield (
                    (images, np.tile(places, (stage.batch, 1))),
                    labels_at(labels, places, factor),
                )
            else:
                yield images, labels

    def names(self, number: int, step: int) -> list[str]:
        """Return the files that the cubes of a stage's step come from, counted from 0."""
        stage = self.config.stages[number]
        found: dict[str, None] = {}
        dealt, each = self._hand(stage)
        for cube in range(step * stage.batch, (step + 1) * stage.batch):
            hand, place = divmod(cube, dealt * each)
            found[item_files(self._item(number, hand * dealt + place % dealt))] = None
        return list(found)

    def validation(self, number: int) -> list[Pair]:
        """Return single-cube batches of what is held out, the same ones at every call."""
        stage = self.config.stages[number]
        stage = replace(stage, cubes_per_volume=1, batch=1)
        items = self.sources.held_out or self.sources.training
        jobs = [
            self._submit(items[i % len(items)], (_VALIDATION, i), stage, training=False)
            for i in range(self.config.validation_cubes)
        ]
        pairs = [job.result()[0] for job in jobs]
        return [(image[None], label[None].astype(np.int32)) for image, label in pairs]

    def scans(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return whole volumes of what is held out, the same ones at every call.

        Returns
        -------
        list of (name, (W, W, W, C) uint8, (W, W, W) uint8)
            Images before normalisation, and their classes.

        Raises
        ------
        SettingsError
            Where nothing is held out.
        """
        items = self.sources.held_out
        if not items:
            raise SettingsError(
                'validation.every needs volumes that do not train; set data.hold_out or data.folds'
            )
        count = self.config.validation.volumes or len(items)
        if isinstance(items[0], Example):
            count = min(count, len(items))
        jobs = [
            self._pool.submit(
                make_volume, self._job(items[i % len(items)], (_SCANS, i), training=False)
            )
            for i in range(count)
        ]
        names = [
            item_name(items[i % len(items)])
            + (f'_{i // len(items) + 1}' if i >= len(items) else '')
            for i in range(count)
        ]
        return [(name, *job.result()) for name, job in zip(names, jobs, strict=True)]

    def _cubes(self, number: int, first: int) -> Iterator[Pair]:
        stage = self.config.stages[number]
        dealt, each = self._hand(stage)
        volume, skip = divmod(first, dealt * each)
        volume *= dealt
        # Two steps' cubes are under way, so that none waits for a slow one.
        ahead = max(dealt, -(-2 * stage.batch // each)) + self._workers + 1
        jobs: deque[Future[list[Pair]]] = deque()
        while True:
            while len(jobs) < ahead:
                jobs.append(self._volume(number, volume, stage))
                volume += 1
            hand = [jobs.popleft().result() for _ in range(dealt)]
            cubes = [hand[i % dealt][i // dealt] for i in range(dealt * each)]
            yield from cubes[skip:]
            skip = 0

    def _hand(self, stage: Stage) -> tuple[int, int]:
        """Return how many volumes' cubes are dealt in turn, and how many each has."""
        if isinstance(self.sources.training[0], Example):
            return _DEALT, stage.cubes_per_volume
        # Of label maps, each cube is an image of its own.
        return 1, 1

    def _volume(self, number: int, volume: int, stage: Stage) -> 'Future[list[Pair]]':
        return self._submit(self._item(number, volume), (number, volume), stage)

    def _item(self, number: int, volume: int) -> Item:
        """Return what a volume is made from: each once, in an order that changes every round."""
        items = self.sources.training
        turn, place = divmod(volume, len(items))
        order = np.random.default_rng([self.config.seed, number, turn])
        return items[order.permutation(len(items))[place]]

    def _submit(
        self, item: Item, place: tuple[int, int], stage: Stage, *, training: bool = True
    ) -> 'Future[list[Pair]]':
        return self._pool.submit(make_cubes, self._job(item, place, stage, training=training))

    def _job(
        self, item: Item, place: tuple[int, int], stage: Stage | None = None, *, training: bool
    ) -> Job:
        stage = stage or self.config.stages[-1]
        seed = (self.config.seed, *place)
        return Job(item, seed, self.config, stage, self.sources, training)


def make_cubes(job: Job) -> list[Pair]:
    """Make one volume and cut cubes from it; of a label map, make one cube.

    Parameters
    ----------
    job : Job
        Which one.

    Returns
    -------
    list of (images, labels)
        Each of its images is (N, N, N, C) float32, its labels are (M, M, M) uint8.
    """
    config, stage = job.config, job.stage
    rng = np.random.default_rng(job.seed)
    # As in use: the volume's own numbers, never those of a cube.
    rule = Normalization.parse(config.data.normalization)
    if not isinstance(job.item, Example):
        image, classes = draw_patch(
            load_atlas(job.item, config.data.mapping),
            rng,
            config.options(stage),
            stage.cube,
            centred=stage.centred,
            rule=rule,
            prior=t1_prior(),
            labelled=stage.labelled,
        )
        return [(image[..., None], computed(classes, stage.stride).copy())]
    images, labels = draw_volume(job.item, config, stage, job.sources, rng, training=job.training)
    scaled, inside = normalise_channels(images, rule), np.flatnonzero(labels)
    pairs = []
    for _ in range(stage.cubes_per_volume):
        box = draw_box(labels.shape, stage.cube, inside, rng, stage.centred, stage.labelled)
        pairs.append((scaled[box].copy(), computed(labels[box], stage.stride).copy()))
    return pairs


def make_volume(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Make one whole volume and its labels, see `CubeSource.scans`."""
    rng = np.random.default_rng(job.seed)
    return draw_volume(job.item, job.config, job.stage, job.sources, rng, training=job.training)


def _prepare_worker() -> None:
    """Let a worker use one processor, and end with the run even if that is killed."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    end_with_run()
