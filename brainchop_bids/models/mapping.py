"""Tables from the codes of label maps to labels.

A table is a TSV file with the columns ``code`` and ``index``, and optionally ``label``, the name
of the index; other columns are ignored::

    code	name	index	label
    2	Left-Cerebral-White-Matter	2	WM

The label table of a BIDS derivative, with the columns ``index`` and ``mapping``, is also such a
table, from its labels to BIDS' common ones, 0 background, 1 GM, 2 WM, 3 CSF.
"""

import csv
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np

from ..image.lookup import histogram
from ..system.errors import ModelError
from ..system.files import require_regular
from .labels import LARGEST_CODE


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
    """

    name: str
    indices: dict[int, int]
    labels: dict[int, str] = field(default_factory=dict)

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
        labels: np.ndarray = self.table[codes]
        return labels

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
        unknown = [code for code in present if code not in self.indices]
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
                code, index = int(row[source]), int(row[target])
                if not (0 <= code <= LARGEST_CODE and 0 <= index < 255) or code in indices:
                    raise ValueError(f'code {code} twice or out of range')
                indices[code] = index
                if not derivative and row.get('label'):
                    labels[index] = row['label']
    except OSError as error:
        raise ModelError(
            f'{path}: label table cannot be read ({error.strerror}); give a TSV file with the '
            f'columns code and index, or one of {", ".join(packaged_tables())}'
        ) from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ModelError(
            f'{path}: is not a label table ({error}); expected a TSV file with whole numbers in '
            'the columns code and index'
        ) from error
    if not indices:
        raise ModelError(f'{path}: has no labels; expected rows of code and index')
    return LabelMapping(str(name_or_path), indices, labels)


def packaged_tables() -> list[str]:
    """Return the names of the packaged tables."""
    folder = resources.files('brainchop_bids.data').joinpath('mappings')
    return sorted(entry.name.removesuffix('.tsv') for entry in folder.iterdir())
