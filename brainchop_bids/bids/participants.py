"""Reading of a dataset's ``participants.tsv``."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

_MISSING = 'n/a'
_KEY = 'participant_id'


@dataclass(frozen=True)
class Participants:
    """Content of ``participants.tsv``.

    Parameters
    ----------
    columns : tuple of str
        Names of all columns except ``participant_id``.
    rows : dict of str to dict of str to str
        Cells of each participant by ``participant_id`` (with ``sub-``) and column.
    notes : tuple of str
        One line for each problem: what could not be read or is left out.
    """

    columns: tuple[str, ...] = ()
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_participants(bids_dir: Path) -> Participants:
    """Read ``participants.tsv``.

    Parameters
    ----------
    bids_dir : Path
        Root of the raw dataset.

    Returns
    -------
    Participants
        Empty, with a note, if there is no such table. A participant with contradictory rows is
        left out.
    """
    path = bids_dir / 'participants.tsv'
    try:
        # Reading a pipe or a device would never end.
        if not path.is_file():
            return Participants(notes=(f'{path} is missing: its columns are left out',))
        with path.open(encoding='utf-8-sig', newline='') as file:
            lines = [line for line in csv.reader(file, delimiter='\t') if any(line)]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        note = f'{path} cannot be read ({reason}): its columns are left out'
        return Participants(notes=(note,))
    if not lines or _KEY not in lines[0]:
        note = f'{path} has no column participant_id: its columns are left out'
        return Participants(notes=(note,))
    return _join(path, lines[0], lines[1:])


def _join(path: Path, header: list[str], lines: list[list[str]]) -> Participants:
    """Arrange rows by participant; leave out participants with contradictory rows."""
    notes = []
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        places.setdefault(name.strip(), place)
    if len(places) < len(header):
        notes.append(f'{path} has columns of one name: the first of them is used')
    key = places.pop(_KEY)
    places.pop('', None)
    rows: dict[str, dict[str, str]] = {}
    twice: set[str] = set()
    for line in lines:
        cells = line + [_MISSING] * (len(header) - len(line))
        who = f'sub-{cells[key].strip().removeprefix("sub-")}'
        row = {name: cells[place].strip() or _MISSING for name, place in places.items()}
        if rows.setdefault(who, row) != row:
            twice.add(who)
    if twice:
        listed = ', '.join(sorted(twice)[:5]) + (', ...' if len(twice) > 5 else '')
        notes.append(f'{path} says different things of {listed}: n/a')
    kept = {who: row for who, row in rows.items() if who not in twice}
    return Participants(tuple(places), kept, tuple(notes))
