"""The browser of the page tests must notice what these tests rely on."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import OpenPage, watched_pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PALE = '<p style="color:#ccc;background:#fff">pale</p>'


def write_page(path: Path, body: str) -> Path:
    path.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>t</title></head>\n'
        f'<body>\n<main><h1>t</h1>{body}</main>\n</body>\n</html>\n'
    )
    return path


@pytest.mark.parametrize(
    ('body', 'told'),
    [
        ('<img alt="" src="https://example.org/x.png">', 'asked for https://example.org/x.png'),
        ('<script>console.error("hey")</script>', 'console: hey'),
        ('<script>throw new Error("ouch")</script>', 'threw ouch'),
    ],
)
def test_faults_of_a_page_are_told(
    browser: 'Browser', tmp_path: Path, body: str, told: str
) -> None:
    path = write_page(tmp_path / 'x.html', body)
    with pytest.raises(pytest.fail.Exception, match=told), watched_pages(browser) as open_one:
        open_one(path).wait_for_timeout(100)


def test_a_good_page_has_none(
    open_page: OpenPage,
    axe: 'Callable[[Page], list[str]]',
    html_faults: Callable[[Path], list[str]],
    tmp_path: Path,
) -> None:
    path = write_page(tmp_path / 'x.html', '<p>good</p>')
    assert axe(open_page(path)) == []
    assert html_faults(path) == []


def test_checkers_find_what_is_wrong(
    open_page: OpenPage,
    axe: 'Callable[[Page], list[str]]',
    html_faults: Callable[[Path], list[str]],
    tmp_path: Path,
) -> None:
    path = write_page(tmp_path / 'x.html', f'{PALE}<p id="a"></p><div id="a"><tr></div>')
    assert any('color-contrast' in fault for fault in axe(open_page(path)))
    assert any('no-dup-id' in fault for fault in html_faults(path))
