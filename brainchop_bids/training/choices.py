"""Validation of names and numbers in a training config."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from ..system.errors import SettingsError


@dataclass(frozen=True)
class Range:
    """Range of a number, as an annotation of its type.

    Parameters
    ----------
    least, most : float
        Limits, which are in the range.
    open : str
        Limits that are not: ``'['``, none; ``'('``, the lower; or ``')'``, the upper one.

    Examples
    --------
    >>> print(Range(0, 1), Range(1), Range(0, 1, ')'), sep='; ')
    0 to 1; 1 or more; 0 or more and below 1
    """

    least: float
    most: float = math.inf
    open: str = '['

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        inside = self.least <= value <= self.most
        return inside and value != {'(': self.least, ')': self.most}.get(self.open)

    def __str__(self) -> str:
        """Return the range for a message."""
        if self.open == ')':
            return f'{self.least:g} or more and below {self.most:g}'
        if math.isfinite(self.most):
            return f'{self.least:g} to {self.most:g}'
        return f'above {self.least:g}' if self.open == '(' else f'{self.least:g} or more'


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, ')')]
NotNegative = Annotated[float, Range(0)]


def require_known(key: str, value: str, known: Iterable[str]) -> None:
    """Raise an error for an unknown name, with a suggestion.

    Parameters
    ----------
    key : str
        Key in the config, such as ``'loss.kind'``.
    value : str
        The name.
    known : iterable of str
        Valid names.

    Raises
    ------
    SettingsError
        If the name is unknown; the message has the most similar valid name, or all of them.

    Examples
    --------
    >>> require_known('optimizer.name', 'adam', ['adam', 'sgd'])
    """
    known = list(known)
    if value not in known:
        raise SettingsError(f'{key} is {value!r}; {suggestion(value, known)}')


def suggestion(value: str, known: Iterable[str], prefix: str = '') -> str:
    """Return a suggestion for an unknown name.

    Parameters
    ----------
    value : str
        The unknown name.
    known : iterable of str
        Valid names.
    prefix : str
        Prefix of the suggested name, such as ``'loss.options.'``.

    Returns
    -------
    str
        The most similar name, or the list of all.

    Examples
    --------
    >>> suggestion('gama', ['alpha', 'gamma'], 'loss.options.')
    'did you mean loss.options.gamma?'
    >>> suggestion('quux', ['alpha', 'gamma'])
    'known: alpha, gamma'
    """
    known = list(known)
    near = difflib.get_close_matches(value, known, 1, 0.5)
    return f'did you mean {prefix}{near[0]}?' if near else f'known: {", ".join(known) or "none"}'
