"""Sides in the names of structures."""

import re
from collections.abc import Mapping

_BETWEEN_WORDS = re.compile(r'([^a-zA-Z]+|(?<=[a-z])(?=[A-Z]))')
_SIDES = {'left': 'right', 'right': 'left', 'lh': 'rh', 'rh': 'lh', 'l': 'r', 'r': 'l'}


def other_side(name: str) -> str:
    """Return the lower-case name of a structure on the other side; its own without a side.

    Examples
    --------
    >>> other_side('Left-Hippocampus'), other_side('ctx-rh-insula'), other_side('CSF')
    ('right-hippocampus', 'ctx-lh-insula', 'csf')
    """
    return ''.join(_SIDES.get(part, part) for part in _words(name))


def side(name: str) -> str:
    """Return the side in a structure's name: ``'left'``, ``'right'`` or an empty string.

    Examples
    --------
    >>> side('Left-Hippocampus'), side('ctx-rh-insula'), side('CSF')
    ('left', 'right', '')
    """
    sides = {part for part in _words(name) if part in _SIDES}
    if len(sides) != 1:
        return ''
    return 'left' if sides <= {'left', 'lh', 'l'} else 'right'


def without_side(name: str) -> str:
    """Return the name of a structure without the word of its side.

    Examples
    --------
    >>> without_side('Left-Hippocampus'), without_side('ctx-rh-insula'), without_side('putamen R')
    ('Hippocampus', 'ctx-insula', 'putamen')
    >>> without_side('CSF')
    'CSF'
    """
    parts = _BETWEEN_WORDS.split(name)
    for place, part in enumerate(parts):
        if part.lower() in _SIDES:
            # With what separates it from the next word, or from the one before.
            first = min(place, max(len(parts) - 2, 0))
            return ''.join(parts[:first] + parts[first + 2 :])
    return name


def lateral_pairs(names: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return pairs of corresponding left and right labels.

    Parameters
    ----------
    names : mapping of int to str
        Names by label.

    Returns
    -------
    list of (int, int)
        Left and right label, in the order of the left ones.

    Examples
    --------
    >>> lateral_pairs({1: 'Left-Caudate', 2: 'CSF', 3: 'Right-Caudate', 4: 'Left-Putamen'})
    [(1, 3)]
    """
    right = {name.lower(): label for label, name in names.items() if side(name) == 'right'}
    left = {label: other_side(name) for label, name in names.items() if side(name) == 'left'}
    return [(label, right[other]) for label, other in left.items() if other in right]


def _words(name: str) -> list[str]:
    """Split a name into lower-case words and what separates them."""
    return [part.lower() for part in _BETWEEN_WORDS.split(name)]
