"""The methods text as HTML, read back by Python's parser."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.reports.participant.methods import render_methods


class Html(HTMLParser):
    """Tags in their order, the text of each, and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(str(render_methods(text)))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip('\n'):
            self.texts.append((self.open[-1], data))

    @property
    def links(self) -> list[str | None]:
        return [attributes['href'] for tag, attributes in self.tags if tag == 'a']


def test_citations_show_the_numbers_of_their_references() -> None:
    html = Html('# M\nUsed *X* [@b; @a] and [@c].\n\n- [@a] First.\n- [@b] Second.')
    assert html.texts == [
        ('h3', 'M'),
        ('p', 'Used '),
        ('em', 'X'),
        ('p', ' '),
        ('a', '[2]'),
        ('a', '[1]'),
        ('p', ' and [@c].'),
        ('li', 'First.'),
        ('li', 'Second.'),
    ]
    assert html.links == ['#reference-2', '#reference-1']
    assert html.tags[-3:] == [
        ('ol', {}),
        ('li', {'id': 'reference-1'}),
        ('li', {'id': 'reference-2'}),
    ]


def test_numbers_of_references_run_on() -> None:
    html = Html('- [@a] First.\n- [@b] Second.\n\nbetween [@c]\n\n- [@c] Third.')
    assert html.tags[-2:] == [('ol', {'start': '3'}), ('li', {'id': 'reference-3'})]
    assert html.links == ['#reference-3']


def test_lists_headings_and_wrapped_lines() -> None:
    html = Html('## A\n\none\ntwo\n\n1. x\n   y\n2. z\n')
    assert html.texts == [('h3', 'A'), ('p', 'one\ntwo'), ('li', 'x\ny'), ('li', 'z')]
    assert [tag for tag, _ in html.tags] == ['h3', 'p', 'ol', 'li', 'li']


def test_dois_alone_become_links() -> None:
    text = (
        'See https://doi.org/10.1000/a_b(c).d, doi:10.5281/zenodo.1. <https://doi.org/10.1000/x> '
        'https://evil.example/10.1000/x [here](https://evil.example) javascript:alert(1) '
        '<https://evil.example> ![](https://evil.example/x.png)\n\n[a]: https://evil.example'
    )
    assert Html(text).links == [
        'https://doi.org/10.1000/a_b(c).d',
        'https://doi.org/10.5281/zenodo.1',
        'https://doi.org/10.1000/x',
    ]


def test_code_is_kept_as_it_is() -> None:
    html = Html('`mri_convert -c *x* <b> [@a]` done')
    assert html.texts == [('code', 'mri_convert -c *x* <b> [@a]'), ('p', ' done')]


@given(st.text(alphabet='a*`[]@;: \n-#1.<>/"&', max_size=100))
def test_any_text_is_taken_and_no_letter_is_lost(text: str) -> None:
    html = Html(text)
    assert ''.join(part for _, part in html.texts).count('a') == text.count('a')
    assert {tag for tag, _ in html.tags} <= {
        'p',
        'h3',
        'ul',
        'ol',
        'li',
        'em',
        'strong',
        'code',
        'a',
    }
