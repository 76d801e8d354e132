"""Segmentation of one scan: conforming, network, clean-up, and resampling to its own grid."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .. import __version__
from ..image.background import without_empty
from ..image.channels import conform_channels
from ..image.conform import Conformed
from ..image.io import Volume
from ..image.resample import labels_to_grid
from ..image.smooth import smooth_labels
from ..models.spec import ModelSpec
from ..system.atomic import Staged, writing
from ..system.errors import DeviceMemoryError, ModelError
from ..system.resources import available_memory, peak_mb
from .localise.localisation import Localisation, find_localiser, load_localiser, localise_scan
from .options import InferenceOptions
from .outputs import Outputs, Posterior
from .plan import Engines, plan_scan
from .run import run_network
from .scan_settings import ScanSettings
from .stages import (
    Cleaned,
    clean_up,
    read_scan,
    remove_from_void,
)

Review = Callable[
    [Volume, np.ndarray, np.ndarray | None, ModelSpec, float, Localisation | None], dict[str, Any]
]


class Stopwatch:
    """Wall time of named stages.

    Parameters
    ----------
    log : callable, optional
        Called with one line when a stage begins and one when it ends.
    """

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.log = log or (lambda line: None)
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time that the body of the ``with`` statement takes."""
        start = time.perf_counter()
        self.log(f'{name} ...')
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
        self.log(f'{name} {self.seconds[name]:.1f} s')

    def total(self) -> dict[str, float]:
        """Return the seconds of each stage and, as ``total``, those since the beginning."""
        return {**self.seconds, 'total': round(time.perf_counter() - self._start, 3)}


def segment_scan(
    settings: ScanSettings,
    spec: ModelSpec,
    clock: Stopwatch | None = None,
    review: Review | None = None,
    engines: Engines | None = None,
) -> dict[str, Any]:
    """Segment one scan and write the outputs in the settings.

    Parameters
    ----------
    settings : ScanSettings
        Settings of the scan.
    spec : ModelSpec
        The model.
    clock : Stopwatch, optional
        Measures the stages.
    review : callable, optional
        Takes the scan, the model's labels and the brain mask in the scan's grid, the model, the
        volume that was removed with components, mm^3, and where the brain was found; what it
        returns is added to the facts.
    engines : Engines, optional
        Engines that are kept for further scans.

    Returns
    -------
    dict
        Facts about the run, ready for JSON: ``engine``, ``normalization``, ``model``,
        ``seconds``, ``peak_mb``, ``components`` (the rule, and the numbers of components and
        voxels removed), ``smoothing`` and ``mask`` (the rules), ``warnings``; also ``border_mm``
        if the mask was grown or shrunk, ``localisation`` if the brain was sought first (see
        `Localisation.to_dict`), and ``intracranial_mm3`` if the model labels the fluid
        around the brain and the labels were cleaned up.

    Raises
    ------
    BrainchopError
        If scan, model or settings are invalid, memory runs out, or an output cannot be written;
        nothing is written then.
    """
    clock = clock or Stopwatch()
    # Options that the model does not support are reported before anything is read.
    _check(settings, spec)
    localiser = find_localiser(settings.localiser, [spec])
    if localiser is not None:
        load_localiser(localiser, settings.threads)
    with clock.stage('read'):
        read = partial(read_scan, options=settings.conform, memory=settings.memory)
        volume = read(settings.t1w, settings.frame)
        others = [read(path) for path in settings.channels]
    located = None
    if localiser is not None:
        with clock.stage('localise'):
            located = localise_scan(
                volume, localiser, ct=settings.conform.ct, threads=settings.threads
            )
    with clock.stage('conform'):
        conformed, data = conform_channels(
            [volume, *others],
            settings.conform,
            organ=located.region if located else None,
            threads=settings.threads,
        )
    with Staged() as staged:
        outputs = Outputs(settings, spec, volume, conformed, staged)
        network = _Network(outputs, clock, engines or Engines())
        with clock.stage('segment'):
            labels = network.label(data)
        with clock.stage('components'):
            labels = smooth_labels(labels, spec.smoothing, threads=settings.threads)
            labels, notes = remove_from_void(labels, conformed.data)
            if located is not None:
                located = replace(located, moved_mm=conformed.moved_mm)
                labels, located = located.restrict(labels, conformed.geometry)
            cleaned = _clean_up(settings, spec, labels, conformed, masked=review is not None)
        with clock.stage('write'):
            final = cleaned
            if outputs.native or review is not None:
                final = _in_scan(settings, cleaned, conformed, volume)
            outputs.write(final if outputs.native else cleaned)
        reviewed: dict[str, Any] = {}
        if review is not None:
            with clock.stage('review'):
                voxel = conformed.geometry.voxel_volume
                removed = cleaned.removed.voxels * voxel
                reviewed = review(volume, final.labels, final.mask, spec, removed, located)
        stats = {
            **_facts(settings, network.engine, cleaned),
            'plan': network.plan.description,
            'warnings': [
                *conformed.warnings,
                *_warnings(settings, spec, cleaned.labels),
                *network.warnings,
                *notes,
            ],
            **({'localisation': located.to_dict()} if located else {}),
            **reviewed,
            'seconds': clock.total(),
            'peak_mb': round(peak_mb(), 1),
        }
        if settings.stats is not None:
            with writing(settings.stats):
                staged.path(settings.stats).write_text(
                    json.dumps(stats, indent=2) + '\n', encoding='utf-8'
                )
    return stats


def _check(settings: ScanSettings, spec: ModelSpec) -> None:
    """Check that the model supports the settings."""
    if not spec.covers_brain and (settings.mask or settings.brain):
        raise ModelError(
            f'{spec.folder}: its labels cover no whole brain; leave out --mask and --brain'
        )
    if 1 + len(settings.channels) != spec.in_channels:
        raise ModelError(
            f'{spec.folder}: takes {spec.in_channels} scans ({", ".join(spec.inputs)}); given are '
            f'{1 + len(settings.channels)}: name the others with --channel'
        )
    known = [derived.name for derived in spec.derived]
    for name, _ in settings.derived:
        if name not in known:
            raise ModelError(
                f'{spec.folder}: no {name!r} follows from its labels; --derived can be: '
                f'{", ".join(known) or "none"}'
            )


def _facts(settings: ScanSettings, engine: Any, cleaned: Cleaned) -> dict[str, Any]:
    facts = {
        'version': __version__,
        'engine': engine.versions,
        'device': engine.device,
        'normalization': str(engine.normalization),
        'model': {'name': engine.spec.name, 'sha256': engine.spec.sha256},
        'components': {
            'rule': settings.components or engine.spec.cleanup,
            'removed_components': cleaned.removed.components,
            'removed_voxels': cleaned.removed.voxels,
        },
        'smoothing': engine.spec.smoothing.to_dict(),
        'mask': engine.spec.mask_rule.to_dict(),
    }
    if settings.border:
        facts['border_mm'] = settings.border
    if cleaned.intracranial_mm3 is not None:
        facts['intracranial_mm3'] = cleaned.intracranial_mm3
    return facts


def _warnings(settings: ScanSettings, spec: ModelSpec, labels: np.ndarray) -> list[str]:
    """Return the model's warnings, except one that an option settles, and that of no labels."""
    settled = '--normalization' if settings.normalization else '\0'
    warnings = [warning for warning in spec.warnings if settled not in warning]
    if not labels.any():
        warnings.append('no voxel was labelled; is it a T1w of a whole head?')
    return warnings


class _Network:
    """The network of a scan, its plan and its engine; falls back to the CPU if a GPU is full."""

    def __init__(self, outputs: Outputs, clock: Stopwatch, engines: Engines) -> None:
        self._outputs, self._clock, self._engines = outputs, clock, engines
        self.warnings: list[str] = []
        with clock.stage('load'):
            self._load(outputs.settings.inference)

    def _load(self, options: InferenceOptions) -> None:
        settings, spec, conformed = (
            self._outputs.settings,
            self._outputs.spec,
            self._outputs.conformed,
        )
        memory, zooms = settings.memory or available_memory(), conformed.geometry.zooms
        self.plan = plan_scan(spec, conformed.data, zooms, memory, options)
        self._clock.log(self.plan.description)
        self.engine = self._engines.make(self.plan, spec, settings.threads, settings.normalization)

    def label(self, data: np.ndarray) -> np.ndarray:
        """Return the labels in the conformed grid; write probabilities if they are asked for."""
        try:
            return self._label(data)
        except DeviceMemoryError as error:
            self.warnings.append(f'{error}; computed on the CPU instead')
            self._clock.log(self.warnings[-1])
            options = self._outputs.settings.inference
            self._load(replace(options, device='cpu', engine='auto'))
            return self._label(data)

    def _label(self, data: np.ndarray) -> np.ndarray:
        out, staged = self._outputs.settings.out, self._outputs.staged
        posterior = Posterior(self._outputs)
        with writing(out):
            labels = run_network(
                self.engine,
                self.plan,
                data,
                lambda: staged.scratch(out),
                probabilities=posterior.probabilities,
                **posterior.maps,
            )
        posterior.write()
        return labels


def _clean_up(
    settings: ScanSettings,
    spec: ModelSpec,
    labels: np.ndarray,
    conformed: Conformed,
    *,
    masked: bool,
) -> Cleaned:
    rule = settings.components or spec.cleanup
    return clean_up(
        labels,
        conformed.geometry.zooms,
        rule,
        spec.mask_rule,
        mask=settings.mask is not None or settings.brain is not None or masked,
        # Workflows use the rule 'none' here, and clean up and measure in a later node.
        intracranial=spec.intracranial and settings.components != 'none',
    )


def _in_scan(
    settings: ScanSettings, cleaned: Cleaned, conformed: Conformed, volume: Volume
) -> Cleaned:
    """Return labels and mask in the grid of the scan."""

    def resampled(image: np.ndarray) -> np.ndarray:
        grids = conformed.geometry, volume.geometry
        return labels_to_grid(image, *grids, method=settings.resample)

    return replace(
        cleaned,
        labels=without_empty(resampled(cleaned.labels), volume.data),
        mask=None if cleaned.mask is None else resampled(cleaned.mask),
    )
