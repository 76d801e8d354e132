"""Filters of scans, in the spelling of fMRIPrep's ``--bids-filter-file``."""

import json
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..system.errors import SettingsError
from ..system.files import read_text
from .names import MODALITIES

# Queries of fMRIPrep and its siblings, so that one file serves them all; ours are those of
# `MODALITIES` in lower case.
QUERIES = (
    *map(str.lower, MODALITIES), 'roi', 'bold', 'sbref', 'fmap', 'dwi', 'asl', 'm0scan', 'pet'
)  # fmt: skip
# pybids' names of entities (its config "bids") to their other names: those in file names, and
# those of the BIDS schema where pybids has its own.
ENTITIES: dict[str, tuple[str, ...]] = {
    'subject': ('sub',),
    'session': ('ses',),
    'sample': (),
    'task': (),
    'tracksys': (),
    'acquisition': ('acq',),
    'nucleus': ('nuc',),
    'volume': ('voi',),
    'ceagent': ('ce',),
    'staining': ('stain',),
    'tracer': ('trc',),
    'reconstruction': ('rec',),
    'direction': ('dir',),
    'run': (),
    'proc': ('processing',),
    'modality': ('mod',),
    'echo': (),
    'flip': (),
    'inv': ('inversion',),
    'mt': ('mtransfer',),
    'part': (),
    'recording': (),
    'space': (),
    'chunk': (),
    'suffix': (),
    'datatype': (),
    'extension': (),
}
_LONG = {other: name for name, others in ENTITIES.items() for other in (name, *others)}
_PREFIXES = {'subject': 'sub-', 'session': 'ses-'}
# An argument of pybids, which fMRIPrep passes on.
_REGEX = 'regex_search'


def read_filters(path: Path, query: str = 't1w') -> dict[str, Any]:
    """Read the filters of scans from a filter file.

    Parameters
    ----------
    path : Path
        JSON file such as ``{"t1w": {"session": "*", "acquisition": null, "run": [1, 2]}}``.
        ``"*"`` stands for any value and null for an entity that is absent; entities may have
        their short names. Queries for other images are ignored.
    query : str
        One of `QUERIES`.

    Returns
    -------
    dict
        pybids' names of entities to values as in the file.

    Raises
    ------
    SettingsError
        If the file cannot be read, or has an unknown query, entity or value.
    """
    try:
        content = json.loads(read_text(path, 'utf-8-sig'))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f'{path}: not a JSON file: {error}') from None
    if not isinstance(content, dict):
        raise SettingsError(f'{path}: expected an object with filters under the key "{query}"')
    for name in content:
        if name not in QUERIES:
            raise SettingsError(f'{path}: {_unknown("query", name, QUERIES)}')
    return check_filters(content.get(query, {}), f'{path}: {query}')


def check_filters(filters: Any, where: str) -> dict[str, Any]:
    """Check filters, and give entities the names that pybids has for them.

    Parameters
    ----------
    filters : dict
        Names of entities to a value or a list of values.
    where : str
        Their origin, which begins the message.

    Returns
    -------
    dict

    Raises
    ------
    SettingsError
        If they are no such table.
    """
    if not isinstance(filters, dict):
        raise SettingsError(f'{where}: expected an object with filters, such as {{"run": 1}}')
    checked: dict[str, Any] = {}
    for name, value in filters.items():
        if name == _REGEX and isinstance(value, bool):
            checked[name] = value
            continue
        if name not in _LONG:
            raise SettingsError(f'{where}: {_unknown("entity", name, _LONG)}')
        entity = _LONG[name]
        if entity in checked:
            raise SettingsError(f'{where}: {entity} is there twice, the second time as {name!r}')
        values = value if isinstance(value, list) else [value]
        if not values or not all(one is None or isinstance(one, str | int) for one in values):
            raise SettingsError(
                f'{where}: {name} is {value!r}; expected a text, a number, null (the entity is '
                'absent), "*" (any value), or a list of these'
            )
        values = [_bare(entity, one) for one in values]
        checked[entity] = values if isinstance(value, list) else values[0]
    return checked


def to_pybids(filters: dict[str, Any]) -> dict[str, Any]:
    """Replace the values that stand for any value and for none by those of pybids."""
    from bids.layout import Query

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(one) for one in value]
        if value is None:
            return Query.NONE
        return Query.ANY if value == '*' else value

    return {name: convert(value) for name, value in filters.items()}


def _bare(entity: str, value: Any) -> Any:
    prefix = _PREFIXES.get(entity)
    return value.removeprefix(prefix) if prefix and isinstance(value, str) else value


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), by_lower, n=1)
    hint = f'did you mean {by_lower[near[0]]!r}? ' if near else ''
    return f'unknown {what} {name!r}; {hint}known are {", ".join(known)}'
