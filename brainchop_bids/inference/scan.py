"""One scan from file to labels: conform, network, components, the scan's own grid."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..image.channels import conform_channels
from ..image.conform import Conformed, ConformOptions
from ..image.head import head_box
from ..image.io import Volume, save_nifti
from ..image.lookup import recode
from ..image.normalise import Normalization
from ..image.resample import labels_to_grid
from ..image.smooth import smooth_labels
from ..models.spec import ModelSpec
from ..system.atomic import Staged, writing
from ..system.errors import DeviceMemoryError, ModelError, SettingsError
from ..system.resources import Granted, available_memory, peak_mb
from .memmap import create_array
from .options import InferenceOptions
from .plan import make_engine, make_plan
from .run import run_network
from .stages import (
    Cleaned,
    clean_up,
    probabilities_to_grid,
    read_scan,
    strip_skull,
    tabulate_volumes,
)


@dataclass(frozen=True)
class ScanSettings:
    """How one scan is segmented and what is written.

    Parameters
    ----------
    t1w, out : Path
        The scan, and the label image to write (``.nii`` or ``.nii.gz``).
    inference : InferenceOptions
        How the network is run.
    memory : Granted, optional
        What may be used; by default what this process is granted.
    channels : tuple of Path
        Other scans of the same head, placed by their headers, for networks that take several.
    space : {'native', 'conform'}
        Grid of everything that is written.
    components : str, optional
        Which connected components stay, see `Cleanup`; by default as the model has it.
    resample : {'linear', 'nearest'}
        How labels return to the scan's grid.
    label_codes : {'model', 'freesurfer'}
        Values of labels, see `LabelTable.values`.
    derived : tuple of (str, Path)
        Names of segmentations that follow from the model's labels, and the images to write.
    mask, brain, probseg, volumes, stats : Path, optional
        Brain mask, scan without skull, class probabilities (4-D float32 ``.nii``), table of
        volumes and record of the run (JSON) to write.
    normalization : Normalization, optional
        Replaces the model's own.
    frame : int, optional
        Frame of a file with several.
    conform : ConformOptions
        How the scan is conformed.
    threads : int
        Threads.

    Raises
    ------
    SettingsError
        For options that no run could follow.
    """

    t1w: Path
    out: Path
    inference: InferenceOptions = field(default_factory=InferenceOptions)
    memory: Granted | None = None
    channels: tuple[Path, ...] = ()
    space: str = 'native'
    components: str | None = None
    resample: str = 'linear'
    label_codes: str = 'model'
    derived: tuple[tuple[str, Path], ...] = ()
    mask: Path | None = None
    brain: Path | None = None
    probseg: Path | None = None
    volumes: Path | None = None
    stats: Path | None = None
    normalization: Normalization | None = None
    frame: int | None = None
    conform: ConformOptions = field(default_factory=ConformOptions)
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse outputs that would destroy one another or have no place to go."""
        given = (self.out, self.mask, self.brain, self.probseg, self.volumes, self.stats)
        derived = [path for _, path in self.derived]
        outputs = [path for path in (*given, *derived) if path is not None]
        for path in (self.out, self.mask, self.brain, *derived):
            if path is not None and not path.name.endswith(('.nii', '.nii.gz')):
                raise SettingsError(f'{path}: is no NIfTI name; end it with .nii or .nii.gz')
        if self.probseg is not None and self.probseg.suffix != '.nii':
            raise SettingsError(
                f'{self.probseg}: probabilities are written uncompressed; end the name with .nii'
            )
        for path in outputs:
            if not path.parent.is_dir():
                raise SettingsError(f'{path}: its folder does not exist; make it first')
            if path.is_dir():
                raise SettingsError(f'{path}: is a folder; give the name of a file')
        names = [path.resolve() for path in (self.t1w, *self.channels, *outputs)]
        if len(set(names)) < len(names):
            raise SettingsError(
                f'{self.t1w}: the scans and the outputs need different names; '
                f'given are {", ".join(map(str, outputs))}'
            )


class Stopwatch:
    """Wall time of named stages.

    Parameters
    ----------
    tell : callable, optional
        Is given a line when a stage begins and one when it ends.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.tell = tell or (lambda line: None)
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        start = time.perf_counter()
        self.tell(f'{name} ...')
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
        self.tell(f'{name} {self.seconds[name]:.1f} s')

    def total(self) -> dict[str, float]:
        """Return all stages and, as ``total``, the time since the beginning."""
        return {**self.seconds, 'total': round(time.perf_counter() - self._start, 3)}


def segment_scan(
    settings: ScanSettings, spec: ModelSpec, clock: Stopwatch | None = None
) -> dict[str, Any]:
    """Segment one scan and write what the settings ask for.

    Parameters
    ----------
    settings : ScanSettings
        What to do.
    spec : ModelSpec
        With which model.
    clock : Stopwatch, optional
        Measures the stages.

    Returns
    -------
    dict
        What happened, ready for JSON: ``engine``, ``normalization``, ``model``, ``seconds``,
        ``peak_mb``, ``components`` (rule, and how many components and voxels were removed),
        ``smoothing`` and ``mask`` (the rules), ``warnings``; ``intracranial_mm3`` where the model
        labels the fluid around the brain and the labels were cleaned up.

    Raises
    ------
    BrainchopError
        One of its children, for a scan, model or output at fault; nothing is written then.
    """
    clock = clock or Stopwatch()
    # Told before anything is read.
    _check(settings, spec)
    with clock.stage('read'):
        volume = read_scan(settings.t1w, settings.frame)
        others = [read_scan(path) for path in settings.channels]
    with clock.stage('conform'):
        conformed, data = conform_channels(
            [volume, *others], settings.conform, threads=settings.threads
        )
    with Staged() as staged:
        network = _Network(settings, spec, conformed, clock)
        with clock.stage('segment'):
            labels = network.label(data, volume, staged)
        with clock.stage('components'):
            labels = smooth_labels(labels, spec.smoothing, threads=settings.threads)
            cleaned = _clean_up(settings, spec, labels, conformed)
        with clock.stage('write'):
            _write(settings, spec, cleaned, conformed, volume, staged)
        stats = {
            **_facts(settings, network.engine, cleaned),
            'plan': network.plan.told,
            'warnings': [
                *network.warnings,
                *_warnings(settings, spec, conformed, cleaned.labels),
            ],
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
    """Refuse what the model does not have."""
    spec.label_values(settings.label_codes)
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
    if cleaned.intracranial_mm3 is not None:
        facts['intracranial_mm3'] = cleaned.intracranial_mm3
    return facts


def _warnings(
    settings: ScanSettings, spec: ModelSpec, conformed: Conformed, labels: np.ndarray
) -> list[str]:
    """Return all warnings, less those of the model that an option has settled."""
    settled = '--normalization' if settings.normalization else '\0'
    warnings = [warning for warning in spec.warnings if settled not in warning]
    warnings += conformed.warnings
    if not labels.any():
        warnings.append('no voxel was labelled; is it a T1w of a whole head?')
    return warnings


class _Network:
    """The network of a scan: its plan and its engine, and the CPU in place of a full GPU."""

    def __init__(
        self, settings: ScanSettings, spec: ModelSpec, conformed: Conformed, clock: Stopwatch
    ) -> None:
        self._settings, self._spec, self._conformed, self._clock = settings, spec, conformed, clock
        self.warnings: list[str] = []
        with clock.stage('load'):
            self._load(settings.inference)

    def _load(self, options: InferenceOptions) -> None:
        settings, conformed, box = self._settings, self._conformed, None
        if options.margin_mm is not None and options.subvolumes is None:
            margins = [math.ceil(options.margin_mm / zoom) for zoom in conformed.geometry.zooms]
            box = head_box(conformed.data, (margins[0], margins[1], margins[2]))
        memory = settings.memory or available_memory()
        self.plan = make_plan(self._spec, conformed.data.shape, memory, options, box=box)
        self._clock.tell(self.plan.told)
        self.engine = make_engine(self.plan, self._spec, settings.threads, settings.normalization)

    def label(self, data: np.ndarray, volume: Volume, staged: Staged) -> np.ndarray:
        """Return the labels in the conformed grid; write probabilities where they are wanted."""
        try:
            return self._label(data, volume, staged)
        except DeviceMemoryError as error:
            self.warnings.append(f'{error}; computed on the CPU instead')
            self._clock.tell(self.warnings[-1])
            self._load(replace(self._settings.inference, device='cpu', engine='auto'))
            return self._label(data, volume, staged)

    def _label(self, data: np.ndarray, volume: Volume, staged: Staged) -> np.ndarray:
        settings, conformed, classes = self._settings, self._conformed, self._spec.classes
        path = settings.probseg

        def scratch() -> Path:
            return staged.scratch(settings.out)

        if path is None:
            with writing(settings.out):
                return run_network(self.engine, self.plan, data, scratch)
        with writing(path):
            native = settings.space == 'native'
            final = _create_probseg(staged.path(path), settings, conformed, volume, classes)
            computed = final
            if native:
                computed = create_array(staged.scratch(path), (*conformed.data.shape, classes))
            labels = run_network(self.engine, self.plan, data, scratch, probabilities=computed)
            if native:
                resampled = probabilities_to_grid(computed, conformed.geometry, volume.geometry)
                for index, probability in enumerate(resampled):
                    final[..., index] = probability
        return labels


def _create_probseg(
    path: Path, settings: ScanSettings, conformed: Conformed, volume: Volume, classes: int
) -> np.ndarray:
    """Make a 4-D image of zeros on the disk and return its volumes."""
    import nibabel as nib

    shape = volume.data.shape if settings.space == 'native' else conformed.data.shape
    empty = np.zeros(shape, np.float32, order='F')
    save_nifti(path, empty, **_placed(settings, conformed))
    header = nib.Nifti1Image.from_filename(path).header.copy()
    header.set_data_shape((*shape, classes))
    offset = int(header['sizeof_hdr']) + 4
    header['vox_offset'] = offset
    volumes = create_array(path, (*shape, classes), offset)
    with path.open('r+b') as file:
        file.write(header.binaryblock)
    return volumes


def _placed(settings: ScanSettings, conformed: Conformed) -> dict[str, Any]:
    """Return what `save_nifti` needs to know about the grid."""
    if settings.space == 'native':
        return {'like': settings.t1w}
    return {'affine': conformed.affine}


def _clean_up(
    settings: ScanSettings, spec: ModelSpec, labels: np.ndarray, conformed: Conformed
) -> Cleaned:
    rule = settings.components or spec.cleanup
    return clean_up(
        labels,
        conformed.geometry.zooms,
        rule,
        spec.mask_rule,
        mask=settings.mask is not None or settings.brain is not None,
        # A workflow keeps all components here, and cleans up and measures later.
        intracranial=spec.intracranial and settings.components != 'none',
    )


def _write(
    settings: ScanSettings,
    spec: ModelSpec,
    cleaned: Cleaned,
    conformed: Conformed,
    volume: Volume,
    staged: Staged,
) -> None:
    labels, mask = cleaned.labels, cleaned.mask
    geometry, placed = conformed.geometry, _placed(settings, conformed)
    if settings.space == 'native':
        source, geometry = geometry, volume.geometry
        labels = labels_to_grid(labels, source, geometry, method=settings.resample)
        if mask is not None:
            mask = labels_to_grid(mask, source, geometry, method=settings.resample)
    tables = {derived.name: derived.values for derived in spec.derived}
    images = [(path, recode(labels, tables[name])) for name, path in settings.derived]
    values = spec.label_values(settings.label_codes)
    if settings.label_codes != 'model':
        labels = recode(labels, values)
    for path, image in (*images, (settings.out, labels), (settings.mask, mask)):
        if path is not None and image is not None:
            with writing(path):
                save_nifti(staged.path(path), image, labels=True, **placed)
    if settings.brain is not None and mask is not None:
        whole = volume.data if settings.space == 'native' else conformed.data
        with writing(settings.brain):
            save_nifti(staged.path(settings.brain), strip_skull(whole, mask), **placed)
    if settings.volumes is not None:
        with writing(settings.volumes):
            by_value = spec.labels_by_value(settings.label_codes)
            names = {value: label.name for value, label in by_value.items()}
            table, _ = tabulate_volumes(labels, geometry, names)
            staged.path(settings.volumes).write_text(table, 'utf-8')
