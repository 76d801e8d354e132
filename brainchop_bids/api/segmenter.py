"""Segmentation of scan after scan with a network that stays loaded."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from ..image.io import Volume, nifti_image
from ..inference.clock import Stopwatch
from ..inference.confidence import mean_confidence
from ..inference.localise.localisation import Localisation
from ..inference.plan import Engines
from ..inference.scan import Segmented, check_channels, segment_scan, segment_volumes
from ..inference.scan_settings import ScanSettings
from ..inference.stages import tabulate_volumes
from ..models import DEFAULT_MODEL
from ..models.spec import ModelSpec, load_segmenter
from ..models.zoo import find_model
from ..quality.assess import LabelScheme, assess
from ..quality.confidence import confidence_flags
from ..quality.located import localisation_flags
from ..system.errors import BrainchopError, MemoryLimitError, ModelError, SettingsError
from ..system.processes import why_refused
from ..system.resources import forget_peak
from .given import Image, scan_of
from .options import Options, scan_options

if TYPE_CHECKING:
    import PIL.Image
    from typing_extensions import Unpack


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented scan.

    Parameters
    ----------
    labels : nibabel.Nifti1Image
        Labels in the scan's own grid, unsigned; their names and colours are in the header.
    mask : nibabel.Nifti1Image or None
        Brain mask, uint8; None if the labels do not cover a whole brain.
    volumes : list of dict
        ``index``, ``name``, ``voxels``, ``volume`` (mm^3) and ``confidence`` (None where there is
        none) of each label, background included.
    warnings : list of str
        One line for each irregularity of scan and model.
    flags : list of dict
        Reasons to look at the result: ``Name``, ``Reason``, and numbers with their limits.
    quality : dict of str to float
        Image quality by MRIQC's names, and ``confidence``, see
        `brainchop_bids.inference.confidence.mean_confidence`.
    facts : dict
        All facts about the run, as ``brainchop-segment --stats`` writes them: among others
        ``model``, ``seconds``, ``peak_mb``, ``brain_measures`` (volumes with FreeSurfer's names
        that the labels give, mm^3), and ``intracranial_mm3`` of models that measure it.
    """

    labels: nib.Nifti1Image
    mask: nib.Nifti1Image | None
    volumes: list[dict[str, Any]]
    warnings: list[str]
    flags: list[dict[str, Any]]
    quality: dict[str, float]
    facts: dict[str, Any]
    _draw: 'Callable[[], PIL.Image.Image]'

    def preview(self) -> 'PIL.Image.Image':
        """Draw cuts through the conformed scan with labels and the outline of the mask."""
        return self._draw()


@dataclass(frozen=True)
class Written:
    """What became of a scan whose results are files.

    Parameters
    ----------
    settings : ScanSettings
        Settings of the scan.
    facts : dict or None
        Facts that `segment_scan` returns; None if the scan failed.
    error : str
        The reason in one line if the scan failed.
    """

    settings: ScanSettings
    facts: dict[str, Any] | None = None
    error: str = ''


class Segmenter:
    """Segments scans with one model, which is loaded for the first scan and kept for the others.

    Memory for features is released after each scan, and that of the network by `close`, or at the
    end of a ``with`` statement.

    Parameters
    ----------
    model : str or path
        Name or folder of the model.
    **options
        See `Options`.

    Raises
    ------
    BrainchopError
        If the model is missing or damaged, or an option is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> import brainchop_bids as bc
    >>> x, y, z = np.mgrid[-1:1:48j, -1:1:48j, -1:1:48j]
    >>> head = 300.0 * (x**2 + y**2 + z**2 < 0.9) + 400 * (x**2 + y**2 + z**2 < 0.5)
    >>> with bc.Segmenter(voxel_size=4) as segmenter:
    ...     results = [segmenter.segment(head + n, np.diag([4, 4, 4, 1])) for n in range(2)]
    >>> [result.labels.shape for result in results]
    [(48, 48, 48), (48, 48, 48)]
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, **options: 'Unpack[Options]') -> None:
        self.options = scan_options(options)
        self.spec: ModelSpec = load_segmenter(find_model(model, options.get('models_dir')))
        # Said before a scan is read.
        self.spec.labels.subset(self.options.roi_subset)
        self._engines: Engines | None = Engines()

    def __enter__(self) -> 'Segmenter':
        """Return the segmenter."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Release the network; nothing can be segmented afterwards."""
        self._engines = None

    def segment(
        self, image: Image, affine: np.ndarray | None = None, *, channels: Sequence[Image] = ()
    ) -> Segmentation:
        """Segment one scan.

        Parameters
        ----------
        image : path, nibabel image or array
            The scan: a file (NIfTI, MGH/MGZ, Analyze) or a DICOM series; an image of nibabel; or
            voxels, (X, Y, Z) or (X, Y, Z, frames).
        affine : (4, 4) array, optional
            Voxel index to RAS+ mm, if voxels are given.
        channels : sequence of paths and images
            Other scans of the same head, for models that take several.

        Returns
        -------
        Segmentation

        Raises
        ------
        BrainchopError
            If the scan cannot be read or segmented, or memory runs out.
        """
        options, engines = self.options, self._loaded()
        check_channels(self.spec, 1 + len(channels))

        def read() -> list[Volume]:
            load = partial(scan_of, options=options.conform, memory=options.memory)
            return [load(image, affine, options.frame), *map(load, channels)]

        name = str(image) if isinstance(image, (str, Path)) else 'the image'
        forget_peak()
        with _one_line(name):
            found = segment_volumes(read, options, self.spec, None, _review, engines)
        return self._result(found)

    def write(
        self, scans: Iterable[ScanSettings], log: Callable[[str], None] | None = None
    ) -> Iterator[Written]:
        """Segment several scans into files; one that fails does not stop the others.

        Parameters
        ----------
        scans : iterable of ScanSettings
            Settings of the scans.
        log : callable, optional
            Called with one line when a stage of a scan begins or ends.

        Yields
        ------
        Written
            Facts of each scan, as soon as it is done or has failed.

        Raises
        ------
        ModelError, SettingsError
            If the model is damaged, or it or the machine does not support the settings.
        """
        for settings in scans:
            engines, clock = self._loaded(), Stopwatch(log)
            forget_peak()
            try:
                with _one_line(str(settings.t1w)):
                    facts = segment_scan(settings, self.spec, clock, _review, engines, _draw)
                result = Written(settings, facts)
            except (ModelError, SettingsError):
                raise
            except BrainchopError as error:
                result = Written(settings, error=str(error))
            except Exception as error:
                reason = f'{settings.t1w}: {type(error).__name__}: {error}'
                result = Written(settings, error=reason)
            yield result

    def _loaded(self) -> Engines:
        if self._engines is None:
            raise SettingsError('this Segmenter is closed; make another one')
        return self._engines

    def _result(self, found: Segmented) -> Segmentation:
        native = self.options.space == 'native'
        place: dict[str, Any] = (
            {'like': found.volume} if native else {'affine': found.conformed.affine}
        )
        names = {value: (label.name, label.color) for value, label in found.names.items()}
        grid = (found.volume if native else found.conformed).geometry
        titles = {value: name for value, (name, _) in names.items()}
        _, volumes = tabulate_volumes(found.labels, grid, titles)
        mask = found.mask if self.spec.covers_brain else None
        rows = []
        for value, name in sorted(titles.items()):
            voxels, volume = volumes.get(value, (0, 0.0))
            row = {'index': value, 'name': name, 'voxels': voxels, 'volume': volume}
            rows.append({**row, 'confidence': found.facts['confidence'].get(name)})
        return Segmentation(
            nifti_image(found.labels, labels=True, names=names, **place),
            None if mask is None else nifti_image(mask, labels=True, **place),
            rows,
            found.facts['warnings'],
            found.facts['flags'],
            found.facts['quality'],
            found.facts,
            _drawing(found),
        )


def segment(
    image: Image,
    affine: np.ndarray | None = None,
    model: str | Path = DEFAULT_MODEL,
    *,
    channels: Sequence[Image] = (),
    **options: 'Unpack[Options]',
) -> Segmentation:
    """Segment one scan; a `Segmenter` keeps the network loaded for several.

    Parameters
    ----------
    image, affine, channels
        As for `Segmenter.segment`.
    model, **options
        As for `Segmenter`.

    Returns
    -------
    Segmentation

    Raises
    ------
    BrainchopError
        As for `Segmenter` and `Segmenter.segment`.

    Examples
    --------
    >>> import numpy as np
    >>> import brainchop_bids as bc
    >>> x, y, z = np.mgrid[-1:1:48j, -1:1:48j, -1:1:48j]
    >>> head = 300.0 * (x**2 + y**2 + z**2 < 0.9) + 400 * (x**2 + y**2 + z**2 < 0.5)
    >>> result = bc.segment(head, np.diag([4, 4, 4, 1]), voxel_size=4)
    >>> result.labels.shape, result.labels.get_data_dtype(), result.mask.shape
    ((48, 48, 48), dtype('uint8'), (48, 48, 48))
    >>> [row['name'] for row in result.volumes]
    ['Background', 'Gray Matter', 'White Matter', 'Cerebrospinal Fluid']
    """
    with Segmenter(model, **options) as segmenter:
        return segmenter.segment(image, affine, channels=channels)


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what libraries raise where memory or processes run out into our errors."""
    try:
        yield
    except MemoryError as error:
        raise MemoryLimitError(f'{name}: memory ran out; grant more') from error
    except (RuntimeError, BlockingIOError) as error:
        reason = why_refused(str(error))
        if reason is None:
            raise
        raise MemoryLimitError(f'{name}: {reason}') from error


def _review(
    volume: Volume,
    labels: np.ndarray,
    mask: np.ndarray | None,
    spec: ModelSpec,
    removed_mm3: float,
    located: Localisation | None,
    confidence: dict[str, float],
) -> dict[str, Any]:
    """Return the flags that the App gives, and the measures of quality."""
    scheme = LabelScheme.of(spec.labels_by_value('model'), covers_brain=spec.covers_brain)
    assessment = assess(volume, labels, mask, scheme, removed_mm3=removed_mm3)
    mean = mean_confidence(confidence)
    flags = [
        *assessment.flags,
        *(localisation_flags(located) if located else ()),
        *confidence_flags(mean, spec.confidence),
    ]
    return {
        'flags': [flag.to_dict() for flag in flags],
        'quality': {**assessment.measures, **({} if mean is None else {'confidence': mean})},
    }


def _draw(found: Segmented, path: Path) -> None:
    _drawing(found)().save(path, 'PNG')


def _drawing(found: Segmented) -> 'Callable[[], PIL.Image.Image]':
    """Return a function that draws a scan; it keeps no more in memory than it needs."""
    cleaned, conformed = found.in_conformed, found.conformed
    colors = {label.index: label.color for label in found.names.values()}
    size = float(conformed.geometry.zooms[0])
    return partial(_picture, conformed.data, cleaned.labels, colors, cleaned.mask, size)


def _picture(
    image: np.ndarray,
    labels: np.ndarray,
    colors: dict[int, tuple[int, int, int]],
    mask: np.ndarray | None,
    size: float,
) -> 'PIL.Image.Image':
    from ..reports.figures.preview import draw_preview

    shown = np.where(np.isin(labels, list(colors)), labels, 0)
    return draw_preview(image, shown, colors, mask, size)
