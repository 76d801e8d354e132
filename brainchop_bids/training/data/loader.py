"""A loader of training patches, which worker processes make in a reproducible order.

Volume number v of a stage depends on the seed, the stage and v alone. A run that is resumed at
any step therefore continues with the patches it would have seen.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from ...image.normalise import Normalization, normalise, normalise_channels
from ...system.errors import SettingsError
from ...system.processes import end_with_run, worker_context
from ..augment.frames import draw_frames
from ..augment.scan_frames import draw_scan_frames
from ..augment.tissues import t1_prior
from ..config import TrainConfig
from ..options import Stage
from .datasets import Example
from .patches import draw_patch
from .sampling import draw_box, subsample
from .sources import (
    Item,
    Sources,
    check_item,
    draw_volume,
    item_files,
    item_name,
    load_atlas,
    load_organ_scan,
)
from .subvoxels import draw_subvoxels, subvoxel_labels

# Scans whose patches are interleaved, since patches of one scan are too much alike.
_INTERLEAVED = 4
# Take the place of the stage in the seeds of other random numbers.
_VALIDATION = 1000
_SCANS = 2000
_SUBVOXELS = 3000

Pair = tuple[np.ndarray, np.ndarray]
# Input of the network, and labels of its output.
Batch = tuple[np.ndarray | tuple[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Job:
    """Task of a worker: one volume, or the patches cut from it."""

    item: Item
    seed: tuple[int, ...]
    config: TrainConfig
    stage: Stage
    sources: Sources
    training: bool = True


class PatchLoader:
    """Loads batches of patches; a context manager that owns worker processes.

    Parameters
    ----------
    config : TrainConfig
        Config of the run.
    workers : int
        Number of worker processes.
    sources : Sources
        Training and held-out data.

    Raises
    ------
    InputError, ModelError, SettingsError
        If a file cannot be read or has codes that the table lacks; all files are checked before
        training begins.
    """

    def __init__(self, config: TrainConfig, workers: int, sources: Sources) -> None:
        self.config, self.sources = config, sources
        self._pool = ProcessPoolExecutor(workers, worker_context(), initializer=_prepare_worker)
        self._workers = workers
        try:
            jobs = [
                self._pool.submit(check_item, item, config, sources.cache)
                for item in [*sources.training, *sources.held_out]
            ]
            for job in jobs:
                job.result()
        except BaseException:
            self._pool.shutdown(cancel_futures=True)
            raise

    def __enter__(self) -> 'PatchLoader':
        """Return the loader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the worker processes."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of a stage, endlessly.

        Parameters
        ----------
        number : int
            Index of the stage, from 0.
        first : int
            Step to begin with.

        Yields
        ------
        images : (batch, X, Y, Z, C) float32
            Normalised by whole volumes; (batch, 64, 64, 1) for localisers. If the stage has
            ``subvoxels``, a tuple of these and the indices of the subvoxels of this step,
            (batch, subvoxels) int32.
        labels : (batch, X / stride, Y / stride, Z / stride) int32
            Labels of the voxels that the network computes; with subvoxels,
            (batch, X / space_to_depth, ..., subvoxels).
        """
        stage, factor = self.config.stages[number], self.config.model.space_to_depth
        patches = self._patches(number, first * stage.batch)
        for step in itertools.count(first):
            pairs = [next(patches) for _ in range(stage.batch)]
            images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
            labels = labels.astype(np.int32)
            if stage.subvoxels:
                seed = (self.config.seed, _SUBVOXELS, number, step)
                subvoxels = draw_subvoxels(seed, stage.subvoxels, factor)
                yield (
                    (images, np.tile(subvoxels, (stage.batch, 1))),
                    subvoxel_labels(labels, subvoxels, factor),
                )
            else:
                yield images, labels

    def names(self, number: int, step: int) -> list[str]:
        """Return the files that the patches of a step, counted from 0, are made from."""
        stage = self.config.stages[number]
        files: dict[str, None] = {}
        volumes, each = self._interleaving(stage)
        for patch in range(step * stage.batch, (step + 1) * stage.batch):
            group, place = divmod(patch, volumes * each)
            files[item_files(self._item(number, group * volumes + place % volumes))] = None
        return list(files)

    def validation(self, number: int) -> list[Pair]:
        """Return held-out patches as batches of one, the same ones at every call."""
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
        """Return held-out whole volumes, the same ones at every call.

        Returns
        -------
        list of (name, (W, W, W, C) uint8, (W, W, W) uint8)
            Images before normalisation, and their labels.

        Raises
        ------
        SettingsError
            If nothing is held out.
        """
        items = self.sources.held_out
        if not items:
            raise SettingsError(
                'validation.every needs held-out volumes; set data.hold_out or data.folds'
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

    def _patches(self, number: int, first: int) -> Iterator[Pair]:
        stage = self.config.stages[number]
        volumes, each = self._interleaving(stage)
        group, skip = divmod(first, volumes * each)
        volume = group * volumes
        # Patches of two steps are prepared ahead, so that a slow one delays no step.
        ahead = max(volumes, -(-2 * stage.batch // each)) + self._workers + 1
        jobs: deque[Future[list[Pair]]] = deque()
        while True:
            while len(jobs) < ahead:
                jobs.append(self._volume(number, volume, stage))
                volume += 1
            pairs = [jobs.popleft().result() for _ in range(volumes)]
            patches = [pairs[i % volumes][i // volumes] for i in range(volumes * each)]
            yield from patches[skip:]
            skip = 0

    def _interleaving(self, stage: Stage) -> tuple[int, int]:
        """Return the number of volumes whose patches are interleaved, and patches of each."""
        if isinstance(self.sources.training[0], Example):
            return _INTERLEAVED, stage.cubes_per_volume
        if self.config.localises:
            return 1, stage.cubes_per_volume
        # Each patch from a label map is part of an image of its own.
        return 1, 1

    def _volume(self, number: int, volume: int, stage: Stage) -> 'Future[list[Pair]]':
        return self._submit(self._item(number, volume), (number, volume), stage)

    def _item(self, number: int, volume: int) -> Item:
        """Return the source of a volume: a new permutation of all sources in every epoch."""
        items = self.sources.training
        epoch, place = divmod(volume, len(items))
        order = np.random.default_rng([self.config.seed, number, epoch])
        return items[order.permutation(len(items))[place]]

    def _submit(
        self, item: Item, place: tuple[int, int], stage: Stage, *, training: bool = True
    ) -> 'Future[list[Pair]]':
        return self._pool.submit(make_patches, self._job(item, place, stage, training=training))

    def _job(
        self, item: Item, place: tuple[int, int], stage: Stage | None = None, *, training: bool
    ) -> Job:
        stage = stage or self.config.stages[-1]
        seed = (self.config.seed, *place)
        return Job(item, seed, self.config, stage, self.sources, training)


def make_patches(job: Job) -> list[Pair]:
    """Make one volume and cut patches from it; from a label map, make one patch.

    For localisers, patches are frames along one axis of a volume.

    Parameters
    ----------
    job : Job
        The task.

    Returns
    -------
    list of (images, labels)
        Images (X, Y, Z, C) float32 and labels uint8 of each patch.
    """
    config, stage = job.config, job.stage
    rng = np.random.default_rng(job.seed)
    # As in inference, statistics are those of the volume, not of the patch.
    rule = Normalization.parse(config.data.normalization)
    if config.localises:
        return _frames(job, rng, rule)
    if not isinstance(job.item, Example):
        image, classes = draw_patch(
            load_atlas(job.item, config.data.mapping),
            rng,
            config.options(stage),
            stage.shape,
            centred=stage.centred,
            rule=rule,
            prior=t1_prior(),
            labelled=stage.labelled,
        )
        return [(image[..., None], subsample(classes, stage.stride).copy())]
    images, labels = draw_volume(job.item, config, stage, job.sources, rng, training=job.training)
    scaled, inside = normalise_channels(images, rule), np.flatnonzero(labels)
    pairs = []
    for _ in range(stage.cubes_per_volume):
        box = draw_box(labels.shape, stage.shape, inside, rng, stage.centred, stage.labelled)
        pairs.append((scaled[box].copy(), subsample(labels[box], stage.stride).copy()))
    return pairs


def _frames(job: Job, rng: np.random.Generator, rule: Normalization) -> list[Pair]:
    options, count = job.config.options(job.stage), job.stage.cubes_per_volume
    mapping = job.config.data.mapping
    if isinstance(job.item, Example):
        scan = load_organ_scan(job.item, mapping)
        images, labels = draw_scan_frames(scan, rng, options, count, rule)
    else:
        atlas = load_atlas(job.item, mapping)
        images, labels = draw_frames(atlas, rng, options, count, prior=t1_prior())
        images = normalise(images, rule)
    return list(zip(images[..., None], labels, strict=True))


def make_volume(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Make one whole volume and its labels, see `PatchLoader.scans`."""
    rng = np.random.default_rng(job.seed)
    return draw_volume(job.item, job.config, job.stage, job.sources, rng, training=job.training)


def _prepare_worker() -> None:
    """Limit a worker to one thread, and let it end with the run even if that is killed."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    end_with_run()
