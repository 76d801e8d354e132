"""Segmentation of one scan: conforming, network, clean-up, and resampling to its own grid."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..image.background import without_empty
from ..image.border import move_border
from ..image.channels import conform_channels
from ..image.conform import Conformed
from ..image.io import Volume
from ..image.lookup import recode
from ..image.resample import labels_to_grid
from ..image.smooth import smooth_labels
from ..image.volumes import label_volumes
from ..models.brain_measures import INTRACRANIAL, brain_measures
from ..models.spec import ModelSpec
from ..system.atomic import Staged, writing
from ..system.errors import DeviceMemoryError, ModelError
from ..system.resources import available_memory, peak_mb
from .clock import Stopwatch
from .confidence import confidence_by_label
from .localise.localisation import Localisation, find_localiser, load_localiser, localise_scan
from .options import InferenceOptions
from .outputs import Outputs, Posterior, Segmented
from .plan import Engines, plan_scan
from .run import run_network
from .scan_settings import ScanOptions, ScanSettings
from .stages import Cleaned, clean_up, read_scan, remove_from_void

Review = Callable[
    [
        Volume,
        np.ndarray,
        np.ndarray | None,
        ModelSpec,
        float,
        Localisation | None,
        dict[str, float],
    ],
    dict[str, Any],
]


def segment_scan(
    settings: ScanSettings,
    spec: ModelSpec,
    clock: Stopwatch | None = None,
    review: Review | None = None,
    engines: Engines | None = None,
    draw: Callable[[Segmented, Path], object] | None = None,
) -> dict[str, Any]:
    """Segment one scan and write the outputs in the settings.

    Parameters
    ----------
    settings : ScanSettings
        Settings of the scan.
    spec : ModelSpec
        The model.
    clock, review, engines
        As for `segment_volumes`.
    draw : callable, optional
        Writes the picture of the settings to the path that it is given.

    Returns
    -------
    dict
        Facts about the run, ready for JSON: ``engine``, ``normalization``, ``model``,
        ``seconds``, ``peak_mb``, ``brain_measures`` (see
        `brainchop_bids.models.brain_measures`), ``components`` (the rule, and the numbers of
        components and voxels removed), ``smoothing`` and ``mask`` (the rules), ``confidence``
        (see `brainchop_bids.inference.confidence.confidence_by_label`), ``warnings``;
        also ``border_mm`` if the mask was grown or shrunk, ``localisation`` if the brain was
        sought first (see `Localisation.to_dict`), and ``intracranial_mm3`` if the model labels
        the fluid around the brain and the labels were cleaned up.

    Raises
    ------
    BrainchopError
        If scan, model or settings are invalid, memory runs out, or an output cannot be written;
        nothing is written then.
    """
    clock = clock or Stopwatch()
    _check_files(settings, spec)

    def read() -> list[Volume]:
        load = partial(read_scan, options=settings.conform, memory=settings.memory)
        return [load(settings.t1w, settings.frame), *map(load, settings.channels)]

    with Staged() as staged:
        outputs = Outputs(settings, spec, staged)
        found = segment_volumes(read, settings, spec, clock, review, engines, outputs)
        with clock.stage('write'):
            outputs.write(found)
            if settings.preview is not None and draw is not None:
                with writing(settings.preview):
                    draw(found, staged.path(settings.preview))
        facts = {**found.facts, 'seconds': clock.total(), 'peak_mb': round(peak_mb(), 1)}
        if settings.stats is not None:
            with writing(settings.stats):
                staged.path(settings.stats).write_text(
                    json.dumps(facts, indent=2) + '\n', encoding='utf-8', newline='\n'
                )
    return facts


def segment_volumes(
    read: Callable[[], Sequence[Volume]],
    options: ScanOptions,
    spec: ModelSpec,
    clock: Stopwatch | None = None,
    review: Review | None = None,
    engines: Engines | None = None,
    outputs: Outputs | None = None,
) -> Segmented:
    """Segment one scan.

    Parameters
    ----------
    read : callable
        Returns the scan and the other channels of the model.
    options : ScanOptions
        Options of the scan.
    spec : ModelSpec
        The model.
    clock : Stopwatch, optional
        Measures the stages.
    review : callable, optional
        Takes the scan, the model's labels and the brain mask in the scan's grid, the model, the
        volume that was removed with components, mm^3, where the brain was found, and the
        confidence of labels by name; what it returns is added to the facts.
    engines : Engines, optional
        Engines that are kept for further scans.
    outputs : Outputs, optional
        Get the maps of probabilities that the network computes; by default there are none, and
        nothing is kept on the disk.

    Returns
    -------
    Segmented

    Raises
    ------
    BrainchopError
        If scan, model or options are invalid, or memory runs out.
    """
    clock = clock or Stopwatch()
    # Options that the model does not support are reported before anything is read.
    spec.labels.subset(options.roi_subset)
    localiser = find_localiser(options.localiser, [spec])
    if localiser is not None:
        load_localiser(localiser, options.threads)
    with clock.stage('read'):
        volume, *others = read()
    located = None
    if localiser is not None:
        with clock.stage('localise'):
            located = localise_scan(
                volume, localiser, ct=options.conform.ct, threads=options.threads
            )
    with clock.stage('conform'):
        conformed, data = conform_channels(
            [volume, *others],
            options.conform,
            organ=located.region if located else None,
            threads=options.threads,
        )
    network = _Network(options, spec, volume, conformed, clock, engines or Engines(), outputs)
    with clock.stage('segment'):
        labels = network.label(data)
    with clock.stage('components'):
        labels = smooth_labels(labels, spec.smoothing, threads=options.threads)
        labels, notes = remove_from_void(labels, conformed.data)
        if located is not None:
            located = replace(located, moved_mm=conformed.moved_mm)
            labels, located = located.restrict(labels, conformed.geometry)
        masked = review is not None or (outputs is not None and outputs.masked)
        cleaned = _clean_up(options, spec, labels, conformed, masked=masked)
    final = cleaned
    with clock.stage('resample'):
        if options.space == 'native' or review is not None:
            final = _in_scan(options, cleaned, conformed, volume)
    reviewed: dict[str, Any] = {}
    if review is not None:
        with clock.stage('review'):
            removed = cleaned.removed.voxels * conformed.geometry.voxel_volume
            shown = final.labels, final.mask
            reviewed = review(volume, *shown, spec, removed, located, network.confidence)
    notes = [
        *conformed.warnings,
        *_warnings(options, spec, cleaned.labels),
        *network.warnings,
        *notes,
    ]
    facts = {
        **_facts(options, network.engine, cleaned),
        'plan': network.plan.description,
        'confidence': network.confidence,
        'warnings': notes,
        **({'localisation': located.to_dict()} if located else {}),
        **reviewed,
        'seconds': clock.total(),
        'peak_mb': round(peak_mb(), 1),
    }
    return _chosen(options, spec, volume, conformed, cleaned, final, facts)


def _chosen(
    options: ScanOptions,
    spec: ModelSpec,
    volume: Volume,
    conformed: Conformed,
    cleaned: Cleaned,
    in_scan: Cleaned,
    facts: dict[str, Any],
) -> Segmented:
    """Return images in the grid of the outputs, with the labels and the border of the options."""
    native = options.space == 'native'
    shown, grid = (in_scan, volume.geometry) if native else (cleaned, conformed.geometry)
    wanted = set(range(spec.classes))
    if options.roi_subset:
        wanted = {0, *spec.labels.subset(options.roi_subset)}
    values = spec.label_values(options.label_codes)
    kept = [value if index in wanted else 0 for index, value in enumerate(values)]
    labels, mask = shown.labels, shown.mask
    if kept != list(range(len(kept))):
        labels = recode(labels, kept)
    if mask is not None:
        mask = move_border(mask, grid.zooms, options.border)
    names = {values[index]: label for index, label in enumerate(spec.labels) if index in wanted}
    facts['brain_measures'] = brain_measures(
        {label: volume for label, (_, volume) in label_volumes(labels, grid.voxel_volume).items()},
        {value: label.name for value, label in names.items()},
        {value: label.freesurfer for value, label in names.items() if label.freesurfer},
        fluid=spec.intracranial,
    )
    if cleaned.intracranial_mm3 is not None:
        facts['brain_measures'][INTRACRANIAL] = cleaned.intracranial_mm3
    return Segmented(volume, conformed, shown, labels, mask, names, cleaned, facts)


def _check_files(settings: ScanSettings, spec: ModelSpec) -> None:
    """Check that the model can make what is to be written of the files that are given."""
    if not spec.covers_brain and (settings.mask or settings.brain):
        raise ModelError(
            f'{spec.folder}: its labels cover no whole brain; leave out --mask and --brain'
        )
    check_channels(spec, 1 + len(settings.channels))
    known = [derived.name for derived in spec.derived]
    for name, _ in settings.derived:
        if name not in known:
            raise ModelError(
                f'{spec.folder}: no {name!r} follows from its labels; --derived can be: '
                f'{", ".join(known) or "none"}'
            )


def check_channels(spec: ModelSpec, given: int) -> None:
    """Check that a model takes as many scans of a head as are given.

    Raises
    ------
    ModelError
        If it does not.
    """
    if given != spec.in_channels:
        raise ModelError(
            f'{spec.folder}: takes {spec.in_channels} scans ({", ".join(spec.inputs)}); given are '
            f'{given}: name the others with --channel'
        )


def _facts(options: ScanOptions, engine: Any, cleaned: Cleaned) -> dict[str, Any]:
    facts = {
        'version': __version__,
        'engine': engine.versions,
        'device': engine.device,
        'normalization': str(engine.normalization),
        'model': {'name': engine.spec.name, 'sha256': engine.spec.sha256},
        'components': {
            'rule': options.components or engine.spec.cleanup,
            'removed_components': cleaned.removed.components,
            'removed_voxels': cleaned.removed.voxels,
        },
        'smoothing': engine.spec.smoothing.to_dict(),
        'mask': engine.spec.mask_rule.to_dict(),
    }
    if options.border:
        facts['border_mm'] = options.border
    if options.roi_subset:
        facts['roi_subset'] = list(options.roi_subset)
    if cleaned.intracranial_mm3 is not None:
        facts['intracranial_mm3'] = cleaned.intracranial_mm3
    return facts


def _warnings(options: ScanOptions, spec: ModelSpec, labels: np.ndarray) -> list[str]:
    """Return the model's warnings, except one that an option settles, and that of no labels."""
    settled = '--normalization' if options.normalization else '\0'
    warnings = [warning for warning in spec.warnings if settled not in warning]
    if not labels.any():
        warnings.append('no voxel was labelled; is it a T1w of a whole head?')
    return warnings


class _Network:
    """The network of a scan, its plan and its engine; falls back to the CPU if a GPU is full."""

    def __init__(
        self,
        options: ScanOptions,
        spec: ModelSpec,
        volume: Volume,
        conformed: Conformed,
        clock: Stopwatch,
        engines: Engines,
        outputs: Outputs | None,
    ) -> None:
        self._options, self._spec, self._clock, self._engines = options, spec, clock, engines
        self._volume, self._conformed, self._outputs = volume, conformed, outputs
        self.warnings: list[str] = []
        self.confidence: dict[str, float] = {}
        with clock.stage('load'):
            self._load(options.inference)

    def _load(self, inference: InferenceOptions) -> None:
        options, spec, conformed = self._options, self._spec, self._conformed
        memory, zooms = options.memory or available_memory(), conformed.geometry.zooms
        self.plan = plan_scan(spec, conformed.data, zooms, memory, inference)
        self._clock.log(self.plan.description)
        self.engine = self._engines.make(self.plan, spec, options.threads, options.normalization)

    def label(self, data: np.ndarray) -> np.ndarray:
        """Return the labels in the conformed grid; write probabilities if they are asked for."""
        try:
            return self._label(data)
        except DeviceMemoryError as error:
            self.warnings.append(f'{error}; computed on the CPU instead')
            self._clock.log(self.warnings[-1])
            inference = self._options.inference
            self._load(replace(inference, device='cpu', engine='auto'))
            return self._label(data)

    def _label(self, data: np.ndarray) -> np.ndarray:
        confidences = np.zeros(data.shape[:3], np.uint8, order='F')
        labels = self._run(data, confidences)
        names = [label.name for label in self._spec.labels]
        self.confidence = confidence_by_label(labels, confidences, names)
        return labels

    def _run(self, data: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        if self._outputs is None:
            return run_network(self.engine, self.plan, data, confidences=confidences)
        out, staged = self._outputs.settings.out, self._outputs.staged
        posterior = Posterior(self._outputs, self._volume, self._conformed)
        with writing(out):
            labels = run_network(
                self.engine,
                self.plan,
                data,
                lambda: staged.scratch(out),
                confidences=confidences,
                probabilities=posterior.probabilities,
                **posterior.maps,
            )
        posterior.write()
        return labels


def _clean_up(
    options: ScanOptions,
    spec: ModelSpec,
    labels: np.ndarray,
    conformed: Conformed,
    *,
    masked: bool,
) -> Cleaned:
    return clean_up(
        labels,
        conformed.geometry.zooms,
        options.components or spec.cleanup,
        spec.mask_rule,
        mask=masked,
        # Workflows use the rule 'none' here, and clean up and measure in a later node.
        intracranial=spec.intracranial and options.components != 'none',
    )


def _in_scan(
    options: ScanOptions, cleaned: Cleaned, conformed: Conformed, volume: Volume
) -> Cleaned:
    """Return labels and mask in the grid of the scan."""

    def resampled(image: np.ndarray) -> np.ndarray:
        grids = conformed.geometry, volume.geometry
        return labels_to_grid(image, *grids, method=options.resample)

    return replace(
        cleaned,
        labels=without_empty(resampled(cleaned.labels), volume.data),
        mask=None if cleaned.mask is None else resampled(cleaned.mask),
    )
