"""Segmentations derived from a model's labels by a table, such as tissues from structures."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..system.errors import ModelError
from .formats.files import read_json
from .labelfiles import OVERRIDES, override_labels
from .labels import LabelTable
from .mapping import packaged_tables, read_mapping


@dataclass(frozen=True)
class Derived:
    """A segmentation that is derived from the labels of a model.

    Parameters
    ----------
    name : str
        Name in file names, which is that of the packaged model whose labels it has.
    table : str
        Name of the packaged table from FreeSurfer's codes to these labels.
    labels : LabelTable
        Labels of the segmentation.
    values : tuple of int
        Derived label, below 255, of each label of the model, for
        `brainchop_bids.image.lookup.recode`.
    """

    name: str
    table: str
    labels: LabelTable
    values: tuple[int, ...]


def read_derived(content: Any, labels: LabelTable, path: Path) -> tuple[Derived, ...]:
    """Read ``derived`` of a ``brainchop.json``.

    Parameters
    ----------
    content : dict of str to str
        Names of packaged models to names of packaged tables.
    labels : LabelTable
        The labels of the model.
    path : Path
        The file, for messages.

    Returns
    -------
    tuple of Derived

    Raises
    ------
    ModelError
        If a name or table is unknown, a label has no FreeSurfer code, or the table lacks it.
    """
    names, tables = _named_labels(), packaged_tables()
    if not isinstance(content, dict) or not (
        set(content) <= set(names) and all(table in tables for table in content.values())
    ):
        raise ModelError(
            f'{path}: "derived" is {content!r}; expected names of {", ".join(names)}, each with '
            f'one of the tables {", ".join(tables)}'
        )
    derived = []
    for name, table in content.items():
        try:
            own = _read_labels(names[name])
            derived.append(Derived(name, table, own, _values(labels, table, len(own))))
        except ModelError as error:
            raise ModelError(f'{path}: "derived" {name}: {error}') from error
    return tuple(derived)


def _values(labels: LabelTable, table: str, classes: int) -> tuple[int, ...]:
    """Return the derived label of each label."""
    mapping = read_mapping(table)
    if mapping.classes > classes:
        raise ModelError(f'the table {table} has {mapping.classes} labels; expected {classes}')
    codes = [label.freesurfer if label.index else 0 for label in labels]
    values = [None if code is None else mapping.indices.get(code) for code in codes]
    missing = [
        f'{label.name} ({"no code" if code is None else code})'
        for label, code, value in zip(labels, codes, values, strict=True)
        if value is None
    ]
    if missing:
        more = f' and {len(missing) - 4} more' if len(missing) > 4 else ''
        raise ModelError(
            f'the table {table} has no place for {", ".join(missing[:4])}{more}; give each label '
            'a "freesurfer" code that it has'
        )
    return tuple(value for value in values if value is not None)


def _named_labels() -> dict[str, Path]:
    """Return the ``brainchop.json`` files of the packaged models by name."""
    folder = Path(str(resources.files('brainchop_bids.data').joinpath('models')))
    return {path.parent.name: path for path in sorted(folder.glob(f'*/{OVERRIDES}'))}


def _read_labels(path: Path) -> LabelTable:
    entries = read_json(path)['labels']
    return override_labels(LabelTable.from_names(map(str, range(len(entries)))), entries, path)
