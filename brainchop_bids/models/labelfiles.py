"""Label names and colours in model folders, in brainchop's two formats.

``colormap.json``, of which a folder may have several for different numbers of classes::

    {"R": [0, 255], "G": [0, 255], "B": [0, 255], "labels": ["background", "brain"]}

and the older pair ``labels.json``, ``{"0": "background", "1": "Gray Matter"}``, with
``colorLUT.json``, ``{"0": "rgb(0,0,0)", "1": "rgb(205,62,78)"}``.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..system.errors import ModelError
from .formats.files import read_json
from .freesurfer import freesurfer_code
from .labels import LARGEST_CODE, Color, Label, LabelTable, camel_case, clean_name, parse_color

OVERRIDES = 'brainchop.json'


def folder_labels(folder: Path, classes: int) -> tuple[LabelTable | None, list[Path]]:
    """Read the labels in a model folder.

    Parameters
    ----------
    folder : Path
        The model's folder.
    classes : int
        Number of classes. The first ``colormap*.json``, by name, with so many labels is used.

    Returns
    -------
    table : LabelTable or None
        None if the folder has no labels.
    files : list of Path
        Files of the labels.

    Raises
    ------
    ModelError
        If labels or colours cannot be read, or their number is wrong.
    """
    counts: list[str] = []
    for path in sorted(folder.glob('colormap*.json')):
        names, colors = _colormap(path)
        count = len(names) if names is not None else len(colors)
        if count == classes:
            names = names or _numbered(classes)
            return LabelTable.from_names(names, colors or None), [path]
        counts.append(f'{path.name} has {count}')
    if counts:
        raise ModelError(
            f'{folder}: the network has {classes} classes, but of its label tables '
            f'{", ".join(counts)}; add a colormap.json with {classes} labels'
        )
    path = folder / 'labels.json'
    if path.exists():
        return _read_pair(path, folder / 'colorLUT.json', classes)
    return None, []


def override_labels(table: LabelTable, entries: Any, path: Path) -> LabelTable:
    """Replace fields of labels by those in ``brainchop.json``.

    Parameters
    ----------
    table : LabelTable
        The labels.
    entries : list of dict
        Fields of `Label` for each label; ``index`` is by default the position in the list.
    path : Path
        The file, for messages.

    Raises
    ------
    ModelError
        If keys or indices are unknown, or values are of the wrong type.
    """
    labels = table.by_value()
    keys = {field.name for field in fields(Label)}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ModelError(f'{path}: "labels" is not a list of objects; expected one for each class')
    for position, entry in enumerate(entries):
        index = entry.get('index', position)
        if set(entry) - keys or type(index) is not int or index not in labels:
            raise ModelError(
                f'{path}: label {entry!r} is invalid; expected "index" 0 to '
                f'{len(table) - 1} and keys of {sorted(keys)}'
            )
        values = {key: value for key, value in entry.items() if key != 'index'}
        try:
            labels[index] = replace(labels[index], **_checked(values))
        except ValueError as error:
            raise ModelError(f'{path}: label {index}: {error}') from error
    try:
        return LabelTable(tuple(labels.values()))
    except ModelError as error:
        raise ModelError(f'{path}: {error}') from error


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    if 'color' in values:
        values['color'] = parse_color(values['color'])
    for key in ('mapping', 'freesurfer'):
        value = values.get(key)
        if value is not None and (type(value) is not int or not 0 <= value <= LARGEST_CODE):
            raise ValueError(
                f'"{key}" is {value!r}; expected a whole number of 0 to {LARGEST_CODE} or null'
            )
    for key in ('name', 'abbreviation'):
        if key in values and not isinstance(values[key], str):
            raise ValueError(f'"{key}" is {values[key]!r}; expected text')
    if 'name' in values:
        values['name'] = clean_name(values['name'])
        values.setdefault('abbreviation', camel_case(values['name']))
        values.setdefault('freesurfer', freesurfer_code(values['name']))
    return values


def _numbered(classes: int) -> list[str]:
    return ['background', *(f'Label-{i}' for i in range(1, classes))]


def _colormap(path: Path) -> tuple[list[str] | None, list[Color]]:
    """Return names, or None, and colours, or an empty list."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ModelError(f'{path}: is not an object with "R", "G", "B" and "labels"')
    names = content.get('labels')
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise ModelError(f'{path}: "labels" is not a list of names')
    parts = [content.get(key, []) for key in 'RGB']
    lengths = [len(part) if isinstance(part, list) else -1 for part in parts]
    count = lengths[0] if names is None else len(names)
    if set(lengths) not in ({count}, {0}) or (names is None and not count):
        raise ModelError(
            f'{path}: has {lengths} values of R, G, B for {count} labels; expected as many'
        )
    try:
        return names, [parse_color(list(color)) for color in zip(*parts, strict=True)]
    except ValueError as error:
        raise ModelError(f'{path}: {error}') from error


def _read_pair(path: Path, lut: Path, classes: int) -> tuple[LabelTable, list[Path]]:
    names = _numbered_entries(path, classes)
    if not lut.exists():
        return LabelTable.from_names(names), [path]
    try:
        colors = [parse_color(value) for value in _numbered_entries(lut, classes)]
    except ValueError as error:
        raise ModelError(f'{lut}: {error}') from error
    return LabelTable.from_names(names, colors), [path, lut]


def _numbered_entries(path: Path, classes: int) -> list[str]:
    content = read_json(path)
    keys = [str(i) for i in range(classes)]
    if not isinstance(content, dict) or set(content) != set(keys):
        count = len(content) if isinstance(content, (dict, list)) else 'no'
        raise ModelError(
            f'{path}: has {count} entries; the network has {classes} classes, '
            f'expected the keys "0" to "{classes - 1}"'
        )
    values = [content[key] for key in keys]
    if not all(isinstance(value, str) for value in values):
        raise ModelError(f'{path}: has values that are not text; expected a text for each key')
    return values
