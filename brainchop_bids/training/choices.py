"""Validation of names in a training config."""

import difflib
from collections.abc import Iterable

from ..system.errors import SettingsError


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
