"""Scores of a segmentation, as rows of a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..models.mapping import LabelMapping
from ..system.errors import InputError
from .metrics import compare
from .pairs import AlignedPair

BRAIN = 'brain'


def score(
    name: str,
    pair: AlignedPair,
    mappings: Sequence[LabelMapping | None] = (),
    *,
    surfaces: bool = True,
) -> list[dict[str, Any]]:
    """Score each label of a pair, and the whole brain.

    Parameters
    ----------
    name : str
        Name of the scan.
    pair : AlignedPair
        Segmentation and reference.
    mappings : sequence of LabelMapping or None
        Tables with the names of labels.
    surfaces : bool
        Whether to measure distances, which takes most of the time.

    Returns
    -------
    list of dict
        ``scan``, ``label`` (``'n/a'`` for the brain), ``name``, the measures of `Agreement.row`
        and ``note``.

    Raises
    ------
    InputError
        If neither has a label.
    """
    names = {label: title for table in mappings if table for label, title in table.labels.items()}
    found = np.union1d(np.unique(pair.predicted), np.unique(pair.reference))
    labels = [int(label) for label in found if label]
    if not labels:
        raise InputError(f'{name}: no labels in either image; expected label maps')
    return [
        {
            'scan': name,
            'label': 'n/a' if label is None else label,
            'name': BRAIN if label is None else names.get(label, str(label)),
            **agreement.row,
            'note': pair.note or 'n/a',
        }
        for label, agreement in compare(
            pair.predicted, pair.reference, pair.zooms, labels, surfaces=surfaces
        )
    ]
