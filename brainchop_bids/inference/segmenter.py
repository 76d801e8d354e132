"""Segmentation of scan after scan with a network that stays loaded."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..models.spec import ModelSpec
from ..system.errors import BrainchopError, ModelError, SettingsError
from ..system.processes import why_refused
from ..system.resources import forget_peak
from .plan import Engines
from .scan import Review, Stopwatch, segment_scan
from .scan_settings import ScanSettings


@dataclass(frozen=True)
class Result:
    """Result of one scan.

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

    Memory for features is released after each scan.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    review : callable, optional
        As for `segment_scan`.

    Examples
    --------
    >>> segmenter = Segmenter(load_spec('/models/mine'))  # doctest: +SKIP
    >>> for name in ('a', 'b'):  # doctest: +SKIP
    ...     segmenter.segment(ScanSettings(Path(f'{name}.nii'), Path(f'{name}_dseg.nii')))
    """

    def __init__(self, spec: ModelSpec, review: Review | None = None) -> None:
        self.spec = spec
        self._review = review
        self._engines = Engines()

    def segment(self, settings: ScanSettings, clock: Stopwatch | None = None) -> dict[str, Any]:
        """Segment one scan and write the outputs in the settings.

        Parameters
        ----------
        settings, clock
            As for `segment_scan`.

        Returns
        -------
        dict
            Facts as `segment_scan` returns them.

        Raises
        ------
        BrainchopError
            As for `segment_scan`.
        """
        forget_peak()
        return segment_scan(settings, self.spec, clock, self._review, self._engines)

    def segment_all(
        self, scans: Iterable[ScanSettings], log: Callable[[str], None] | None = None
    ) -> Iterator[Result]:
        """Segment several scans; one that fails does not stop the others.

        Parameters
        ----------
        scans : iterable of ScanSettings
            Settings of the scans.
        log : callable, optional
            Called with one line when a stage of a scan begins or ends.

        Yields
        ------
        Result
            Result of each scan, as soon as it is done or has failed.

        Raises
        ------
        ModelError, SettingsError
            If the model is damaged, or it or the machine does not support the settings.
        """
        for settings in scans:
            try:
                result = Result(settings, self.segment(settings, Stopwatch(log)))
            except (ModelError, SettingsError):
                raise
            except BrainchopError as error:
                result = Result(settings, error=str(error))
            except MemoryError:
                result = Result(settings, error=f'{settings.t1w}: memory ran out; grant more')
            except Exception as error:
                reason = why_refused(str(error)) or f'{type(error).__name__}: {error}'
                result = Result(settings, error=f'{settings.t1w}: {reason}')
            yield result
