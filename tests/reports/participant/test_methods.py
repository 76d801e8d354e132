"""The methods text, taken apart."""

from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.reports.participant.methods import Span, parse_methods


def kinds(text: str) -> list[tuple[str, str, str]]:
    return [
        (span.kind, span.text, span.href)
        for block in parse_methods(text)
        for item in block.items
        for span in item
    ]


def test_citations_show_the_numbers_of_their_references() -> None:
    blocks = parse_methods('# M\nUsed *X* [@b; @a] and [@c].\n\n- [@a] First.\n\n- [@b] Second.')
    assert [block.kind for block in blocks] == ['heading', 'paragraph', 'references']
    assert blocks[1].items[0] == (
        Span('text', 'Used '),
        Span('em', 'X'),
        Span('text', ' '),
        Span('cite', '[2]', '#reference-2'),
        Span('cite', '[1]', '#reference-1'),
        Span('text', ' and '),
        Span('text', '[@c]'),
        Span('text', '.'),
    )
    assert [item[0].text for item in blocks[2].items] == ['First.', 'Second.']


def test_lists_headings_and_wrapped_lines() -> None:
    blocks = parse_methods('## A\n\none\ntwo\n\n1. x\n   y\n2. z\n')
    assert [(block.kind, [item[0].text for item in block.items]) for block in blocks] == [
        ('heading', ['A']),
        ('paragraph', ['one two']),
        ('list', ['x y', 'z']),
    ]


def test_dois_alone_become_links() -> None:
    text = (
        'See https://doi.org/10.1000/a_b(c).d, doi:10.5281/zenodo.1. <https://doi.org/10.1000/x> '
        'https://evil.example/10.1000/x [here](https://evil.example) javascript:alert(1)'
    )
    links = [href for kind, _, href in kinds(text) if href]
    assert links == [
        'https://doi.org/10.1000/a_b(c).d',
        'https://doi.org/10.5281/zenodo.1',
        'https://doi.org/10.1000/x',
    ]


def test_code_is_kept_as_it_is() -> None:
    assert kinds('`mri_convert -c *x*` done') == [
        ('code', 'mri_convert -c *x*', ''),
        ('text', ' done', ''),
    ]


@given(st.text(alphabet='a*`[]@;: \n-#1.<>/"', max_size=200))
def test_any_text_is_taken_and_no_letter_is_lost(text: str) -> None:
    shown = ''.join(span for _, span, _ in kinds(text))
    assert shown.count('a') == text.count('a')
