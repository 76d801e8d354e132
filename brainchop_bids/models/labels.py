"""What a model's classes mean: names, colours and the codes other tools know them by."""

import colorsys
import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np

from ..system.errors import ModelError
from .freesurfer import freesurfer_code

COLUMNS = ('index', 'name', 'abbreviation', 'color', 'mapping', 'freesurfer')
MISSING = 'n/a'

Color = tuple[int, int, int]
_SIDES = {'left': 'right', 'right': 'left', 'lh': 'rh', 'rh': 'lh', 'l': 'r', 'r': 'l'}


@dataclass(frozen=True)
class Label:
    """One class of a segmentation.

    Parameters
    ----------
    index : int
        The value in the image; 0 is background.
    name : str
        The name as the model's authors wrote it.
    abbreviation : str
        Letters and digits only: it becomes part of file names (``label-<abbreviation>``).
    color : tuple of int
        Red, green, blue, 0 to 255.
    mapping : int or None
        The tissue among BIDS' common labels: 0 background, 1 grey matter, 2 white matter,
        3 cerebrospinal fluid; None where a label is none of them or a mixture.
    freesurfer : int or None
        FreeSurfer's code, where the label is exactly one of FreeSurfer's structures.
    """

    index: int
    name: str
    abbreviation: str
    color: Color
    mapping: int | None = None
    freesurfer: int | None = None

    @property
    def hex_color(self) -> str:
        """The colour as ``#rrggbb``."""
        return '#{:02x}{:02x}{:02x}'.format(*self.color)


@dataclass(frozen=True)
class LabelTable:
    """The labels of one model, indices 0 to n - 1 in order.

    Raises
    ------
    ModelError
        Where indices are not 0 to n - 1, or an abbreviation is empty, not alphanumeric or
        used twice.

    Examples
    --------
    >>> table = LabelTable.from_names(['background', 'White Matter'])
    >>> table.by_value()[1].abbreviation
    'WhiteMatter'
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Refuse tables that would give two classes one file name."""
        indices = [label.index for label in self.labels]
        if indices != list(range(len(indices))):
            raise ModelError(
                f'label indices are {indices[:10]}; expected 0, 1, 2, ... without gaps'
            )
        seen: set[str] = set()
        for label in self.labels:
            short = label.abbreviation
            # File systems that ignore case would merge `wm` with `WM`.
            if not (short.isascii() and short.isalnum()) or short.lower() in seen:
                raise ModelError(
                    f'label {label.index} ({label.name}) has the abbreviation {short!r}; '
                    'expected letters and digits that no other label uses'
                )
            seen.add(short.lower())

    def __iter__(self) -> Iterator[Label]:
        """Go through the labels in the order of their indices."""
        return iter(self.labels)

    def __len__(self) -> int:
        """Return the number of classes, background included."""
        return len(self.labels)

    @property
    def colors(self) -> np.ndarray:
        """Colours as an ``(n, 3)`` uint8 array, row = label index."""
        return np.array([label.color for label in self.labels], dtype=np.uint8).reshape(-1, 3)

    def mirrored(self) -> tuple[int, ...]:
        """Return the index that each label has in a scan flipped left to right.

        Returns
        -------
        tuple of int
            Labels of one side by those of the other, as their names have it.

        Raises
        ------
        ModelError
            Where a side has no other.
        """
        places = {label.name.lower(): label.index for label in self.labels}
        found = []
        for label in self.labels:
            other = other_side(label.name)
            if other not in places:
                raise ModelError(
                    f'label {label.name!r} has no counterpart {other!r} on the other side; leave '
                    'out --tta'
                )
            found.append(places[other])
        return tuple(found)

    def values(self, codes: str = 'model') -> tuple[int, ...]:
        """Return the value of each label in an image.

        Parameters
        ----------
        codes : {'model', 'freesurfer'}
            The labels' own indices, or FreeSurfer's codes.

        Raises
        ------
        ModelError
            Naming the labels without such a code.

        Examples
        --------
        >>> LabelTable.from_names(['Unknown', 'Left-Hippocampus']).values('freesurfer')
        (0, 17)
        """
        if codes == 'model':
            return tuple(label.index for label in self.labels)
        found = [0, *(label.freesurfer for label in self.labels[1:])]
        absent = [
            label.name for label, code in zip(self.labels, found, strict=True) if code is None
        ]
        if absent:
            more = f' and {len(absent) - 4} more' if len(absent) > 4 else ''
            raise ModelError(
                f'no FreeSurfer code for {", ".join(absent[:4])}{more}: use --label-codes model'
            )
        return tuple(code for code in found if code is not None)

    def by_value(self, codes: str = 'model') -> dict[int, Label]:
        """Return the labels by the value that they have in an image, see `values`."""
        return dict(zip(self.values(codes), self.labels, strict=True))

    @classmethod
    def from_names(
        cls, names: Iterable[str], colors: Sequence[Color] | None = None
    ) -> 'LabelTable':
        """Build a table from names alone.

        Parameters
        ----------
        names : iterable of str
            One for each class.
        colors : sequence of (r, g, b), optional
            One for each class; distinct ones are made up when there are none.

        Returns
        -------
        LabelTable
            Abbreviations are the names in CamelCase; FreeSurfer codes are filled in where a
            name is FreeSurfer's own; tissues are left open.
        """
        listed = [clean(name) for name in names]
        palette = list(colors) if colors is not None else distinct_colors(len(listed))
        shorts = unique_abbreviations(listed)
        rows = zip(listed, shorts, palette, strict=True)
        return cls(
            tuple(
                Label(i, name, short, color, None, freesurfer_code(name))
                for i, (name, short, color) in enumerate(rows)
            )
        )

    def to_tsv(self, codes: str = 'model') -> str:
        """Return the table as BIDS wants it in ``seg-<model>_dseg.tsv``.

        Parameters
        ----------
        codes : str
            What ``index`` is, see `values`.
        """
        text = StringIO()
        writer = csv.writer(text, delimiter='\t', lineterminator='\n', quoting=csv.QUOTE_MINIMAL)
        writer.writerow(COLUMNS)
        pairs = zip(self.values(codes), self.labels, strict=True)
        for value, label in sorted(pairs, key=lambda pair: pair[0]):
            known = (
                MISSING if code is None else code for code in (label.mapping, label.freesurfer)
            )
            writer.writerow((value, label.name, label.abbreviation, label.hex_color, *known))
        return text.getvalue()

    @classmethod
    def from_tsv(cls, path: str | Path) -> 'LabelTable':
        """Read a table that `to_tsv` wrote.

        Raises
        ------
        ModelError
            Where the file is missing, lacks a column or holds something else than labels.
        """
        try:
            with Path(path).open(encoding='utf-8', newline='') as file:
                reader = csv.DictReader(file, delimiter='\t')
                rows = list(reader)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f'no column {", ".join(sorted(missing))}')
            return cls(tuple(_from_row(row) for row in rows))
        except OSError as error:
            raise ModelError(f'{path}: cannot be read ({error.strerror})') from error
        except (TypeError, ValueError) as error:
            raise ModelError(
                f'{path}: is no label table ({error}); expected the columns {", ".join(COLUMNS)}'
            ) from error


def other_side(name: str) -> str:
    """Return the name of a structure on the other side, in lower case; its own if it has none.

    Examples
    --------
    >>> other_side('Left-Hippocampus'), other_side('ctx-rh-insula'), other_side('CSF')
    ('right-hippocampus', 'ctx-lh-insula', 'csf')
    """
    return ''.join(_SIDES.get(part, part) for part in _words(name))


def side(name: str) -> str:
    """Return ``'left'``, ``'right'`` or an empty string, as a structure's name has it.

    Examples
    --------
    >>> side('Left-Hippocampus'), side('ctx-rh-insula'), side('CSF')
    ('left', 'right', '')
    """
    found = {part for part in _words(name) if part in _SIDES}
    if len(found) != 1:
        return ''
    return 'left' if found <= {'left', 'lh', 'l'} else 'right'


def lateral_pairs(names: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return the labels of left and right that belong together.

    Parameters
    ----------
    names : mapping of int to str
        Label to name.

    Returns
    -------
    list of (int, int)
        Left and right, in the order of the left ones.

    Examples
    --------
    >>> lateral_pairs({1: 'Left-Caudate', 2: 'CSF', 3: 'Right-Caudate', 4: 'Left-Putamen'})
    [(1, 3)]
    """
    places = {name.lower(): label for label, name in names.items() if side(name) == 'right'}
    pairs = ((label, places.get(other_side(name))) for label, name in names.items())
    found = [(left, right) for left, right in pairs if right is not None]
    return [(left, right) for left, right in found if side(names[left]) == 'left']


def _words(name: str) -> list[str]:
    """Split a name where letters end, or before a capital, into lower-case parts."""
    return [part.lower() for part in re.split(r'([^a-zA-Z]+|(?<=[a-z])(?=[A-Z]))', name)]


def _from_row(row: dict[str, str]) -> Label:
    codes = (
        None if row[key] in (MISSING, '') else int(row[key]) for key in ('mapping', 'freesurfer')
    )
    return Label(
        int(row['index']), row['name'], row['abbreviation'], parse_color(row['color']), *codes
    )


def clean(name: str) -> str:
    """Return a name on one line, without tabs, as a cell of a TSV file must be."""
    return ' '.join(str(name).split())


def camel_case(name: str) -> str:
    """Return letters and digits of a name, each word's first letter a capital.

    Examples
    --------
    >>> camel_case('Left-Thalamus-Proper*'), camel_case('3rd-Ventricle'), camel_case('CSF')
    ('LeftThalamusProper', '3rdVentricle', 'CSF')
    """
    words = re.findall(r'[A-Za-z0-9]+', name)
    return ''.join(word[0].upper() + word[1:] for word in words)


def unique_abbreviations(names: Sequence[str]) -> list[str]:
    """Return one abbreviation per name, no two alike even where case is ignored."""
    seen: set[str] = set()
    result = []
    for index, name in enumerate(names):
        base = camel_case(name) or f'Label{index}'
        # Neither half of a doubled name may also be another label's own name.
        short, number = base, 1
        while short.lower() in seen:
            number += 1
            short = f'{base}x{number}'
        seen.add(short.lower())
        result.append(short)
    return result


def distinct_colors(count: int) -> list[Color]:
    """Return colours that differ; the first, of the background, is black.

    Hues advance by the golden section of the circle, so that neighbours in the list lie far
    apart however many there are.
    """
    golden = (5**0.5 - 1) / 2
    colors: list[Color] = [(0, 0, 0)]
    for i in range(1, count):
        rgb = colorsys.hsv_to_rgb(i * golden % 1, (0.85, 0.6, 1.0)[i % 3], (1.0, 0.9, 0.75)[i % 3])
        red, green, blue = (round(255 * part) for part in rgb)
        colors.append((red, green, blue))
    return colors[:count]


def parse_color(value: object) -> Color:
    """Read a colour: ``'#rrggbb'``, ``'rgb(r, g, b)'`` or three numbers.

    Raises
    ------
    ValueError
        For anything else, and for parts outside 0 to 255.
    """
    parts: list[int] = []
    if isinstance(value, str):
        text = value.strip().lower()
        if re.fullmatch(r'#[0-9a-f]{6}', text):
            parts = [int(text[i : i + 2], 16) for i in (1, 3, 5)]
        elif match := re.fullmatch(r'rgba?\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(,[^)]*)?\)', text):
            parts = [int(match[i]) for i in (1, 2, 3)]
    elif isinstance(value, (list, tuple)) and all(type(part) is int for part in value):
        parts = list(value)
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise ValueError(f'{value!r} is no colour; write "#rrggbb", "rgb(r,g,b)" or [r, g, b]')
    return parts[0], parts[1], parts[2]


def with_facts(table: LabelTable, facts: Sequence[Label]) -> LabelTable:
    """Give a folder's own labels the codes that are known of the model.

    Names and colours stay as the folder has them; a label whose name differs from the known
    one was renamed by somebody and keeps what follows from its new name. Only where a lone label
    is grey or white, which nobody could tell from the scan below, it takes the known colour.
    """
    alone = len(table) == 2
    merged = []
    for own, known in zip(table, facts, strict=True):
        if camel_case(own.name).lower() == camel_case(known.name).lower():
            own = replace(
                own,
                abbreviation=known.abbreviation,
                mapping=known.mapping,
                freesurfer=known.freesurfer,
                color=known.color
                if own.index == 1 and alone and _is_grey(own.color)
                else own.color,
            )
        merged.append(own)
    return LabelTable(tuple(merged))


def _is_grey(color: Color) -> bool:
    return len(set(color)) == 1
