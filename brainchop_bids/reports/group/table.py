"""The table of the group level: one row for each scan, with its outliers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...bids.participants import Participants
from ...models.brain_measures import MEASURES
from ...quality.descriptions import describe_measure
from ..collect import ScanGroup
from ..ratings import Verdict
from ..records import DONE, ScanRecord
from ..text import MISSING, one_line, write_tsv
from .comparison import Quantity, largest_scores, list_quantities
from .outliers import CUTOFF

Cell = str | float | None

# The BIDS specification's names of the entities that names of anatomical images have.
ENTITIES = {
    'ses': 'session_id',
    'sample': 'sample',
    'task': 'task',
    'tracksys': 'tracking_system',
    'acq': 'acquisition',
    'nuc': 'nucleus',
    'voi': 'volume_of_interest',
    'ce': 'ceagent',
    'trc': 'tracer',
    'stain': 'stain',
    'rec': 'reconstruction',
    'dir': 'direction',
    'run': 'run',
    'mod': 'modality',
    'echo': 'echo',
    'flip': 'flip',
    'inv': 'inversion',
    'mt': 'mtransfer',
    'part': 'part',
    'proc': 'processing',
    'hemi': 'hemisphere',
    'split': 'split',
    'recording': 'recording',
    'chunk': 'chunk',
    'res': 'resolution',
    'den': 'density',
    'label': 'label',
}
_OWN = (
    'participant_id', 'bids_name', 'status', 'reason', 'brain_volume', 'tissue_volume', 'flags',
    'n_flags', 'outliers', 'n_outliers', 'largest_robust_z', 'largest_robust_z_of', 'rating',
    'rater', 'rating_note',
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Parameters
    ----------
    name : str
        Its header, used once.
    kind : str
        ``'scan'``, ``'volume'``, ``'measure'``, ``'flags'``, ``'outliers'``, ``'rating'`` or
        ``'participants'``.
    description, units : str
        Description of the values, and their units, empty where they have none.
    values : tuple of str, float or None
        One for each scan, None where it is not known.
    """

    name: str
    kind: str
    description: str
    units: str
    values: tuple[Cell, ...]


@dataclass(frozen=True)
class GroupTable:
    """The results of the group level for one model.

    Parameters
    ----------
    group : ScanGroup
        The scans, in the order of the rows.
    columns : tuple of Column
        The table.
    quantities : tuple of Quantity
        The quantities by which scans are compared.
    verdicts : tuple of Verdict or None
        Of each scan.
    """

    group: ScanGroup
    columns: tuple[Column, ...]
    quantities: tuple[Quantity, ...]
    verdicts: tuple[Verdict | None, ...]

    @cached_property
    def worst(self) -> list[int]:
        """Places of the scans: first those not done, then those with the most flags, with the
        largest robust z, by name.
        """
        largest = largest_scores(self.quantities, len(self.group.scans))

        def rank(place: int) -> tuple[bool, int, float, int]:
            return (
                self.group.scans[place].status == DONE,
                -len(self.group.scans[place].flags or ()),
                -abs(largest[place][0] or 0.0),
                place,
            )

        return sorted(range(len(self.group.scans)), key=rank)

    def to_tsv(self) -> str:
        """Return the table as BIDS wants tables."""
        cells = [[_written(value) for value in column.values] for column in self.columns]
        return write_tsv([column.name for column in self.columns], zip(*cells, strict=True))


def build_table(
    group: ScanGroup, verdicts: Mapping[tuple[str, str], Verdict], participants: Participants
) -> GroupTable:
    """Build the table of all scans of one model.

    Parameters
    ----------
    group : ScanGroup
        The scans.
    verdicts : mapping of (str, str) to Verdict
        By model and `ScanRecord.bids_name`.
    participants : Participants
        Of the raw dataset.

    Returns
    -------
    GroupTable
    """
    taken = set(_OWN)
    scans = group.scans
    entities = _entity_columns(scans, taken)
    names = _structure_names(group, taken)
    measures = {
        key: _unique(key, 'measure', taken)
        for key in dict.fromkeys(key for scan in scans for key in scan.measures)
    }
    quantities = tuple(list_quantities(group, names, measures))
    mine = tuple(verdicts.get((group.slug, scan.bids_name)) for scan in scans)
    columns = (
        *entities,
        *_volume_columns(group, names),
        *_brain_measure_columns(scans, taken),
        *(
            Column(
                name, 'measure', describe_measure(key) or 'Image quality measure', '',
                tuple(scan.measures.get(key) for scan in scans),
            )
            for key, name in measures.items()
        ),
        *_flag_columns(scans),
        *_outlier_columns(quantities, len(scans)),
        *_rating_columns(mine),
        *_participant_columns(scans, participants, taken),
    )  # fmt: skip
    return GroupTable(group, columns, quantities, mine)


def _entity_columns(scans: Sequence[ScanRecord], taken: set[str]) -> list[Column]:
    """List the columns of BIDS entities, between participant and file name."""
    keys = dict.fromkeys(key for scan in scans for key in scan.outputs.name.entities)
    ordered = [key for key in ENTITIES if key in keys]
    ordered += [key for key in keys if key not in ENTITIES and key != 'sub']

    def value(scan: ScanRecord, key: str) -> str | None:
        label = scan.outputs.name.entities.get(key)
        return f'ses-{label}' if key == 'ses' and label is not None else label

    return [
        _column('participant_id', 'scan', 'Participant', scans, lambda scan: scan.participant_id),
        *(
            Column(
                _unique(ENTITIES.get(key, key), 'entity', taken), 'scan', f'BIDS entity {key}', '',
                tuple(value(scan, key) for scan in scans),
            )
            for key in ordered
        ),
        _column('bids_name', 'scan', 'File name of the scan', scans, lambda scan: scan.bids_name),
        _column('status', 'scan', 'done, failed or missing', scans, lambda scan: scan.status),
        _column(
            'reason', 'scan', 'Why the scan failed or is missing', scans,
            lambda scan: one_line(scan.reason) or None,
        ),
    ]  # fmt: skip


def _structure_names(group: ScanGroup, taken: set[str]) -> dict[int, str]:
    """Name the column of each label by the label table, or else by the first scan's table."""
    titles = {index: label.name for index, label in group.labels.items() if index}
    for scan in group.scans:
        for row in scan.rows:
            titles.setdefault(row.index, row.name)
    known = {index for scan in group.scans for index in scan.volumes} | titles.keys()
    return {
        index: _unique(one_line(titles.get(index, '')).replace(' ', '-'), f'label-{index}', taken)
        for index in sorted(known)
    }


def _volume_columns(group: ScanGroup, names: Mapping[int, str]) -> list[Column]:
    """List the volumes of brain mask, tissue where it is known, and every label."""
    scans = group.scans
    tissue = _column(
        'tissue_volume',
        'volume',
        'Volume of all labels but fluid',
        scans,
        lambda scan: scan.tissue_volume,
        'mm^3',
    )
    return [
        _column(
            'brain_volume', 'volume', 'Volume of the brain mask, with fluid between gyri', scans,
            lambda scan: scan.brain_volume, 'mm^3',
        ),
        *([tissue] if any(value is not None for value in tissue.values) else []),
        *(
            Column(
                name, 'volume', f'Volume of label {index}', 'mm^3',
                tuple(scan.volumes.get(index) for scan in group.scans),
            )
            for index, name in names.items()
        ),
    ]  # fmt: skip


def _brain_measure_columns(scans: Sequence[ScanRecord], taken: set[str]) -> list[Column]:
    """List the volumes with FreeSurfer's names."""
    return [
        Column(
            _unique(key, 'measure', taken),
            'volume',
            MEASURES[key].description if key in MEASURES else 'Brain measure',
            'mm^3',
            tuple(scan.brain_measures.get(key) for scan in scans),
        )
        for key in dict.fromkeys(key for scan in scans for key in scan.brain_measures)
    ]


def _flag_columns(scans: Sequence[ScanRecord]) -> list[Column]:
    """List the columns of flags."""

    def joined(scan: ScanRecord) -> str | None:
        return ','.join(flag.name for flag in scan.flags or ()) or None

    def count(scan: ScanRecord) -> float | None:
        return None if scan.flags is None else len(scan.flags)

    return [
        _column('flags', 'flags', 'Flags: reasons to look at the result', scans, joined),
        _column('n_flags', 'flags', 'Number of flags', scans, count),
    ]


def _outlier_columns(quantities: Sequence[Quantity], count: int) -> list[Column]:
    """List the columns of outliers."""
    far: list[list[str]] = [[] for _ in range(count)]
    for quantity in quantities:
        for place in quantity.outliers:
            far[place].append(quantity.name)
    largest = largest_scores(quantities, count)
    judged = [any(q.scores[place] is not None for q in quantities) for place in range(count)]
    numbers = tuple(
        len(names) if known else None for names, known in zip(far, judged, strict=True)
    )
    rule = f'absolute robust z above {CUTOFF}'
    return [
        Column(
            'outliers', 'outliers', f'Quantities in which the scan is an outlier: {rule}', '',
            tuple(','.join(names) or None for names in far),
        ),
        Column('n_outliers', 'outliers', 'Number of outliers', '', numbers),
        Column(
            'largest_robust_z', 'outliers', 'The robust z farthest from 0', '',
            tuple(None if score is None else round(score, 3) for score, _ in largest),
        ),
        Column(
            'largest_robust_z_of', 'outliers', 'The quantity with that robust z', '',
            tuple(name for _, name in largest),
        ),
    ]  # fmt: skip


def _rating_columns(verdicts: Sequence[Verdict | None]) -> list[Column]:
    """List the columns of ratings."""
    cells: list[tuple[Cell, Cell, Cell]] = [
        (None, None, None)
        if verdict is None
        else (
            verdict.rating,
            '; '.join(name or 'anonymous' for name in verdict.raters),
            verdict.note or None,
        )
        for verdict in verdicts
    ]
    descriptions = ('pass, fail, unsure or mixed', 'Names of the raters', 'Their notes')
    return [
        Column(name, 'rating', text, '', tuple(cell[place] for cell in cells))
        for place, (name, text) in enumerate(
            zip(('rating', 'rater', 'rating_note'), descriptions, strict=True)
        )
    ]


def _participant_columns(
    scans: Sequence[ScanRecord], participants: Participants, taken: set[str]
) -> list[Column]:
    """List the columns of participants.tsv."""
    rows = [participants.rows.get(scan.participant_id, {}) for scan in scans]

    def column(name: str) -> Column:
        cells = [row.get(name, MISSING) for row in rows]
        values = tuple(None if cell == MISSING else cell for cell in cells)
        description = f'Column {one_line(name)} of participants.tsv'
        return Column(
            _unique(one_line(name), 'participants', taken), 'participants', description, '', values
        )

    return [column(name) for name in participants.columns]


def _column(
    name: str,
    kind: str,
    description: str,
    scans: Sequence[ScanRecord],
    value: Callable[[ScanRecord], Cell],
    units: str = '',
) -> Column:
    return Column(name, kind, description, units, tuple(value(scan) for scan in scans))


def _unique(name: str, prefix: str, taken: set[str]) -> str:
    """Return a column name that is not taken, with a prefix if needed, and take it."""
    chosen = name or prefix
    if chosen in taken:
        chosen = f'{prefix}_{name}'
    number = 2
    while chosen in taken:
        chosen = f'{prefix}_{name}_{number}'
        number += 1
    taken.add(chosen)
    return chosen


def _written(value: Cell) -> str:
    """Write a cell.

    Examples
    --------
    >>> _written(710149.249), _written(3.0), _written(None)
    ('710149.249', '3', 'n/a')
    """
    if value is None:
        return MISSING
    return value if isinstance(value, str) else f'{value:.15g}'
