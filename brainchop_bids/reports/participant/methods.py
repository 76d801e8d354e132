"""The methods text (``logs/CITATION.md``) as parts that a template can lay out and escape.

Only what such a text uses is understood: headings, paragraphs, lists, emphasis, code, citation
keys as pandoc writes them (``[@key]``) and DOIs. Everything else stays the text it is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

_INLINE = re.compile(
    r'`(?P<code>[^`]+)`'
    r'|\*\*(?P<strong>[^*]+)\*\*'
    r'|\*(?P<em>[^*\s](?:[^*]*[^*\s])?)\*'
    r'|\[(?P<keys>@[\w.:-]+(?:\s*;\s*@[\w.:-]+)*)\]'
    # Only DOIs become links: a page must not send its reader anywhere else.
    r'|<?(?:https?://(?:dx\.)?doi\.org/|doi:\s*)(?P<doi>10\.\d{4,9}/[^\s<>"]*[^\s<>".,;)\]])>?'
)
_ITEM = re.compile(r'(?:[-*+]|\d+[.)])\s+')
_REFERENCE = re.compile(r'\[@(?P<key>[\w.:-]+)\]:?\s+')


@dataclass(frozen=True)
class Span:
    """A run of text.

    Parameters
    ----------
    kind : str
        ``'text'``, ``'code'``, ``'strong'``, ``'em'``, ``'doi'`` or ``'cite'``.
    text : str
        What is shown, not escaped.
    href : str
        Where a DOI leads, or the fragment of the reference that is cited.
    """

    kind: str
    text: str
    href: str = ''


@dataclass(frozen=True)
class Block:
    """A paragraph, heading or item.

    Parameters
    ----------
    kind : str
        ``'heading'``, ``'paragraph'``, ``'list'`` or ``'references'``.
    items : tuple of tuple of Span
        One for a heading or paragraph, one for each entry of a list.
    """

    kind: str
    items: tuple[tuple[Span, ...], ...]


def parse_methods(text: str) -> tuple[Block, ...]:
    """Take a methods text apart.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    tuple of Block
        Entries that begin with ``[@key]`` are references: they are numbered in their order, and
        the text's citations of them show these numbers.

    Examples
    --------
    >>> [block.kind for block in parse_methods('Done with X [@x].\\n\\n- [@x] A (2020).')]
    ['paragraph', 'references']
    """
    blocks = list(_split(text))
    numbers: dict[str, int] = {}
    count = 0
    for place, (kind, items) in enumerate(blocks):
        matches = [_REFERENCE.match(item) for item in items]
        if kind == 'list' and all(matches):
            for match in filter(None, matches):
                count += 1
                numbers.setdefault(match['key'], count)
            rest = [_REFERENCE.sub('', item, count=1) for item in items]
            blocks[place] = ('references', rest)
    parsed = [
        Block(kind, tuple(tuple(_spans(item, numbers)) for item in items))
        for kind, items in blocks
    ]
    return tuple(_merge(parsed))


def _split(text: str) -> Iterator[tuple[str, list[str]]]:
    """Cut the text into headings, paragraphs and lists, one line each entry."""
    for chunk in re.split(r'\n\s*\n', text.replace('\r\n', '\n')):
        lines = [line.strip() for line in chunk.split('\n') if line.strip()]
        while lines and lines[0].startswith('#'):
            yield 'heading', [lines.pop(0).lstrip('#').strip()]
        if lines and _ITEM.match(lines[0]):
            items: list[str] = []
            for line in lines:
                if match := _ITEM.match(line):
                    items.append(line[match.end() :])
                else:
                    items[-1] += f' {line}'
            yield 'list', items
        elif lines:
            yield 'paragraph', [' '.join(lines)]


def _spans(text: str, numbers: Mapping[str, int]) -> Iterator[Span]:
    """Cut a line into runs of one kind."""
    done = 0
    for match in _INLINE.finditer(text):
        if match.start() > done:
            yield Span('text', text[done : match.start()])
        done = match.end()
        kind = match.lastgroup or 'text'
        if kind == 'doi':
            yield Span('doi', f'https://doi.org/{match[kind]}', f'https://doi.org/{match[kind]}')
        elif kind == 'keys':
            for key in re.split(r'\s*;\s*', match[kind]):
                number = numbers.get(key[1:])
                if number is None:
                    yield Span('text', f'[{key}]')
                else:
                    yield Span('cite', f'[{number}]', f'#reference-{number}')
        else:
            yield Span(kind, match[kind])
    if done < len(text):
        yield Span('text', text[done:])


def _merge(blocks: list[Block]) -> Iterator[Block]:
    """Join reference lists that only blank lines had parted, so that numbers run on."""
    last: Block | None = None
    for block in blocks:
        if last is not None and last.kind == block.kind == 'references':
            last = replace(last, items=last.items + block.items)
            continue
        if last is not None:
            yield last
        last = block
    if last is not None:
        yield last
