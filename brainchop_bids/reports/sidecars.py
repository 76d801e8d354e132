"""Sidecars and tables of the derivatives, read back as far as they can be read.

They may have been edited, truncated or copied by hand since they were written.
"""

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEX_COLOR = re.compile(r'#[0-9a-fA-F]{6}')


@dataclass(frozen=True)
class LabelStyle:
    """One row of the label table at the root of the derivatives.

    Parameters
    ----------
    name : str
        Name of the structure.
    color : str or None
        ``#rrggbb``; None where the table has no such colour.
    freesurfer : int or None
        FreeSurfer's code.
    mapping : int or None
        BIDS' common label: 1 grey matter, 2 white matter, 3 fluid.
    """

    name: str
    color: str | None
    freesurfer: int | None = None
    mapping: int | None = None


@dataclass(frozen=True)
class LabelVolume:
    """One label of one scan.

    Parameters
    ----------
    index : int
        Value in the image.
    name : str
        Name of the structure.
    voxels : int or None
        Number of voxels; None where the table has no number.
    volume : float or None
        Volume in mm^3.
    color : str or None
        ``#rrggbb``.
    """

    index: int
    name: str
    voxels: int | None
    volume: float | None
    color: str | None


def read_facts(path: Path, notes: list[str]) -> dict[str, Any]:
    """Read a sidecar; where that fails, say so in the notes.

    Parameters
    ----------
    path : Path
        A JSON file.
    notes : list of str
        What could not be read is added, each one line.

    Returns
    -------
    dict
        Empty where it cannot be read.
    """
    try:
        facts = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(unreadable(path, error, 'how the result was made is unknown'))
        return {}
    if not isinstance(facts, dict):
        notes.append(f'{path.name} holds no JSON object: how the result was made is unknown')
        return {}
    return facts


def read_label_table(path: str | Path) -> dict[int, LabelStyle]:
    """Read the label table of a model, as far as it can be read.

    Parameters
    ----------
    path : str or Path
        ``seg-<slug>_dseg.tsv`` at the root of the derivatives.

    Returns
    -------
    dict of int to LabelStyle
        By value in the image. Rows without an index are left out.

    Raises
    ------
    OSError, ValueError, csv.Error
        If the file cannot be read at all.
    """
    styles = {}
    for row in _rows(Path(path)):
        index = whole(row.get('index'))
        if index is None:
            continue
        color = row.get('color', '')
        styles[index] = LabelStyle(
            row.get('name', ''),
            color.lower() if _HEX_COLOR.fullmatch(color) else None,
            whole(row.get('freesurfer')),
            whole(row.get('mapping')),
        )
    return styles


def read_volumes(path: Path, styles: dict[int, LabelStyle]) -> Iterator[LabelVolume]:
    """Read a scan's table of volumes, background left out.

    Parameters
    ----------
    path : Path
        The table.
    styles : dict of int to LabelStyle
        The model's label table, for names and colours.

    Yields
    ------
    LabelVolume

    Raises
    ------
    OSError, ValueError, csv.Error
        If the file cannot be read, or a row is of no label.
    """
    for row in _rows(path):
        index = number(row.get('index'))
        if index is None or index != int(index):
            raise ValueError(f'{row.get("index", "")!r} is no label')
        if index == 0:
            continue
        style = styles.get(int(index), LabelStyle('', None))
        voxels = number(row.get('voxels'))
        yield LabelVolume(
            int(index),
            row.get('name') or style.name,
            None if voxels is None else int(voxels),
            number(row.get('volume')),
            style.color,
        )


def unreadable(path: Path, error: Exception, so: str) -> str:
    """Say in one line that a file cannot be read and what is missing for it.

    Parameters
    ----------
    path : Path
        The file.
    error : Exception
        Why.
    so : str
        What follows from it.

    Returns
    -------
    str
    """
    if isinstance(error, FileNotFoundError):
        return f'{path.name} is missing: {so}'
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f'{path.name} cannot be read ({" ".join(str(reason).split())}): {so}'


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else.

    Examples
    --------
    >>> number('12.5'), number('n/a'), number(True), number('nan')
    (12.5, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def whole(value: object) -> int | None:
    """Return a whole number, or None for anything else.

    Examples
    --------
    >>> whole('17'), whole(2.5), whole('n/a')
    (17, None, None)
    """
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def plain(value: object) -> str:
    """Write a value of a sidecar on one line; what lies deeper than one list is left out.

    Examples
    --------
    >>> plain(['T1w', 2, None, False, [1]])
    'T1w, 2, n/a, no, …'
    """
    items = value if isinstance(value, list) else [value]
    spoken = {None: 'n/a', True: 'yes', False: 'no'}
    words = []
    for item in items:
        if item is None or isinstance(item, bool):
            words.append(spoken[item])
        else:
            words.append('…' if isinstance(item, (list, dict)) else str(item))
    return ', '.join(words)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Read a TSV file with an ``index`` column; short rows are filled up."""
    with path.open(encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file, delimiter='\t', restval='')
        if 'index' not in (reader.fieldnames or ()):
            raise ValueError('it has no column "index"')
        for row in reader:
            yield {key: value for key, value in row.items() if key is not None}
