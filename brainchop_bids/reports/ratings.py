"""Ratings: judgements of results by people, downloaded from participants' pages.

The format is JSON or a table of tab-separated values, with the same entries::

    {"Ratings": [{"participant_id": "sub-01", "bids_name": "sub-01_T1w", "model": "tissue",
                  "rating": "fail", "note": "temporal poles are cut off", "rater": "Ann",
                  "rated": "2026-11-21T20:15:00Z", "source_sha256": "...",
                  "model_sha256": "..."}]}

`bids_name`
    The scan's file name without extension; with `participant_id` and `model` (its name in file
    names, ``seg-<model>``) it identifies the result.
`rating`
    ``pass``, ``fail`` or ``unsure``.
`note`, `rater`
    Free text, perhaps empty.
`rated`
    Time in ISO 8601; UTC where it has no time zone.
`source_sha256`, `model_sha256`
    Checksums of the scan and of the model, as the labels' sidecar has them
    (``Brainchop.SourceSHA256``, ``Model.SHA256``): a rating belongs to one result, not to one that
    is computed later. Without them a rating applies to the current result.

Only `participant_id`, `bids_name`, `model` and `rating` are required. In tables a cell that holds
tabs, line breaks or quotation marks stands in quotation marks, and its own are doubled.

Files are found by their names, ``*_ratings.json`` and ``*_ratings.tsv``, at the root of the
derivatives and in ``ratings/`` there. Where raters agree, theirs is the rating; where they do not,
it is ``mixed``. Of one rater's ratings of one result the latest counts. A rater without a name is
taken for another one in each file.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path
from typing import Any

from ..system.text import cell_text
from .records import ScanRecord
from .text import log_line, one_line

RATINGS = ('pass', 'fail', 'unsure')
MIXED = 'mixed'
FOLDER = 'ratings'
_LONGEST_AGO = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Rating:
    """Rating of one result by one person.

    Parameters
    ----------
    participant_id, bids_name, model, rating, note, rater, rated, source_sha256, model_sha256 : str
        The entries of the format, on one line each; empty where they are missing.
    file : str
        File of the rating, relative to the root of the derivatives.
    """

    participant_id: str
    bids_name: str
    model: str
    rating: str
    note: str
    rater: str
    rated: str
    source_sha256: str
    model_sha256: str
    file: str

    @property
    def time(self) -> datetime:
        """Time of the rating; year 1 where it is unknown."""
        try:
            # Python 3.10 does not know the Z.
            when = datetime.fromisoformat(self.rated.replace('Z', '+00:00'))
            return when.astimezone(timezone.utc) if when.tzinfo else _in_utc(when)
        except (ValueError, OverflowError):
            return _LONGEST_AGO

    @property
    def by(self) -> tuple[str, str]:
        """Identity of the rater: the name, or the file where the name is missing."""
        return (self.rater.casefold(), '' if self.rater else self.file)


ENTRIES = tuple(entry.name for entry in fields(Rating) if entry.name != 'file')


@dataclass(frozen=True)
class Verdict:
    """Combined rating of one result.

    Parameters
    ----------
    rating : str
        One of `RATINGS`, or `MIXED`.
    raters : tuple of str
        Their names, an empty one for those who gave none.
    note : str
        Their notes, each with its rater's name where there are several raters.
    """

    rating: str
    raters: tuple[str, ...]
    note: str


def read_ratings(root: Path) -> tuple[list[Rating], list[str]]:
    """Read all files of ratings.

    Parameters
    ----------
    root : Path
        Root of the derivatives.

    Returns
    -------
    ratings : list of Rating
        In the order of the files.
    notes : list of str
        Files that could not be read, one line each.
    """
    ratings: list[Rating] = []
    notes: list[str] = []
    for path in _files(root):
        file = path.relative_to(root).as_posix()
        try:
            listed = _parse(path)
        except (OSError, ValueError, RecursionError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            notes.append(f'{file} cannot be read ({reason}): its ratings are not used')
            continue
        for place, entry in enumerate(listed, 1):
            rating = _rating(entry, file)
            if isinstance(rating, str):
                notes.append(f'{file}: rating {place} is not used: {rating}')
            else:
                ratings.append(rating)
    return ratings, [log_line(note) for note in notes]


def merge_ratings(
    ratings: Iterable[Rating], scans: Mapping[str, Sequence[ScanRecord]]
) -> tuple[dict[tuple[str, str], Verdict], list[str]]:
    """Assign ratings to results.

    Parameters
    ----------
    ratings : iterable of Rating
        See `read_ratings`.
    scans : mapping of str to sequence of ScanRecord
        The finished scans of each model, by its name in file names.

    Returns
    -------
    verdicts : dict of (str, str) to Verdict
        By model and `ScanRecord.bids_name`.
    notes : list of str
        Ratings that are not used, one line each.
    """
    index = {(slug, scan.bids_name): scan for slug, members in scans.items() for scan in members}
    notes: list[str] = []
    latest: dict[tuple[str, str], dict[tuple[str, str], Rating]] = {}
    for rating in ratings:
        key = (rating.model, rating.bids_name)
        scan = index.get(key)
        if scan is None or scan.participant_id != rating.participant_id:
            notes.append(_unused(rating, 'the result does not exist'))
        elif _differ(rating.source_sha256, scan.source_sha256):
            notes.append(_unused(rating, 'the scan has changed since'))
        elif _differ(rating.model_sha256, scan.model_sha256):
            notes.append(_unused(rating, 'it is of the result of an earlier model'))
        else:
            mine = latest.setdefault(key, {})
            earlier = mine.get(rating.by)
            if earlier is None or rating.time >= earlier.time:
                mine[rating.by] = rating
    verdicts = {key: _verdict(list(mine.values())) for key, mine in latest.items()}
    return verdicts, [log_line(note) for note in notes]


def _files(root: Path) -> list[Path]:
    """List the files of ratings by their names."""
    paths: list[Path] = []
    for folder in (root, root / FOLDER):
        for ending in ('json', 'tsv'):
            with suppress(OSError):
                paths += folder.glob(f'*_ratings.{ending}')
    # Reading from a pipe would block.
    return sorted(path for path in paths if path.is_file() and not path.name.startswith('.'))


def _parse(path: Path) -> list[Any]:
    """Read the entries of one file, without checking them."""
    text = path.read_text(encoding='utf-8-sig')
    if path.suffix == '.json':
        content = json.loads(text)
        listed = content.get('Ratings') if isinstance(content, dict) else None
        if not isinstance(listed, list):
            raise ValueError('it has no list "Ratings"')
        return listed
    try:
        rows = _table(text, strict=True)
    except csv.Error:
        # A table by hand, with quotation marks that are only text.
        rows = _table(text, quoting=csv.QUOTE_NONE)
    missing = [name for name in ('bids_name', 'rating') if rows and name not in rows[0]]
    if not text.strip() or missing:
        raise ValueError(f'it has no column {missing[0] if missing else "bids_name"!r}')
    return rows


def _table(text: str, **options: Any) -> list[Any]:
    rows = csv.DictReader(StringIO(text, newline=''), delimiter='\t', **options)
    return [
        {key: cell_text(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]


def _rating(entry: object, file: str) -> Rating | str:
    """Read one entry; return the fault of one that cannot be used."""
    if not isinstance(entry, dict):
        return 'it is no JSON object'
    texts = {name: _entry(entry.get(name)) for name in ENTRIES}
    texts['rating'] = texts['rating'].lower()
    texts['participant_id'] = f'sub-{texts["participant_id"].removeprefix("sub-")}'
    for name in ('bids_name', 'model'):
        if not texts[name]:
            return f'it has no {name}'
    if texts['rating'] not in RATINGS:
        return f'{texts["rating"][:40]!r} is none of {", ".join(RATINGS)}'
    return Rating(**texts, file=file)


def _entry(value: object) -> str:
    """Write an entry on one line; empty for ``n/a`` and all but text and numbers."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ''
    text = one_line(value)
    return '' if text == 'n/a' else text


def _verdict(ratings: Sequence[Rating]) -> Verdict:
    """Combine the ratings of several raters."""
    given = {rating.rating for rating in ratings}
    several = len(ratings) > 1
    notes = [
        f'{rating.rater or "anonymous"}: {rating.note}' if several else rating.note
        for rating in ratings
        if rating.note
    ]
    return Verdict(
        given.pop() if len(given) == 1 else MIXED,
        tuple(rating.rater for rating in ratings),
        '; '.join(notes),
    )


def _differ(rated: str, current: str) -> bool:
    """Return whether two checksums differ; False where one is unknown."""
    return bool(rated and current) and rated.lower() != current.lower()


def _unused(rating: Rating, reason: str) -> str:
    by = f' by {rating.rater}' if rating.rater else ''
    what = f'{rating.participant_id} {rating.bids_name} (seg-{rating.model})'
    return f'{rating.file}: the rating of {what}{by} is not used: {reason}'


def _in_utc(when: datetime) -> datetime:
    return when.replace(tzinfo=timezone.utc)
