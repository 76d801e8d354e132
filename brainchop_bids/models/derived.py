"""Segmentations that follow from a model's labels by a table, such as tissues from structures."""

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
    """A segmentation that follows from the labels of a model.

    Parameters
    ----------
    name : str
        Its name in file names, and that of the packaged model whose labels it has.
    table : str
        The packaged table, from FreeSurfer's codes to these labels.
    labels : LabelTable
        The labels.
    values : tuple of int
        Which of them each label of the model becomes, for `brainchop_bids.image.lookup.recode`;
        all below 255.
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
        Where a name or table is not known, a label has no FreeSurfer code, or the table lacks one.
    """
    names, tables = _named_labels(), packaged_tables()
    if not isinstance(content, dict) or not (
        set(content) <= set(names) and all(table in tables for table in content.values())
    ):
        raise ModelError(
            f'{path}: "derived" is {content!r}; expected names of {", ".join(names)}, each with '
            f'one of the tables {", ".join(tables)}'
        )
    found = []
    for name, table in content.items():
        try:
            own = _read_labels(names[name])
            found.append(Derived(name, table, own, _values(labels, table, len(own))))
        except ModelError as error:
            raise ModelError(f'{path}: "derived" {name}: {error}') from error
    return tuple(found)


def _values(labels: LabelTable, table: str, classes: int) -> tuple[int, ...]:
    """Return the derived label of each label."""
    mapping = read_mapping(table)
    if mapping.classes > classes:
        raise ModelError(f'the table {table} has {mapping.classes} labels; expected {classes}')
    codes = [label.freesurfer if label.index else 0 for label in labels]
    values = [None if code is None else mapping.indices.get(code) for code in codes]
    strange = [
        f'{label.name} ({"no code" if code is None else code})'
        for label, code, value in zip(labels, codes, values, strict=True)
        if value is None
    ]
    if strange:
        more = f' and {len(strange) - 4} more' if len(strange) > 4 else ''
        raise ModelError(
            f'the table {table} has no place for {", ".join(strange[:4])}{more}; give each label '
            'a "freesurfer" code that it has'
        )
    return tuple(value for value in values if value is not None)


def _named_labels() -> dict[str, Path]:
    """Return the files of the packaged models that tell their labels."""
    folder = Path(str(resources.files('brainchop_bids.data').joinpath('models')))
    return {path.parent.name: path for path in sorted(folder.glob(f'*/{OVERRIDES}'))}


def _read_labels(path: Path) -> LabelTable:
    entries = read_json(path)['labels']
    return override_labels(LabelTable.from_names(map(str, range(len(entries)))), entries, path)
