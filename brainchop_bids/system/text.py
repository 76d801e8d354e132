"""Text from files of others, for terminals, pages and tables."""

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches

# What a spreadsheet takes for the beginning of a formula, after apostrophes of our own.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r'[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?')


def printable(text: object) -> str:
    r"""Return text with escapes for all characters that are not printable.

    Parameters
    ----------
    text : object
        Its `str` is taken.

    Returns
    -------
    str
        Controls, line breaks, marks of direction and lone surrogates (of names that are not
        UTF-8) become escapes of Python, so that a terminal does not act on them.

    Examples
    --------
    >>> print(printable('red \x1b[31m\nname'))
    red \x1b[31m\nname
    """
    return ''.join(
        letter if letter.isprintable() else letter.encode('unicode_escape').decode()
        for letter in str(text)
    )


def show(line: object, *, error: bool = False) -> None:
    """Print a `printable` line to standard output, or to standard error."""
    print(printable(line), file=sys.stderr if error else sys.stdout)


def near(word: str, known: Iterable[str]) -> str:
    """Return a question for what may have been meant, or nothing if no known word is alike.

    Parameters
    ----------
    word : str
        A word that is not known.
    known : iterable of str
        Words that are known.

    Returns
    -------
    str
        To follow a message, with a semicolon before it.

    Examples
    --------
    >>> near('--modle', ['--model', '--mask']), near('--xyz', ['--model'])
    ('; did you mean --model?', '')
    """
    found = get_close_matches(word, known, n=1)
    return f'; did you mean {found[0]}?' if found else ''


def table_cell(text: str) -> str:
    """Return a cell of a table that no spreadsheet takes for a formula.

    Spreadsheets run a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
    return (OWASP, https://owasp.org/www-community/attacks/CSV_Injection). Such a text gets an
    apostrophe before it; numbers do not.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        For `cell_text`, which is the inverse.

    Examples
    --------
    >>> table_cell('=1+1'), table_cell('-3.5'), table_cell("'=1"), table_cell("'a")
    ("'=1+1", '-3.5', "''=1", "'a")
    """
    runs = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs else text


def cell_text(cell: str) -> str:
    """Return the text of a cell from `table_cell`.

    Examples
    --------
    >>> cell_text("'=1+1"), cell_text('-3.5'), cell_text("''=1"), cell_text("'a")
    ('=1+1', '-3.5', "'=1", "'a")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
