"""Orientations of a head: how frames show them, and which one a volume has.

Left and right look alike in a scan, so that the two directions of this axis are one here: ``R``
stands for both. Of the 48 ways to store a head, 24 can be told apart.
"""

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np

Codes = tuple[str, str, str]
_DIRECTIONS = (('R',), ('A', 'P'), ('S', 'I'))
# Directions in which rows and columns of a frame advance.
VIEWS: tuple[tuple[str, str], ...] = tuple(
    view
    for first, second in permutations(range(3), 2)
    for view in product(_DIRECTIONS[first], _DIRECTIONS[second])
)
ORIENTATIONS: tuple[Codes, ...] = tuple(
    (codes[0], codes[1], codes[2])
    for order in permutations(range(3))
    for codes in product(*(_DIRECTIONS[axis] for axis in order))
)
# Below this certainty the seen orientation is not taken for true.
_SURE = 0.5
# Share of a view that keeps one wrong axis from deciding alone.
_LEAST = 0.01


def symmetric(codes: Sequence[str]) -> Codes:
    """Return axis codes, as `nibabel.aff2axcodes` does, with ``R`` in place of ``L``.

    Examples
    --------
    >>> symmetric('LIA')
    ('R', 'I', 'A')
    """
    x, y, z = ('R' if code == 'L' else code for code in codes)
    return x, y, z


def view_of(codes: Sequence[str], axis: int) -> int:
    """Return the view that frames along an axis show.

    Parameters
    ----------
    codes : sequence of 3 str
        Direction of each axis of the volume.
    axis : int
        Axis across the frames; the other two, in their order, are rows and columns.

    Returns
    -------
    int
        Index in `VIEWS`.

    Examples
    --------
    >>> VIEWS[view_of('LIA', 1)]
    ('R', 'A')
    """
    rows, columns = (code for other, code in enumerate(symmetric(codes)) if other != axis)
    return VIEWS.index((rows, columns))


def find_orientation(votes: np.ndarray) -> tuple[Codes, float]:
    """Find the orientation that agrees best with the views along all axes.

    Parameters
    ----------
    votes : (3, views) float
        For frames along each axis, the sum of the probabilities of each view.

    Returns
    -------
    codes : tuple of 3 str
        Direction of each axis, with ``R`` for left to right or right to left.
    certainty : float
        Geometric mean over axes of the share of its views in the votes, 0 to 1.
    """
    totals = np.maximum(votes.sum(1, keepdims=True), 1e-6)
    shares = np.log(votes / totals + _LEAST)
    scores = [
        sum(float(shares[axis, view_of(codes, axis)]) for axis in range(3))
        for codes in ORIENTATIONS
    ]
    best = int(np.argmax(scores))
    return ORIENTATIONS[best], float(min(1.0, np.exp(scores[best] / 3)))


def disagree(seen: Sequence[str], header: Sequence[str], certainty: float) -> bool:
    """Return whether what is seen disagrees with the header, and is certain.

    Parameters
    ----------
    seen, header : sequence of 3 str
        Directions as `symmetric` returns them; ``seen`` is empty if it is not known.
    certainty : float
        That of ``seen``, see `find_orientation`.

    Examples
    --------
    >>> disagree('RPS', 'RAS', 0.9), disagree('RPS', 'RAS', 0.3), disagree('', 'RAS', 0.0)
    (True, False, False)
    """
    return bool(seen) and tuple(seen) != tuple(header) and certainty >= _SURE


def in_words(codes: Sequence[str]) -> str:
    """Name directions.

    Examples
    --------
    >>> in_words('RPS')
    'left or right, posterior, superior'
    """
    names = {'R': 'left or right', 'A': 'anterior', 'P': 'posterior', 'S': 'superior'}
    return ', '.join(names.get(code, 'inferior') for code in codes)
