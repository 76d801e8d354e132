"""The page of a group: the scans to open first, distributions of all scans, the table.

It is one file. The table is data inside it, which the page's script shows a hundred rows at a
time; distributions are drawn when they come into view.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2.utils import htmlsafe_json_dumps

from ...bids.derivatives import page_path
from ..figures.thumbnail import thumbnail
from ..ratings import MIXED, RATINGS
from ..records import DONE, FAILED, MISSING, ScanRecord
from ..render import dataset_name, render_template, webp_uri
from ..sidecars import number
from ..text import one_line
from .comparison import Quantity, total
from .outliers import CUTOFF, MIN_SCANS, ValueSpread, spread
from .table import Column, GroupTable

_THUMBNAILS = 12
# Longer lists of links are folded.
_UNFOLDED = 6
# Columns of participants.tsv that are shown at first.
_COLUMNS_SHOWN = 6
# How far from the median a plot reaches, in robust standard deviations: one value far off must
# not press all others into a line.
_REACH = 10
_TITLES = {
    'brain': 'Brain volume',
    'structure': 'Structures',
    'measure': 'Image quality measures',
}


def render_group_page(table: GroupTable) -> str:
    """Return the page of all scans of one model as HTML.

    Parameters
    ----------
    table : GroupTable
        The table to show.

    Returns
    -------
    str
        A whole document; links lead to the participants' pages beside it.
    """
    group = table.group
    links = [_link(scan) for scan in group.scans]
    names = [scan.bids_name for scan in group.scans]
    plots = [
        _plot(place, quantity, names, links) for place, quantity in enumerate(table.quantities)
    ]
    return render_template(
        'group.html',
        heading=f'Group seg-{one_line(group.slug)}',
        scripts=('group.js',),
        styles=('style.css', 'group.css'),
        dataset=one_line(dataset_name(group.root)),
        slug=one_line(group.slug),
        facts=_facts(table),
        flags=_flag_counts(group.scans),
        unfinished=[
            (scan, link)
            for scan, link in zip(group.scans, links, strict=True)
            if scan.status != DONE
        ],
        worst=[_worst(table, place, links[place]) for place in _shown_first(table)],
        verdict=_explain_order(table),
        cutoff=CUTOFF,
        least=MIN_SCANS,
        reach=_REACH,
        unfolded=_UNFOLDED,
        sections=[
            (title, kind, [plot for plot in plots if plot['kind'] == kind])
            for kind, title in _TITLES.items()
        ],
        columns=[(column, _page_units(column)) for column in table.columns],
        data=htmlsafe_json_dumps(
            _data(table, links), separators=(',', ':'), allow_nan=False, sort_keys=False
        ),
    )


def _link(scan: ScanRecord) -> str | None:
    """Return the address of a scan on its participant's page, relative to this page.

    None where no page exists. Of two pages the newer one has the scan's latest result.
    """
    outputs = scan.outputs
    name = outputs.name
    pages: list[tuple[float, Path]] = []
    for session in dict.fromkeys((None, name.session)):
        path = page_path(outputs.root, name.subject, session)
        if os.path.isfile(path):
            pages.append((path.stat().st_mtime, path))
    if not pages:
        return None
    page = quote(os.fsencode(max(pages)[1].name))
    return f'{page}#{quote(outputs.anchor)}' if scan.finished else page


def _facts(table: GroupTable) -> list[tuple[str, str]]:
    """List what stands at the top of the page."""
    scans = table.group.scans
    participants = {scan.participant_id for scan in scans}
    facts = [('Scans', f'{len(scans):,}'), ('Participants', f'{len(participants):,}')]
    for status in (FAILED, MISSING):
        if count := sum(scan.status == status for scan in scans):
            facts.append((status.capitalize(), f'{count:,}'))
    if any(scan.flags is not None for scan in scans):
        facts.append(('Flagged', f'{sum(bool(scan.flags) for scan in scans):,}'))
    else:
        facts.append(('Flagged', 'not known'))
    far = {place for quantity in table.quantities for place in quantity.outliers}
    compared = any(score is not None for quantity in table.quantities for score in quantity.scores)
    facts.append(('With outliers', f'{len(far):,}' if compared else 'too few scans'))
    counts = Counter(verdict.rating for verdict in table.verdicts if verdict)
    rated = ', '.join(
        f'{counts[rating]:,} {rating}' for rating in (*RATINGS, MIXED) if counts[rating]
    )
    facts.append(('Rated', rated or 'none'))
    return facts


def _shown_first(table: GroupTable) -> list[int]:
    """Choose the scans with pictures."""
    return [p for p in table.worst if table.group.scans[p].finished][:_THUMBNAILS]


def _flag_counts(scans: Sequence[ScanRecord]) -> list[tuple[str, int]]:
    """Count how many scans have each flag, the most frequent first."""
    counts = Counter(name for scan in scans for name in {flag.name for flag in scan.flags or ()})
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _explain_order(table: GroupTable) -> str:
    """Explain the order of the scans to open first."""
    flagged = any(scan.flags for scan in table.group.scans)
    far = any(quantity.outliers for quantity in table.quantities)
    if flagged or far:
        return 'Scans with most flags first, then those with the largest outliers.'
    if any(scan.flags is not None for scan in table.group.scans):
        known = 'No scan is flagged'
    else:
        known = 'The results have no record of flags'
    compared = sum(scan.finished for scan in table.group.scans) >= MIN_SCANS
    return (
        f'{known}, and {"no scan is an outlier" if compared else "there are too few to compare"}.'
    )


def _worst(table: GroupTable, place: int, link: str | None) -> dict[str, Any]:
    """Arrange one of the scans to open first."""
    scan = table.group.scans[place]
    far = [
        (score, quantity.title)
        for quantity in table.quantities
        if (score := quantity.scores[place]) is not None and abs(score) > CUTOFF
    ]
    far.sort(key=lambda pair: -abs(pair[0]))
    verdict = table.verdicts[place]
    content = thumbnail(scan.outputs)
    return {
        'name': scan.bids_name,
        'link': link,
        'picture': webp_uri(content) if content else None,
        'flags': scan.flags or (),
        'far': [(title, _score(score)) for score, title in far[:3]],
        'further': max(len(far) - 3, 0),
        'rating': verdict.rating if verdict else None,
    }


def _plot(
    place: int, quantity: Quantity, names: Sequence[str], links: Sequence[str | None]
) -> dict[str, Any]:
    """Arrange the words beside one distribution."""
    stats = spread(quantity.values)
    units = f' {quantity.units}' if quantity.units else ''
    outliers = [
        {
            'name': names[scan],
            'link': links[scan],
            'value': f'{_short(quantity.values[scan])}{units}',
            'score': _score(quantity.scores[scan]),
        }
        for scan in quantity.outliers
    ]
    if stats is None:
        summary = 'no value is known'
    else:
        summary = (
            f'median {_short(stats.median)}{units}, quartiles {_short(stats.quarter)} and '
            f'{_short(stats.three_quarters)}{units}, {stats.count:,} '
            f'scan{"s" * (stats.count != 1)}'
        )
    return {
        'id': f'plot-{place}',
        'title': quantity.title,
        'kind': quantity.kind,
        'color': quantity.color,
        'known': stats is not None,
        'summary': summary,
        'outliers': outliers,
    }


def _data(table: GroupTable, links: Sequence[str | None]) -> dict[str, Any]:
    """Arrange what the page's script lays out."""
    places = {column.name: place for place, column in enumerate(table.columns)}
    shown = _shown(table)
    labels = {index for scan in table.group.scans for index in scan.volumes}
    labels |= {index for index in table.group.labels if index}
    totals = [total(scan, labels) for scan in table.group.scans]
    return {
        'links': links,
        'flagged': [bool(scan.flags) for scan in table.group.scans],
        'outlying': sorted({place for item in table.quantities for place in item.outliers}),
        'worst': table.worst,
        'totals': [_digits(volume, 1000) for volume in totals],
        'columns': [
            {
                'name': column.name,
                'units': _page_units(column),
                'numeric': _numeric(column),
                'shown': column.name in shown,
                'values': [
                    _digits(value, 1000 if column.kind == 'volume' else 1)
                    if isinstance(value, (int, float))
                    else value
                    for value in column.values
                ],
            }
            for column in table.columns
        ],
        'plots': [_drawn(quantity, places[quantity.name]) for quantity in table.quantities],
    }


def _shown(table: GroupTable) -> set[str]:
    """Choose the columns that are shown at first, among those with values."""
    people = [column.name for column in table.columns if column.kind == 'participants']
    chosen = {
        'bids_name',
        'brain_volume',
        'tissue_volume',
        'flags',
        'outliers',
        'largest_robust_z',
        'largest_robust_z_of',
        'rating',
        'rater',
        'rating_note',
        *people[:_COLUMNS_SHOWN],
    }
    filled = {
        column.name
        for column in table.columns
        if any(value is not None for value in column.values)
    }
    # An empty column of flags says that there are none.
    filled |= {'flags'} if 'n_flags' in filled else set()
    chosen |= {'status', 'reason'} if 'reason' in filled else set()
    return chosen & filled


def _drawn(quantity: Quantity, column: int) -> dict[str, Any]:
    """Arrange what the script draws of a quantity."""
    distribution = spread(quantity.values)
    return {
        'column': column,
        'share': quantity.units == '%',
        'units': quantity.units,
        'outliers': quantity.outliers,
        'compared': any(score is not None for score in quantity.scores),
        'spread': None if distribution is None else _range(distribution),
    }


def _range(distribution: ValueSpread) -> dict[str, float]:
    """Return where a plot begins and ends, and what it marks."""
    low, high = distribution.low, distribution.high
    if distribution.scale:
        low = max(low, distribution.median - _REACH * distribution.scale)
        high = min(high, distribution.median + _REACH * distribution.scale)
    return {
        'low': low,
        'quarter': distribution.quarter,
        'median': distribution.median,
        'threeQuarters': distribution.three_quarters,
        'high': high,
        'scale': distribution.scale,
    }


def _numeric(column: Column) -> bool:
    """Say whether all that is known in a column are numbers, so that 9 sorts before 10."""
    known = [value for value in column.values if value is not None]
    return bool(known) and all(number(value) is not None for value in known)


def _page_units(column: Column) -> str:
    """Return the units of a column as the page shows it."""
    return 'mL' if column.units == 'mm^3' else column.units


def _digits(value: float | None, divisor: int = 1) -> float | None:
    """Round to eight digits: values that differ still sort, and the page stays small."""
    return None if value is None else float(f'{value / divisor:.8g}')


def _score(value: float | None) -> str:
    """Write a robust z.

    Examples
    --------
    >>> _score(-3.84)
    '−3.8'
    """
    return '–' if value is None else f'{value:+.1f}'.replace('-', '−')


def _short(value: float | None) -> str:
    """Write a number with four digits.

    Examples
    --------
    >>> _short(1716.2), _short(45.123456), _short(0.00012345)
    ('1,716', '45.12', '0.0001234')
    """
    if value is None:
        return '–'
    return f'{value:,.0f}' if 1000 <= abs(value) < 1e9 else f'{value:.4g}'
