"""The methods text (``logs/CITATION.md``) as HTML.

Of Markdown only headings, lists, emphasis and code are understood, and citation keys as pandoc
writes them (``[@key]``). Everything else, HTML and links included, stays text and is escaped.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_KEY = r'@[\w.:-]+'
_REFERENCE = re.compile(rf'\[(?P<key>{_KEY})\]:?\s+')
_LINK = re.compile(
    rf'\[(?P<keys>{_KEY}(?:\s*;\s*{_KEY})*)\]'
    # Only DOIs become links: a page must not send its reader anywhere else.
    r'|<?(?:https?://(?:dx\.)?doi\.org/|doi:\s*)(?P<doi>10\.\d{4,9}/[^\s<>"]*[^\s<>".,;)\]])>?'
)


def render_methods(text: str) -> Markup:
    """Convert a methods text to HTML.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    Markup
        Headings are ``h3``. List items that begin with ``[@key]`` are references: they are
        numbered, and citations show and link these numbers. DOIs are links.

    Examples
    --------
    >>> print(render_methods('Done with X [@x].\\n\\n- [@x] A (2020).'), end='')
    <p>Done with X <a href="#reference-1">[1]</a>.</p>
    <ol>
    <li id="reference-1">A (2020).</li>
    </ol>
    """
    parser = MarkdownIt('zero').enable(['heading', 'list', 'emphasis', 'backticks'])
    tokens = parser.parse(text)
    numbers = _number_references(tokens)
    for token in tokens:
        if token.type.startswith('heading_'):
            token.tag = 'h3'
        if token.children:
            token.children = [
                part for child in token.children for part in _link_text(child, numbers)
            ]
    # The renderer escapes text, code and addresses.
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704


def _number_references(tokens: Sequence[Token]) -> dict[str, int]:
    """Number the references, mark their items and return the numbers by key."""
    numbers: dict[str, int] = {}
    count = 0
    # A list is opened, then an item, a paragraph, and the text in it.
    for place, (item, _, inline) in enumerate(zip(tokens, tokens[1:], tokens[2:], strict=False)):
        match = _REFERENCE.match(inline.content) if item.type == 'list_item_open' else None
        if match is None or not inline.children:
            continue
        count += 1
        numbers.setdefault(match['key'], count)
        item.attrSet('id', f'reference-{count}')
        inline.children[0].content = _REFERENCE.sub('', inline.children[0].content, count=1)
        opening = tokens[place - 1]
        if opening.type == 'bullet_list_open':
            same = (token for token in tokens[place:] if token.level == opening.level)
            closing = next(token for token in same if token.type == 'bullet_list_close')
            opening.tag = closing.tag = 'ol'
            if count > 1:
                opening.attrSet('start', str(count))
    return numbers


def _link_text(token: Token, numbers: Mapping[str, int]) -> Iterator[Token]:
    """Cut a text where citations and DOIs are, and make them links."""
    if token.type != 'text':
        yield token
        return
    end = 0
    for match in _LINK.finditer(token.content):
        yield _text(token.content[end : match.start()])
        end = match.end()
        if match['doi']:
            yield from _anchor(f'https://doi.org/{match["doi"]}', rel='noreferrer noopener')
            continue
        for key in re.split(r'\s*;\s*', match['keys']):
            if key in numbers:
                yield from _anchor(f'#reference-{numbers[key]}', f'[{numbers[key]}]')
            else:
                yield _text(f'[{key}]')
    yield _text(token.content[end:])


def _anchor(href: str, text: str = '', **attributes: str) -> Iterator[Token]:
    yield Token('link_open', 'a', 1, attrs={'href': href, **attributes})
    yield _text(text or href)
    yield Token('link_close', 'a', -1)


def _text(content: str) -> Token:
    return Token('text', '', 0, content=content)
