"""What a config may name, and what is said where it names something else."""

import difflib
from collections.abc import Iterable

from ..system.errors import SettingsError


def require_known(key: str, value: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Parameters
    ----------
    key : str
        Where it stands in the config, such as ``'loss.kind'``.
    value : str
        The name.
    known : iterable of str
        What may stand there.

    Raises
    ------
    SettingsError
        With the nearest name that is known, or all of them.

    Examples
    --------
    >>> require_known('optimizer.name', 'adam', ['adam', 'sgd'])
    """
    known = list(known)
    if value not in known:
        raise SettingsError(f'{key} is {value!r}; {suggestion(value, known)}')


def suggestion(value: str, known: Iterable[str], place: str = '') -> str:
    """Return what a user may have meant.

    Parameters
    ----------
    value : str
        What was given.
    known : iterable of str
        What could have been.
    place : str
        What to write before each name, such as ``'loss.options.'``.

    Returns
    -------
    str
        The nearest name, or the list of all.

    Examples
    --------
    >>> suggestion('gama', ['alpha', 'gamma'], 'loss.options.')
    'did you mean loss.options.gamma?'
    >>> suggestion('quux', ['alpha', 'gamma'])
    'known: alpha, gamma'
    """
    known = list(known)
    near = difflib.get_close_matches(value, known, 1, 0.5)
    return f'did you mean {place}{near[0]}?' if near else f'known: {", ".join(known) or "none"}'
