"""Untrusted text on one line, for tables and logs."""

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from io import StringIO

from ..system.text import table_cell

MISSING = 'n/a'
# Marks that change the direction of writing: they are invisible in a log and change its look.
_BIDI_MARKS = frozenset('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')


def one_line(text: object) -> str:
    r"""Return text without line breaks, tabs and other controls.

    Parameters
    ----------
    text : object
        Its `str` is taken.

    Returns
    -------
    str
        White space collapsed to single spaces, other controls as ``U+FFFD``, lone surrogates
        as escapes.

    Examples
    --------
    >>> one_line('a\tb\r\nc \x1b[2J')
    'a b c \ufffd[2J'
    """
    words = ' '.join(str(text).split())
    words = words.encode('utf-8', 'backslashreplace').decode()
    return ''.join(
        '\ufffd' if unicodedata.category(letter) == 'Cc' else letter for letter in words
    )


def log_line(text: object) -> str:
    r"""Return `one_line` without marks that change the direction of writing.

    Examples
    --------
    >>> log_line('sub-\u202e10')
    'sub-\ufffd10'
    """
    return ''.join('\ufffd' if letter in _BIDI_MARKS else letter for letter in one_line(text))


def write_tsv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table as BIDS wants it.

    Parameters
    ----------
    columns : sequence of str
        The header.
    rows : iterable of sequence of str
        Cells; an empty one becomes ``n/a``.

    Returns
    -------
    str
        Cells with quotation marks are quoted, as BIDS has it; for others see `table_cell`.

    Examples
    --------
    >>> write_tsv(['a', 'b'], [['x\ty', '']])
    'a\tb\nx y\tn/a\n'
    """
    out = StringIO()
    writer = csv.writer(out, delimiter='\t', lineterminator='\n')
    for cells in [columns, *rows]:
        writer.writerow([table_cell(one_line(cell) or MISSING) for cell in cells])
    return out.getvalue()
