"""The table of volumes on a participant's page."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...models.sides import lateral_pairs, without_side
from ...quality.normative import LabelRow, RangeCheck, check_volumes
from ..records import ScanRecord


@dataclass(frozen=True)
class Structure:
    """A row of the table.

    Parameters
    ----------
    name : str
        Name of the structure, without a side if there is a label for each.
    labels : tuple of LabelRow
        Its only label, or the left and the right one.
    checks : tuple of RangeCheck
        Of each label.
    share : float or None
        Per cent of the volume of all labels.
    """

    name: str
    labels: tuple[LabelRow, ...]
    checks: tuple[RangeCheck, ...]
    share: float | None

    @property
    def sided(self) -> bool:
        """Whether there is a label for each side."""
        return len(self.labels) > 1

    @property
    def volume(self) -> float | None:
        """Volume of all its labels in mm^3."""
        volumes = [label.volume for label in self.labels]
        known = [volume for volume in volumes if volume is not None]
        return sum(known) if len(known) == len(volumes) else None

    @property
    def confidence(self) -> float | None:
        """Confidence of the labels, the lower one of two sides; None where it is not known."""
        known = [label.confidence for label in self.labels if label.confidence is not None]
        return min(known, default=None)

    @property
    def asymmetry(self) -> float | None:
        """Asymmetry index: the left volume less the right one, in per cent of their mean.

        None for structures without sides, and where neither has a volume.
        """
        if not self.sided or not self.volume:
            return None
        left, right = (label.volume or 0.0 for label in self.labels)
        return 100 * (left - right) / (self.volume / 2)


def list_structures(scan: ScanRecord) -> list[Structure]:
    """List the structures of a scan, with left and right labels in one row.

    Parameters
    ----------
    scan : ScanRecord
        The scan.

    Returns
    -------
    list of Structure
        In the order of their first labels.
    """
    by_index = {row.index: row for row in scan.rows}
    known = [row for row in scan.rows if row.index in scan.labels]
    checks = check_volumes(known, scan.brain_volume)
    pairs = lateral_pairs({index: row.name for index, row in by_index.items()})
    groups = {pair[0]: pair for pair in pairs}
    second = {right for _, right in pairs}
    rows = [groups.get(index, (index,)) for index in by_index if index not in second]
    return [_structure(scan, [by_index[index] for index in row], checks) for row in rows]


def _structure(
    scan: ScanRecord, labels: list[LabelRow], checks: Mapping[int, RangeCheck]
) -> Structure:
    name = without_side(labels[0].name) if len(labels) > 1 else labels[0].name
    volumes = [label.volume for label in labels if label.volume is not None]
    whole = scan.labelled_volume
    share = 100 * sum(volumes) / whole if whole > 0 and len(volumes) == len(labels) else None
    found = tuple(checks.get(label.index, RangeCheck()) for label in labels)
    return Structure(name, tuple(labels), found, share)
