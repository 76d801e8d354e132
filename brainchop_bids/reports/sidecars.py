"""Lenient readers for the sidecars and tables of the derivatives.

They may have been edited, truncated or copied by hand since they were written.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..quality.normative import LabelRow
from ..system.text import cell_text

_HEX_COLOR = re.compile(r'#[0-9a-fA-F]{6}')


def read_sidecar(path: Path, notes: list[str]) -> dict[str, Any]:
    """Read a sidecar; where that fails, say so in the notes.

    Parameters
    ----------
    path : Path
        A JSON file.
    notes : list of str
        A line is added where the file cannot be read.

    Returns
    -------
    dict
        Empty where it cannot be read.
    """
    try:
        metadata = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(unreadable(path, error, 'model, settings and measures are unknown'))
        return {}
    if not isinstance(metadata, dict):
        notes.append(f'{path.name} holds no JSON object: model, settings and measures are unknown')
        return {}
    return metadata


def read_label_table(path: str | Path) -> dict[int, LabelRow]:
    """Read the label table of a model, as far as it can be read.

    Parameters
    ----------
    path : str or Path
        ``seg-<slug>_dseg.tsv`` at the root of the derivatives.

    Returns
    -------
    dict of int to LabelRow
        By value in the image. Rows without an index are left out.

    Raises
    ------
    OSError, ValueError, csv.Error
        If the file cannot be read at all.
    """
    labels = {}
    for row in _rows(Path(path)):
        index = integer(row.get('index'))
        if index is None:
            continue
        color = row.get('color', '')
        labels[index] = LabelRow(
            index,
            row.get('name', ''),
            color=color.lower() if _HEX_COLOR.fullmatch(color) else None,
            freesurfer=integer(row.get('freesurfer')),
            mapping=integer(row.get('mapping')),
        )
    return labels


def read_volumes(
    path: Path, labels: Mapping[int, LabelRow], largest: float = math.inf
) -> Iterator[LabelRow]:
    """Read a scan's table of volumes, background left out.

    Parameters
    ----------
    path : Path
        The table.
    labels : mapping of int to LabelRow
        The model's label table, for colours, codes and missing names.
    largest : float
        Volumes above it are unknown.

    Yields
    ------
    LabelRow

    Raises
    ------
    OSError, ValueError, csv.Error
        If the file cannot be read, or a row is of no label.
    """
    for row in _rows(path):
        index = integer(row.get('index'))
        if index is None:
            raise ValueError(f'{row.get("index", "")!r} is no label')
        if index == 0:
            continue
        label = labels.get(index) or LabelRow(index, '')
        voxels = number(row.get('voxels'))
        yield LabelRow(
            index,
            row.get('name') or label.name,
            number(row.get('volume'), largest),
            None if voxels is None else int(voxels),
            label.color,
            label.freesurfer,
            label.mapping,
            number(row.get('confidence'), 1.0),
        )


def unreadable(path: Path, error: Exception, effect: str) -> str:
    """Say in one line that a file cannot be read and what is unknown without it.

    Parameters
    ----------
    path : Path
        The file.
    error : Exception
        The reason.
    effect : str
        Consequence for the page.

    Returns
    -------
    str
    """
    if isinstance(error, FileNotFoundError):
        return f'{path.name} is missing: {effect}'
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f'{path.name} cannot be read ({" ".join(str(reason).split())}): {effect}'


def number(value: object, largest: float = math.inf) -> float | None:
    """Return a finite number of at most this size, or None for anything else.

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
    return result if math.isfinite(result) and abs(result) <= largest else None


def integer(value: object) -> int | None:
    """Return an integer, or None for anything else.

    Examples
    --------
    >>> integer('17'), integer(2.5), integer('n/a')
    (17, None, None)
    """
    result = number(value)
    return int(result) if result is not None and result.is_integer() else None


def plain(value: object) -> str:
    """Write a value of a sidecar on one line; nested lists and objects are left out.

    Examples
    --------
    >>> plain(['T1w', 2, None, False, [1]])
    'T1w, 2, n/a, no, …'
    """
    items = value if isinstance(value, list) else [value]
    constants = {None: 'n/a', True: 'yes', False: 'no'}
    words = []
    for item in items:
        if item is None or isinstance(item, bool):
            words.append(constants[item])
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
            yield {
                key: cell_text(value) if key == 'name' else value
                for key, value in row.items()
                if key is not None
            }
