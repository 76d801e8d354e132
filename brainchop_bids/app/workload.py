"""Scans of a run that must be processed, and scans whose results are current."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..bids.derivatives import ScanOutputs, why_redo
from ..bids.query import Scan, Selection, find_siblings, why_absent
from ..models.spec import ModelSpec, mask_owner
from ..settings import Settings
from ..system.errors import DatasetError


@dataclass(frozen=True)
class Workload:
    """The scans of a run.

    Parameters
    ----------
    todo : list of (Scan, dict of ModelSpec to str)
        Scans to process, the models to process them with, and the reason for each.
    current : list of Scan
        Scans whose results are complete and current.
    """

    todo: list[tuple[Scan, dict[ModelSpec, str]]]
    current: list[Scan]


def find_workload(
    settings: Settings, specs: Sequence[ModelSpec], selection: Selection
) -> Workload:
    """Find the scans that must be processed, and the models for each.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    specs : sequence of ModelSpec
        The models.
    selection : Selection
        The selected scans.

    Returns
    -------
    Workload
    """
    owner = mask_owner(specs)
    todo, current = [], []
    for scan in selection.scans:
        reasons = {
            spec: _why_redo(settings, scan, spec, owns_mask=spec is owner) for spec in specs
        }
        needs = {spec: why for spec, why in reasons.items() if why is not None}
        if needs:
            todo.append((scan, needs))
        else:
            current.append(scan)
    return Workload(todo, current)


def _why_redo(settings: Settings, scan: Scan, spec: ModelSpec, *, owns_mask: bool) -> str | None:
    try:
        return why_redo(
            ScanOutputs(settings.output_dir, scan.name, spec.slug),
            scan.path,
            spec.sha256,
            settings.recipe(),
            [label.abbreviation for label in spec.labels][1:] if settings.probseg else [],
            mask=owns_mask,
            brain=owns_mask and spec.strips_skulls,
            maps=settings.maps,
            derived=[derived.name for derived in spec.derived],
            others=find_siblings(scan, spec.inputs[1:]),
        )
    except DatasetError:
        return 'another scan of the head is missing'
    except OSError:
        # The conform step will report what is wrong with the scan.
        return 'the scan cannot be compared'


def absent_file(scan: Scan, specs: Iterable[ModelSpec]) -> str | None:
    """Find a file of a scan that cannot be opened.

    Parameters
    ----------
    scan : Scan
        The scan.
    specs : iterable of ModelSpec
        The models, which may need other scans of the same head.

    Returns
    -------
    str or None
        The file and the reason; None if all can be opened.
    """
    try:
        others = [path for spec in specs for path in find_siblings(scan, spec.inputs[1:])]
    except DatasetError as error:
        return str(error)
    return next(filter(None, map(why_absent, [scan.path, *others])), None)


def drop_duplicates(specs: Sequence[ModelSpec]) -> tuple[list[ModelSpec], list[str]]:
    """Drop derived segmentations where another segmentation of the run has the same name.

    Parameters
    ----------
    specs : sequence of ModelSpec
        The models of the run.

    Returns
    -------
    specs : list of ModelSpec
        The models; of derived segmentations with the same name, the first one is kept.
    notes : list of str
        One line for each segmentation that was dropped, with the reason.
    """
    taken = {spec.slug.lower(): spec.name for spec in specs}
    kept, notes = [], []
    for spec in specs:
        stay = []
        for derived in spec.derived:
            other = taken.get(derived.name.lower())
            if other is None:
                taken[derived.name.lower()] = spec.name
                stay.append(derived)
            else:
                notes.append(
                    f'seg-{derived.name} is that of {other}; the one derived from the labels of '
                    f'{spec.name} is left out (run {spec.name} with another output folder to get '
                    'it)'
                )
        kept.append(replace(spec, derived=tuple(stay)))
    return kept, notes
