"""Tables from the codes of label maps to labels.

A table is a TSV file with the columns ``code`` and ``index``, and optionally ``label``, the name
of the index; other columns are ignored::

    code	name	index	label
    2	Left-Cerebral-White-Matter	2	WM
    1000-1999	ctx-lh-*	1	GM

A code may be a range. An index of two labels, ``1/19``, is that of a structure without a side in a
table with sides: each of its voxels gets the label of the two that is nearer.

The label table of a BIDS derivative, with the columns ``index`` and ``mapping``, is also such a
table, from its labels to BIDS' common ones, 0 background, 1 GM, 2 WM, 3 CSF.
"""

import csv
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..image.lookup import histogram
from ..system.errors import ModelError
from ..system.files import require_regular
from .labels import LARGEST_CODE

# Voxels around structures without a side in which their sides are sought first.
_NEAR = 16


@dataclass(frozen=True)
class LabelMapping:
    """A table from codes to labels.

    Parameters
    ----------
    name : str
        Name or path of the table, for messages.
    indices : dict of int to int
        Label of each code.
    labels : dict of int to str
        Names of labels, as far as the table has them.
    sides : dict of int to (int, int)
        Left and right label of codes without a side, which are not in ``indices``.
    """

    name: str
    indices: dict[int, int]
    labels: dict[int, str] = field(default_factory=dict)
    sides: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of labels, background included."""
        return max(self.indices.values()) + 1

    @property
    def empty(self) -> list[int]:
        """Labels, up to the last one, that no code is mapped to."""
        return sorted(set(range(self.classes)).difference(self.indices.values()))

    @cached_property
    def table(self) -> np.ndarray:
        """Label of each code, uint8; 255 for codes without a label."""
        table = np.full(max(self.indices) + 1, 255, np.uint8)
        for code, index in self.indices.items():
            table[code] = index
        return table

    def apply(self, codes: np.ndarray, name: str | Path = 'the label map') -> np.ndarray:
        """Return the label of each voxel.

        Parameters
        ----------
        codes : integer array
            Codes of 0 to 65535.
        name : str or path
            The file, for messages.

        Returns
        -------
        uint8 array of the same shape

        Raises
        ------
        ModelError
            If the table lacks codes; the message names them.

        Examples
        --------
        >>> LabelMapping('aseg', {0: 0, 2: 2, 41: 2}).apply(np.array([0, 41])).tolist()
        [0, 2]
        """
        self.check(codes, name)
        labels: np.ndarray = self.table[self.with_sides(codes, name)]
        return labels

    def with_sides(self, codes: np.ndarray, name: str | Path = 'the label map') -> np.ndarray:
        """Replace codes without a side by those of the nearer side.

        Parameters
        ----------
        codes : integer array
            Codes that the table has, see `check`.
        name : str or path
            The file, for messages.

        Returns
        -------
        array of the same shape and type
            The same array if it has no such codes.

        Raises
        ------
        ModelError
            If neither of the two labels is in the map.
        """
        counts = histogram(codes) if self.sides else np.zeros(0)
        present = [code for code in self.sides if code < len(counts) and counts[code]]
        for pair in {self.sides[code] for code in present}:
            without = np.isin(codes, [code for code in present if self.sides[code] == pair])
            codes = self._on_nearer_side(codes, without, pair, name)
        return codes

    def _on_nearer_side(
        self, codes: np.ndarray, without: np.ndarray, pair: tuple[int, int], name: str | Path
    ) -> np.ndarray:
        found = ndimage.find_objects(without.view(np.uint8))[0]
        near = tuple(slice(max(0, part.start - _NEAR), part.stop + _NEAR) for part in found)
        for box in (near, (slice(None),) * codes.ndim):
            beside = [self.table[codes[box] * ~without[box]] == label for label in pair]
            if any(side.any() for side in beside):
                break
        else:
            raise ModelError(
                f'{name}: has structures without a side, and no label {pair[0]} or {pair[1]} of '
                f'the table {self.name} beside them; expected a map of a whole brain'
            )
        left, right = (
            ndimage.distance_transform_edt(~side) if side.any() else np.inf for side in beside
        )
        # The first code with a label stands for it.
        ours, theirs = (min(c for c, i in self.indices.items() if i == label) for label in pair)
        result = codes.copy()
        nearer = np.broadcast_to(np.where(left <= right, ours, theirs), without[box].shape)
        result[box][without[box]] = nearer[without[box]]
        return result

    def check(self, codes: np.ndarray, name: str | Path = 'the label map') -> None:
        """Check that the table has all codes.

        Parameters
        ----------
        codes : integer array
            Codes.
        name : str or path
            The file, for messages.

        Raises
        ------
        ModelError
            If the table lacks codes; the message names them.
        """
        if codes.size and (codes.min() < 0 or codes.max() > LARGEST_CODE):
            raise ModelError(
                f'{name}: labels from {codes.min()} to {codes.max()}; expected codes of 0 to '
                f'{LARGEST_CODE}'
            )
        present = np.flatnonzero(histogram(codes)).tolist()
        unknown = [code for code in present if code not in {*self.indices, *self.sides}]
        if unknown:
            listed = ', '.join(map(str, unknown[:10])) + (', ...' if len(unknown) > 10 else '')
            raise ModelError(
                f'{name}: label {listed} is not in the table {self.name}; add it there or choose '
                'another table'
            )


def read_mapping(name_or_path: str | Path) -> LabelMapping:
    """Read a packaged table by name, or another one by path.

    Parameters
    ----------
    name_or_path : str or path
        ``'aseg_to_tissue'``, or a TSV file.

    Returns
    -------
    LabelMapping

    Raises
    ------
    ModelError
        If it is missing, lacks a column, or codes or labels are not unique whole numbers in
        range.
    """
    packaged = resources.files('brainchop_bids.data').joinpath(f'mappings/{name_or_path}.tsv')
    path = Path(str(packaged)) if packaged.is_file() else Path(name_or_path)
    indices: dict[int, int] = {}
    labels: dict[int, str] = {}
    sides: dict[int, tuple[int, int]] = {}
    try:
        require_regular(path)
        with path.open(encoding='utf-8-sig', newline='') as file:
            reader = csv.DictReader(file, delimiter='\t')
            derivative = {'index', 'mapping'} <= set(reader.fieldnames or ())
            for row in reader:
                source, target = ('index', 'mapping') if derivative else ('code', 'index')
                # Structures of several tissues have no label.
                if row[target] == 'n/a':
                    continue
                codes, pair = _codes(row[source]), row[target].split('/')
                for code in codes:
                    if code in indices or code in sides:
                        raise ValueError(f'code {code} twice')
                index = _index(pair[0])
                if len(pair) == 2:
                    sides.update(dict.fromkeys(codes, (index, _index(pair[1]))))
                    continue
                indices.update(dict.fromkeys(codes, _index(row[target])))
                if not derivative and row.get('label'):
                    labels[index] = row['label']
    except OSError as error:
        raise ModelError(
            f'{path}: label table cannot be read ({error.strerror}); give a TSV file with the '
            f'columns code and index, or one of {", ".join(packaged_tables())}'
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ModelError(
            f'{path}: is not a label table ({error}); expected a TSV file with whole numbers in '
            'the columns code and index'
        ) from error
    if not indices:
        raise ModelError(f'{path}: has no labels; expected rows of code and index')
    lone = sorted({label for pair in sides.values() for label in pair} - set(indices.values()))
    if lone:
        raise ModelError(f'{path}: no code has the label {lone[0]}, which is one of two sides')
    return LabelMapping(str(name_or_path), indices, labels, sides)


def _codes(cell: str) -> range:
    """Return the codes of a row: one, or a range of both ends."""
    ends = re.fullmatch(r'(\d+)-(\d+)', cell.strip())
    first, last = (int(ends[1]), int(ends[2])) if ends else (int(cell), int(cell))
    if not 0 <= first <= last <= LARGEST_CODE:
        raise ValueError(f'code {cell} out of range')
    return range(first, last + 1)


def _index(cell: str) -> int:
    index = int(cell)
    if not 0 <= index < 255:
        raise ValueError(f'label {cell} out of range')
    return index


def packaged_tables() -> list[str]:
    """Return the names of the packaged tables."""
    folder = resources.files('brainchop_bids.data').joinpath('mappings')
    return sorted(entry.name.removesuffix('.tsv') for entry in folder.iterdir())
