"""Label tables: names, colours and codes of a model's classes."""

import colorsys
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO

import numpy as np

from ..system.errors import ModelError
from ..system.text import near, printable, table_cell
from .freesurfer import freesurfer_code
from .sides import other_side

COLUMNS = ('index', 'name', 'abbreviation', 'color', 'mapping', 'freesurfer')
MISSING = 'n/a'
# Codes of FreeSurfer's cortical parcellations are up to 14175; larger ones are not labels.
LARGEST_CODE = 65535
# Labels that are no structure of FreeSurfer's get this and their index as its code. The largest
# number in FreeSurferColorLUT.txt is 14175, and 16-bit integers with a sign end at 32767.
FREE_CODES = 30000

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Label:
    """One class of a segmentation.

    Parameters
    ----------
    index : int
        Value in images; 0 is background.
    name : str
        Name, as the model's authors write it.
    abbreviation : str
        Name for file names (``label-<abbreviation>``), of letters and digits.
    color : tuple of int
        Red, green, blue, 0 to 255.
    mapping : int or None
        Tissue, as one of BIDS' common labels: 0 background, 1 grey matter, 2 white matter,
        3 cerebrospinal fluid; None for others and for mixtures.
    freesurfer : int or None
        FreeSurfer's code, if the label is one of FreeSurfer's structures.
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
    """The labels of a model, in the order of their indices 0 to n - 1.

    Raises
    ------
    ModelError
        If indices are not 0 to n - 1, or an abbreviation is not alphanumeric or not unique.

    Examples
    --------
    >>> table = LabelTable.from_names(['background', 'White Matter'])
    >>> table.by_value()[1].abbreviation
    'WhiteMatter'
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Check indices, and that file names of labels will be unique."""
        indices = [label.index for label in self.labels]
        if indices != list(range(len(indices))):
            raise ModelError(
                f'label indices are {indices[:10]}; expected 0, 1, 2, ... without gaps'
            )
        seen: set[str] = set()
        for label in self.labels:
            short = label.abbreviation
            # Some file systems ignore case.
            if not (short.isascii() and short.isalnum()) or short.lower() in seen:
                raise ModelError(
                    f'label {label.index} ({label.name}) has the abbreviation {short!r}; '
                    'expected letters and digits that no other label uses'
                )
            seen.add(short.lower())

    def __iter__(self) -> Iterator[Label]:
        """Iterate over the labels in the order of their indices."""
        return iter(self.labels)

    def __len__(self) -> int:
        """Return the number of classes, background included."""
        return len(self.labels)

    @property
    def colors(self) -> np.ndarray:
        """Colours as an ``(n, 3)`` uint8 array, row = label index."""
        return np.array([label.color for label in self.labels], dtype=np.uint8).reshape(-1, 3)

    def mirrored(self) -> tuple[int, ...]:
        """Return the index of each label after a flip from left to right.

        Returns
        -------
        tuple of int
            Index of the label of the other side, by name; that of the label itself if it has no
            side.

        Raises
        ------
        ModelError
            If a label has no counterpart.
        """
        indices = {label.name.lower(): label.index for label in self.labels}
        mirrored = []
        for label in self.labels:
            other = other_side(label.name)
            if other not in indices:
                raise ModelError(
                    f'label {label.name!r} has no counterpart {other!r} on the other side; leave '
                    'out --tta'
                )
            mirrored.append(indices[other])
        return tuple(mirrored)

    def values(self, codes: str = 'model') -> tuple[int, ...]:
        """Return the value of each label in an image.

        Parameters
        ----------
        codes : {'model', 'freesurfer'}
            The labels' own indices, or FreeSurfer's codes. A label that is none of FreeSurfer's
            structures has the code ``FREE_CODES`` (30000) plus its index, which FreeSurfer's
            colour table does not use.

        Examples
        --------
        >>> LabelTable.from_names(['Unknown', 'Left-Hippocampus', 'Scalp']).values('freesurfer')
        (0, 17, 30002)
        """
        if codes == 'model':
            return tuple(label.index for label in self.labels)
        codes_of = [
            FREE_CODES + label.index if label.freesurfer is None else label.freesurfer
            for label in self.labels[1:]
        ]
        # Background is 0, whatever its code.
        return (0, *codes_of)

    def by_value(self, codes: str = 'model') -> dict[int, Label]:
        """Return the labels by the value that they have in an image, see `values`."""
        return dict(zip(self.values(codes), self.labels, strict=True))

    def subset(self, names: Sequence[str]) -> frozenset[int]:
        """Return the indices of some labels.

        Parameters
        ----------
        names : sequence of str
            Names, abbreviations or indices; case and all but letters and digits are ignored.

        Returns
        -------
        frozenset of int

        Raises
        ------
        ModelError
            If there is no such label.

        Examples
        --------
        >>> table = LabelTable.from_names(['background', 'White Matter', 'Grey Matter'])
        >>> sorted(table.subset(['white-matter', '2']))
        [1, 2]
        """
        known = {
            camel_case(str(name)).lower(): label.index
            for label in reversed(self.labels[1:])
            for name in (label.name, label.abbreviation, label.index)
        }
        found = {name: known.get(camel_case(name).lower()) for name in names}
        for name, index in found.items():
            if index is None:
                listed = [label.name for label in self.labels[1:]]
                raise ModelError(
                    f'no label is called {name!r}{near(name, listed)}; labels: {", ".join(listed)}'
                )
        return frozenset(index for index in found.values() if index is not None)

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
            One for each class; by default `distinct_colors`.

        Returns
        -------
        LabelTable
            Abbreviations are the names in CamelCase; FreeSurfer's codes are those of names that
            FreeSurfer uses; tissues are None.
        """
        cleaned = [clean_name(name) for name in names]
        palette = list(colors) if colors is not None else distinct_colors(len(cleaned))
        rows = zip(cleaned, unique_abbreviations(cleaned), palette, strict=True)
        return cls(
            tuple(
                Label(i, name, short, color, None, freesurfer_code(name))
                for i, (name, short, color) in enumerate(rows)
            )
        )

    def to_tsv(self, codes: str = 'model') -> str:
        """Return the table as the content of a BIDS ``dseg.tsv`` file.

        Parameters
        ----------
        codes : str
            Codes in the column ``index``, see `values`.
        """
        text = StringIO()
        writer = csv.writer(text, delimiter='\t', lineterminator='\n', quoting=csv.QUOTE_MINIMAL)
        writer.writerow(COLUMNS)
        pairs = zip(self.values(codes), self.labels, strict=True)
        for value, label in sorted(pairs, key=lambda pair: pair[0]):
            other_codes = (
                MISSING if code is None else code for code in (label.mapping, label.freesurfer)
            )
            name = table_cell(label.name)
            writer.writerow((value, name, label.abbreviation, label.hex_color, *other_codes))
        return text.getvalue()


def clean_name(name: str) -> str:
    """Replace white space by single spaces, as needed in a TSV file, and escape controls."""
    return printable(' '.join(str(name).split()))


def camel_case(name: str) -> str:
    """Return the letters and digits of a name in CamelCase.

    Examples
    --------
    >>> camel_case('Left-Thalamus-Proper*'), camel_case('3rd-Ventricle'), camel_case('CSF')
    ('LeftThalamusProper', '3rdVentricle', 'CSF')
    """
    words = re.findall(r'[A-Za-z0-9]+', name)
    return ''.join(word[0].upper() + word[1:] for word in words)


def unique_abbreviations(names: Sequence[str]) -> list[str]:
    """Return abbreviations of names that are unique even if case is ignored."""
    # The number that was last appended to each abbreviation.
    numbers: dict[str, int] = {}
    result = []
    for index, name in enumerate(names):
        base = camel_case(name) or f'Label{index}'
        short, number = base, numbers.get(base.lower(), 1)
        # A name with a number may be the name of another label.
        while short.lower() in numbers:
            number += 1
            short = f'{base}x{number}'
        numbers[base.lower()] = number
        numbers.setdefault(short.lower(), 1)
        result.append(short)
    return result


def distinct_colors(count: int) -> list[Color]:
    """Return distinct colours, of which the first, for the background, is black.

    Hues advance by the golden ratio of the circle, so that neighbours in the list differ strongly
    for any number of colours.
    """
    golden = (5**0.5 - 1) / 2
    colors: list[Color] = [(0, 0, 0)]
    for i in range(1, count):
        rgb = colorsys.hsv_to_rgb(i * golden % 1, (0.85, 0.6, 1.0)[i % 3], (1.0, 0.9, 0.75)[i % 3])
        red, green, blue = (round(255 * part) for part in rgb)
        colors.append((red, green, blue))
    return colors[:count]


def parse_color(value: object) -> Color:
    """Parse a colour: ``'#rrggbb'``, ``'rgb(r, g, b)'`` or three numbers.

    Raises
    ------
    ValueError
        For anything else, and for values outside 0 to 255.
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


def add_known_codes(table: LabelTable, facts: Sequence[Label]) -> LabelTable:
    """Add abbreviations and codes from the registry to the labels in a model folder.

    Names and colours of the folder are kept, and labels whose names differ from those of the
    registry are not changed. A single grey label also gets the colour of the registry, since grey
    cannot be distinguished from the scan.
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
