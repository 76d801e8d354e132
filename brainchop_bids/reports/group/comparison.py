"""Comparison of scans: structures, brain volume and measures, and the outliers among scans.

Structures are compared by their share of the volume of all labels, because heads differ in size:
by volume the largest and the smallest head would be outliers in every structure. The size of the
brain is compared by the volumes of brain mask and tissue.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..collect import ScanGroup
from ..records import ScanRecord
from ..text import one_line
from .outliers import CUTOFF, robust_z

# Statistics of tissues, from which the other measures are computed: numbers of voxels and the
# like say nothing about quality.
_INGREDIENTS = 'summary_'


@dataclass(frozen=True)
class Quantity:
    """A quantity by which scans are compared.

    Parameters
    ----------
    name : str
        The column that it comes from.
    title : str
        The name of the structure or measure.
    kind : str
        ``'brain'``, ``'structure'`` or ``'measure'``.
    units : str
        ``'%'`` (of all labels' volume), ``'mL'`` or empty.
    values, scores : tuple of float or None
        One of each for every scan: the quantity, and its robust z.
    color : str or None
        ``#rrggbb`` of a structure.
    """

    name: str
    title: str
    kind: str
    units: str
    values: tuple[float | None, ...]
    color: str | None = None
    scores: tuple[float | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compare the values once."""
        object.__setattr__(self, 'scores', tuple(robust_z(self.values)))

    @property
    def outliers(self) -> list[int]:
        """Indices of the outlying scans, the farthest first."""
        far = [
            (abs(score), place)
            for place, score in enumerate(self.scores)
            if score is not None and abs(score) > CUTOFF
        ]
        return [place for _, place in sorted(far, key=lambda pair: (-pair[0], pair[1]))]


def list_quantities(
    group: ScanGroup, names: Mapping[int, str], measures: Mapping[str, str]
) -> Iterator[Quantity]:
    """List the quantities by which scans are compared.

    Parameters
    ----------
    group : ScanGroup
        The scans.
    names : mapping of int to str
        The columns of the labels.
    measures : mapping of str to str
        The columns of the measures, by their names in the sidecars.

    Yields
    ------
    Quantity
        Volumes of brain mask and tissue where known, each label, each measure except statistics of
        tissues.
    """
    scans = group.scans
    volumes = [scan.brain_volume for scan in scans]
    if any(volume is not None for volume in volumes):
        yield Quantity('brain_volume', 'Brain mask', 'brain', 'mL', _in_ml(volumes))
    tissue = [scan.tissue_volume for scan in scans]
    if any(volume is not None for volume in tissue):
        yield Quantity('tissue_volume', 'Grey and white matter', 'brain', 'mL', _in_ml(tissue))
    totals = [total(scan, names) for scan in scans]
    for index, name in names.items():
        mine = [scan.volumes.get(index) for scan in scans]
        label = group.labels.get(index)
        shares = tuple(
            100 * volume / whole if volume is not None and whole else None
            for volume, whole in zip(mine, totals, strict=True)
        )
        # The share of an only label is always 1.
        alone = len(names) == 1
        yield Quantity(
            name, one_line(label.name) if label and label.name else name, 'structure',
            'mL' if alone else '%', _in_ml(mine) if alone else shares,
            label.color if label else None,
        )  # fmt: skip
    for key, name in measures.items():
        if key.startswith(_INGREDIENTS):
            continue
        yield Quantity(name, key, 'measure', '', tuple(scan.measures.get(key) for scan in scans))


def total(scan: ScanRecord, names: Iterable[int]) -> float | None:
    """Return the volume of all labels in mm^3; None where that of one is not known.

    Parameters
    ----------
    scan : ScanRecord
        The scan.
    names : iterable of int
        The labels of the model.

    Returns
    -------
    float or None
    """
    volumes = [scan.volumes.get(index) for index in names]
    known = [volume for volume in volumes if volume is not None]
    return sum(known) if len(known) == len(volumes) else None


def largest_scores(
    quantities: Sequence[Quantity], count: int
) -> list[tuple[float | None, str | None]]:
    """Return for each scan the robust z farthest from 0, and its quantity.

    Parameters
    ----------
    quantities : sequence of Quantity
        The quantities compared.
    count : int
        Number of scans.

    Returns
    -------
    list of (float or None, str or None)
        Robust z and `Quantity.name`; None where nothing could be compared.
    """
    largest: list[tuple[float | None, str | None]] = [(None, None)] * count
    for quantity in quantities:
        for place, score in enumerate(quantity.scores):
            if score is not None and abs(score) > abs(largest[place][0] or 0.0):
                largest[place] = (score, quantity.name)
    return largest


def _in_ml(volumes: Iterable[float | None]) -> tuple[float | None, ...]:
    return tuple(None if volume is None else volume / 1000 for volume in volumes)
