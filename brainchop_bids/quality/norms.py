"""Whether each label's share of the brain is one that brains have."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..models.labels import camel_case, lateral_pairs

_TABLE = Path(__file__).resolve().parents[1] / 'data' / 'label_shares.tsv'
# Twenty adults are not everyone, and masks of the brain differ in how much fluid they take in:
# only what is this much beyond their range, in odds, is odd.
FACTOR = 2.0
# Ventricles of one person differ by a factor of three (SynthSeg's label maps), other structures
# by less than two in nearly all.
SIDES_FACTOR = 2.0
SIDES_FACTOR_FLUID = 4.0
_GREY, _WHITE, _FLUID = 1, 2, 3
_FLUID_CODES = frozenset({4, 5, 14, 15, 24, 31, 43, 44, 63, 72})


@dataclass(frozen=True)
class LabelRow:
    """One label of one scan.

    Parameters
    ----------
    index : int
        Value in the image.
    name : str
        Name of the structure.
    volume : float or None
        Volume in mm^3.
    freesurfer : int or None
        FreeSurfer's code.
    mapping : int or None
        BIDS' common label: 1 grey matter, 2 white matter, 3 fluid.
    """

    index: int
    name: str
    volume: float | None
    freesurfer: int | None = None
    mapping: int | None = None


@dataclass(frozen=True)
class _Range:
    lowest: float
    highest: float


def mark_labels(
    rows: Iterable[LabelRow], brain_volume: float | None
) -> dict[int, tuple[str, str]]:
    """Mark labels whose share of the brain is far from that of known brains.

    Known are the 20 adults of ``data/label_shares.tsv``. Grey and white matter, where one label
    has all of it, are compared as shares of both; fluid as share of all three.

    Parameters
    ----------
    rows : iterable of LabelRow
        The labels of one scan, background left out.
    brain_volume : float or None
        Volume of the brain mask in mm^3; without one, of all labels.

    Returns
    -------
    dict of int to (str, str)
        By index the mark, ``'ok'``, ``'low'``, ``'high'`` or, where nothing is known to compare
        with, an empty string; and a sentence with the numbers, empty for the last.

    Examples
    --------
    >>> rows = [LabelRow(1, 'Left-Hippocampus', 300.0, 17), LabelRow(2, 'Left-Extra', 5.0)]
    >>> mark_labels(rows, 1.2e6)[1][0], mark_labels(rows, 1.2e6)[2]
    ('low', ('', ''))
    """
    known = list(rows)
    total = sum(row.volume or 0.0 for row in known)
    brain = brain_volume if brain_volume and brain_volume > 0 else total
    marks = {row.index: ('', '') for row in known}
    for row in known:
        whole, span, of = _reference(row, known, brain)
        if span is not None and row.volume is not None and whole > 0:
            marks[row.index] = _mark(row.volume / whole, span, of)
    for index, found in _uneven(known).items():
        if marks[index][0] in ('', 'ok'):
            marks[index] = found
    return marks


def _reference(
    row: LabelRow, rows: Sequence[LabelRow], brain: float
) -> tuple[float, _Range | None, str]:
    """Return what a label is a share of, in which range, and how that is called."""
    codes, names, tissues = _shares()
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
    of = 'of grey matter, white matter and fluid' if len(parts) > 2 else 'of grey and white matter'
    return whole, tissues[row.mapping], of


def _mark(share: float, span: _Range, of: str) -> tuple[str, str]:
    low, high = _stretched(span.lowest, 1 / FACTOR), _stretched(span.highest, FACTOR)
    mark = 'low' if share < low else 'high' if share > high else 'ok'
    found, least, most = (f'{100 * part:.3g}%' for part in (share, low, high))
    return mark, f'{found} {of}; plausible are {least} to {most}.'


def _stretched(share: float, factor: float) -> float:
    """Multiply the odds: of small shares the share itself, and none goes beyond 1."""
    odds = factor * share / (1 - share)
    return odds / (1 + odds)


def _uneven(rows: Sequence[LabelRow]) -> dict[int, tuple[str, str]]:
    """Mark the smaller label of pairs whose sides differ too much."""
    by_index = {row.index: row for row in rows}
    found = {}
    for pair in lateral_pairs({row.index: row.name for row in rows}):
        small, large = sorted((by_index[index] for index in pair), key=lambda row: row.volume or 0)
        if small.volume is None or not large.volume:
            continue
        fluid = small.mapping == _FLUID or small.freesurfer in _FLUID_CODES
        most = SIDES_FACTOR_FLUID if fluid else SIDES_FACTOR
        if large.volume > most * small.volume:
            much = f'{large.volume / small.volume:.1f} times as large' if small.volume else 'there'
            reason = f'{large.name} is {much}; expected at most {most:g} times as large.'
            found[small.index] = ('low', reason)
    return found


@cache
def _shares() -> tuple[dict[int, _Range], dict[str, _Range], dict[int, _Range]]:
    """Read the packaged table: by FreeSurfer's code, by name of both sides, by tissue."""
    codes: dict[int, _Range] = {}
    names: dict[str, _Range] = {}
    tissues: dict[int, _Range] = {}
    with _TABLE.open(encoding='utf-8', newline='') as file:
        lines = (line for line in file if not line.startswith('#'))
        for row in csv.DictReader(lines, delimiter='\t'):
            span = _Range(float(row['lowest']), float(row['highest']))
            if row['freesurfer'] != 'n/a':
                codes[int(row['freesurfer'])] = span
            elif row['mapping'] != 'n/a':
                tissues[int(row['mapping'])] = span
            else:
                names[camel_case(row['name']).lower()] = span
    return codes, names, tissues
