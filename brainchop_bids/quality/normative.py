"""Normative ranges: plausible shares of the brain's volume for each label."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..models.labels import camel_case
from ..models.sides import lateral_pairs

_TABLE = Path(__file__).resolve().parents[1] / 'data' / 'label_shares.tsv'
# Twenty adults are not everyone, and brain masks differ in how much fluid they include: only
# shares beyond the observed range by this factor, in odds, are implausible.
FACTOR = 2.0
# Ventricles of one person differ by a factor of three (SynthSeg's label maps), other structures
# by less than two in nearly all.
SIDES_FACTOR = 2.0
SIDES_FACTOR_FLUID = 4.0
_GREY, _WHITE, _FLUID = 1, 2, 3
_FLUID_CODES = frozenset({4, 5, 14, 15, 24, 31, 43, 44, 63, 72})


@dataclass(frozen=True)
class LabelRow:
    """One label in a model's label table or in a scan's table of volumes.

    Parameters
    ----------
    index : int
        Value in the image.
    name : str
        Name of the structure.
    volume : float or None
        Volume in mm^3; None where it is unknown, and in label tables.
    voxels : int or None
        Number of voxels, as `volume`.
    color : str or None
        ``#rrggbb``.
    freesurfer : int or None
        FreeSurfer's code.
    mapping : int or None
        BIDS' common label: 1 grey matter, 2 white matter, 3 fluid.
    confidence : float or None
        Mean probability that the network gives to the label; None in label tables.
    """

    index: int
    name: str
    volume: float | None = None
    voxels: int | None = None
    color: str | None = None
    freesurfer: int | None = None
    mapping: int | None = None
    confidence: float | None = None

    @property
    def fluid(self) -> bool:
        """Whether the label is cerebrospinal fluid."""
        return self.mapping == _FLUID or self.freesurfer in _FLUID_CODES


class RangeCheck(NamedTuple):
    """Comparison of a label's volume with its normative range.

    Parameters
    ----------
    result : str
        ``'ok'``, ``'low'``, ``'high'``, or an empty string where there is no range.
    reason : str
        A sentence with the numbers; empty where there is no range.
    """

    result: str = ''
    reason: str = ''


@dataclass(frozen=True)
class _Range:
    lowest: float
    highest: float


def check_volumes(rows: Iterable[LabelRow], brain_volume: float | None) -> dict[int, RangeCheck]:
    """Compare the labels' shares of the brain with those of healthy adults.

    The ranges are those of the 20 adults in ``data/label_shares.tsv``. Grey and white matter,
    where one label has all of it, are compared as shares of both; fluid as share of all three.
    Of a left and a right label that differ too much in volume, the smaller one is ``'low'``.

    Parameters
    ----------
    rows : iterable of LabelRow
        The labels of one scan, background left out.
    brain_volume : float or None
        Volume of the brain mask in mm^3; by default the sum of all labels.

    Returns
    -------
    dict of int to RangeCheck
        By index.

    Examples
    --------
    >>> rows = [LabelRow(1, 'Left-Hippocampus', 300.0, freesurfer=17), LabelRow(2, 'Extra', 5.0)]
    >>> check_volumes(rows, 1.2e6)[1].result, check_volumes(rows, 1.2e6)[2].result
    ('low', '')
    """
    labels = list(rows)
    total = sum(row.volume or 0.0 for row in labels)
    brain = brain_volume if brain_volume and brain_volume > 0 else total
    checks = {row.index: RangeCheck() for row in labels}
    for row in labels:
        whole, normal, phrase = _reference(row, labels, brain)
        if normal is not None and row.volume is not None and whole > 0:
            checks[row.index] = _check_share(row.volume / whole, normal, phrase)
    for index, check in _check_sides(labels).items():
        if checks[index].result in ('', 'ok'):
            checks[index] = check
    return checks


def tissue_volume(rows: Iterable[LabelRow]) -> float | None:
    """Return the volume of brain tissue: of all labels but fluid.

    Unlike the volume of a brain mask, it has the same meaning for all models. It includes the
    brainstem, which FreeSurfer's ``BrainSegNotVent`` leaves out.

    Parameters
    ----------
    rows : iterable of LabelRow
        The labels of one scan, background left out.

    Returns
    -------
    float or None
        In mm^3; None where the labels are not those of a whole brain (none is grey matter, or
        none white matter), or the volume of one is unknown.

    Examples
    --------
    >>> tissues = [LabelRow(1, 'GM', 6e5, mapping=1), LabelRow(2, 'WM', 4e5, mapping=2)]
    >>> tissue_volume([*tissues, LabelRow(3, 'CSF', 2e5, mapping=3)])
    1000000.0
    >>> tissue_volume(tissues[:1]) is None
    True
    """
    tissue = [row for row in rows if not row.fluid]
    known = [row.volume for row in tissue if row.volume is not None]
    whole = {_GREY, _WHITE} <= {row.mapping for row in tissue}
    return sum(known) if whole and len(known) == len(tissue) else None


def _reference(
    row: LabelRow, rows: Sequence[LabelRow], brain: float
) -> tuple[float, _Range | None, str]:
    """Return the volume that a label is a share of, the range of the share, and a phrase."""
    codes, names, tissues = _ranges()
    if row.freesurfer in codes:
        return brain, codes[row.freesurfer], 'of the brain'
    name = camel_case(row.name).lower()
    if row.freesurfer is None and name in names:
        return brain, names[name], 'of the brain'
    alone = [other.index for other in rows if other.mapping == row.mapping] == [row.index]
    if row.mapping not in tissues or not alone or row.freesurfer is not None:
        return 0.0, None, ''
    parts = {_GREY, _WHITE} | ({_FLUID} if row.mapping == _FLUID else set())
    if not parts <= {other.mapping for other in rows}:
        return 0.0, None, ''
    whole = sum(other.volume or 0.0 for other in rows if other.mapping in parts)
    phrase = 'grey matter, white matter and fluid' if len(parts) > 2 else 'grey and white matter'
    return whole, tissues[row.mapping], f'of {phrase}'


def _check_share(share: float, normal: _Range, phrase: str) -> RangeCheck:
    low, high = _scale_odds(normal.lowest, 1 / FACTOR), _scale_odds(normal.highest, FACTOR)
    result = 'low' if share < low else 'high' if share > high else 'ok'
    percent, least, most = (f'{100 * part:.3g}%' for part in (share, low, high))
    return RangeCheck(result, f'{percent} {phrase}; the limits are {least} and {most}.')


def _scale_odds(share: float, factor: float) -> float:
    """Multiply the odds: of small shares the share itself, and none goes beyond 1."""
    odds = factor * share / (1 - share)
    return odds / (1 + odds)


def _check_sides(rows: Sequence[LabelRow]) -> dict[int, RangeCheck]:
    """Report the smaller label of pairs whose sides differ too much."""
    by_index = {row.index: row for row in rows}
    checks = {}
    for pair in lateral_pairs({row.index: row.name for row in rows}):
        small, large = sorted((by_index[index] for index in pair), key=lambda row: row.volume or 0)
        if small.volume is None or not large.volume:
            continue
        most = SIDES_FACTOR_FLUID if small.fluid else SIDES_FACTOR
        if large.volume > most * small.volume:
            reason = (
                f'{large.name} is {large.volume / small.volume:.1f} times as large; '
                f'expected at most {most:g} times.'
                if small.volume
                else f'This label is empty, {large.name} is not.'
            )
            checks[small.index] = RangeCheck('low', reason)
    return checks


@cache
def _ranges() -> tuple[dict[int, _Range], dict[str, _Range], dict[int, _Range]]:
    """Read the packaged table: by FreeSurfer's code, by name of both sides, by tissue."""
    codes: dict[int, _Range] = {}
    names: dict[str, _Range] = {}
    tissues: dict[int, _Range] = {}
    with _TABLE.open(encoding='utf-8', newline='') as file:
        lines = (line for line in file if not line.startswith('#'))
        for row in csv.DictReader(lines, delimiter='\t'):
            normal = _Range(float(row['lowest']), float(row['highest']))
            if row['freesurfer'] != 'n/a':
                codes[int(row['freesurfer'])] = normal
            elif row['mapping'] != 'n/a':
                tissues[int(row['mapping'])] = normal
            else:
                names[camel_case(row['name']).lower()] = normal
    return codes, names, tissues
