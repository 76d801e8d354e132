"""The page of a group as a browser shows it, without network."""

import base64
import json
import os
import re
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from brainchop_bids.bids.derivatives import ScanOutputs
from brainchop_bids.bids.names import ScanName
from brainchop_bids.reports.figures.thumbnail import thumbnail
from brainchop_bids.reports.group.outputs import write_group
from tests.browser import OpenPage
from tests.reports.group import group_data
from tests.reports.group.test_table import HOSTILE, LABELS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Check = Callable[['Page'], list[str]]
# Other people's processes run on the same processors.
SECONDS = 5.0


def write(root: Path, **options: Any) -> Path:
    """Write the page of model x."""
    write_group(root.parent / 'bids', root, **options)
    return root / 'group_seg-x.html'


@pytest.fixture(scope='module')
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Return the page of 2,000 scans of 30 structures, and their volumes in mm^3."""
    root = tmp_path_factory.mktemp('many') / 'out'
    volumes = group_data.write_group(root, 2000, 30)
    return write(root), volumes


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Return derivatives of 12 scans of which one stands out."""
    group_data.write_group(tmp_path / 'out', 12, 3)
    return tmp_path / 'out'


def names(page: 'Page') -> list[str]:
    return page.locator('#scans tbody th').all_inner_texts()


def header(page: 'Page', name: str) -> 'Locator':
    return page.locator('#scans thead th').filter(has_text=re.compile(rf'^{name}\b'))


def lit(canvas: 'Locator') -> int:
    """Count the pixels that are drawn."""
    script = (
        'canvas => { if (!canvas.width) return 0;'
        'const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);'
        'let lit = 0; for (let i = 3; i < pixels.data.length; i += 4) lit += pixels.data[i] > 0;'
        'return lit; }'
    )
    found: int = canvas.evaluate(script)
    return found


def target_of(page: Path, link: str) -> tuple[Path, str]:
    parts = urlsplit(link)
    assert not parts.scheme
    assert not parts.netloc
    return page.parent / unquote(parts.path), unquote(parts.fragment)


def test_two_thousand_scans_load_and_sort(
    many: tuple[Path, np.ndarray], open_page: OpenPage
) -> None:
    path, volumes = many
    assert path.stat().st_size < 4e6
    begun = time.monotonic()
    page = open_page(path)
    assert page.locator('#status').inner_text() == 'Rows 1–100 of 2,000'
    assert time.monotonic() - begun < SECONDS
    brain = volumes.sum(axis=1)
    by_volume = [f'sub-{scan:04d}_T1w' for scan in np.argsort(brain, kind='stable')]
    begun = time.monotonic()
    header(page, 'brain_volume').get_by_role('button').click()
    assert names(page) == by_volume[:100]
    header(page, 'brain_volume').get_by_role('button').click()
    assert names(page) == by_volume[::-1][:100]
    page.get_by_role('button', name='Next').click()
    assert names(page) == by_volume[::-1][100:200]
    header(page, 'bids_name').get_by_role('button').click()
    assert names(page) == [f'sub-{scan:04d}_T1w' for scan in range(100)]
    assert time.monotonic() - begun < SECONDS
    shown = page.locator('#scans tbody tr').first.locator('td').first.inner_text()
    assert float(shown.replace(',', '')) == pytest.approx(brain[0] / 1000, rel=1e-4)


def test_plots_of_two_thousand_scans_are_drawn_when_they_are_seen(
    many: tuple[Path, np.ndarray], open_page: OpenPage
) -> None:
    path, _ = many
    page = open_page(path)
    last = page.locator('section:has(#structure) canvas').last
    page.wait_for_timeout(200)
    assert lit(last) == 0
    begun = time.monotonic()
    last.scroll_into_view_if_needed()
    page.wait_for_function('canvas => canvas.height === 72', arg=last.element_handle())
    assert time.monotonic() - begun < SECONDS
    assert lit(last) > 2000


def test_structures_are_shown_by_share_or_by_volume(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few))
    page.get_by_label('volume (mL)').scroll_into_view_if_needed()
    figure = page.locator('figure').filter(has_text='Structure 1')
    canvas, axis = figure.locator('canvas'), figure.locator('.axis')
    before = canvas.evaluate('canvas => canvas.toDataURL()')
    assert axis.inner_text().count('%') == 2
    page.get_by_label('volume (mL)').check()
    assert canvas.evaluate('canvas => canvas.toDataURL()') != before
    assert axis.inner_text().count('mL') == 2
    rows = [row.split('\t') for row in (few / 'group_seg-x_dseg.tsv').read_text().splitlines()]
    volumes = [float(row[rows[0].index('Structure-1')]) / 1000 for row in rows[1:]]
    ends = [float(end.rstrip(' mL')) for end in axis.locator('span').all_inner_texts()]
    assert ends == pytest.approx([min(volumes), max(volumes)], rel=1e-3)


def test_the_filter_and_the_switches(few: Path, open_page: OpenPage) -> None:
    path = write(few)
    page = open_page(path)
    assert len(names(page)) == 12
    page.get_by_label('Filter').fill('SUB-0003')
    assert names(page) == ['sub-0003_T1w']
    assert page.locator('#status').inner_text() == 'Rows 1–1 of 1 (filtered from 12)'
    page.get_by_label('Filter').fill('nobody')
    assert names(page) == []
    assert page.locator('#status').inner_text() == 'None of 12'
    page.get_by_label('Filter').fill('')
    page.get_by_label('flagged only').check()
    assert names(page) == ['sub-0007_T1w']
    page.get_by_label('with outliers only').check()
    page.get_by_label('flagged only').uncheck()
    far = [row.split('\t') for row in (few / 'group_seg-x_dseg.tsv').read_text().splitlines()]
    place = far[0].index('n_outliers')
    assert sorted(names(page)) == sorted(row[1] for row in far[1:] if row[place] != '0')
    assert 'sub-0003_T1w' in names(page)


def test_sorting_by_keyboard_is_announced(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few))
    assert header(page, 'flags').get_attribute('aria-sort') == 'none'
    button = header(page, 'flags').get_by_role('button')
    button.focus()
    page.keyboard.press('Enter')
    assert header(page, 'flags').get_attribute('aria-sort') == 'ascending'
    assert names(page)[0] == 'sub-0007_T1w'
    page.keyboard.press('Space')
    assert header(page, 'flags').get_attribute('aria-sort') == 'descending'
    # Those of which nothing is known are last either way.
    assert names(page)[0] == 'sub-0007_T1w'
    assert button.evaluate('button => button === document.activeElement')
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    assert header(page, 'flags').get_attribute('aria-sort') == 'none'
    assert header(page, 'outliers').get_attribute('aria-sort') == 'ascending'


def test_columns_can_be_chosen(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few))
    assert header(page, 'Structure-2').count() == 0
    page.get_by_text('Columns', exact=True).click()
    page.get_by_label('Structure-2').check()
    volumes = [row.split('\t') for row in (few / 'group_seg-x_dseg.tsv').read_text().splitlines()]
    column = volumes[0].index('Structure-2')
    expected = sorted(volumes[1:], key=lambda row: float(row[column]))
    header(page, 'Structure-2').get_by_role('button').click()
    assert names(page) == [row[1] for row in expected]


def test_nothing_moves_as_plots_are_drawn(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few))
    places = """() => [...document.querySelectorAll('h2, h3, figure, table, a')].map(
        element => element.getBoundingClientRect().top + scrollY)"""
    before = page.evaluate(places)
    for canvas in page.locator('canvas').all():
        canvas.scroll_into_view_if_needed()
        page.wait_for_function('canvas => canvas.height === 72', arg=canvas.element_handle())
    assert page.evaluate(places) == pytest.approx(before, abs=0.5)


def test_links_lead_to_the_scans_place_on_its_page(few: Path, open_page: OpenPage) -> None:
    path = write(few)
    page = open_page(path)
    links = [
        link
        for link in page.locator('a').evaluate_all(
            'links => links.map(a => a.getAttribute("href"))'
        )
        if not link.startswith('#')
    ]
    # The table's, the pictures' and the outliers'.
    assert len(links) > 24
    for link in links:
        target, fragment = target_of(path, link)
        assert f'id="{fragment}"' in target.read_text()
    inside = page.locator('a[href^="#"]').evaluate_all('all => all.map(a => a.hash.slice(1))')
    assert all(page.locator(f'[id="{mark}"]').count() == 1 for mark in inside)
    page.locator('#scans tbody a').first.click()
    page.wait_for_url('**/sub-*.html#*')
    assert page.locator(':target').count() == 1


def test_points_show_their_scan_and_lead_to_it(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few))
    figure = page.locator('figure').filter(has_text='Structure 1')
    figure.scroll_into_view_if_needed()
    assert figure.locator('.outliers a').first.inner_text() == 'sub-0003_T1w'
    canvas = figure.locator('canvas')
    box = canvas.bounding_box()
    assert box is not None
    # It has the largest share, so it lies at the right edge, and alone.
    place = {'x': box['width'] - 10, 'y': box['height'] / 2}
    canvas.hover(position=place)
    tip = page.locator('#tip')
    assert tip.is_visible()
    assert re.fullmatch(
        r'sub-0003_T1w: [\d.]+ %, [\d.,]+ mL, robust z [\d.]+', tip.inner_text()
    ), tip.inner_text()
    assert page.locator('.ring').count() > 1
    canvas.hover(position={'x': box['width'] / 2, 'y': 2})
    assert tip.is_hidden()
    canvas.click(position=place)
    page.wait_for_url('**/sub-0003.html#sub-0003_T1w_seg-x')


def test_one_scan_has_a_page(
    tmp_path: Path, open_page: OpenPage, axe: Check, html_faults: Callable[[Path], list[str]]
) -> None:
    root = tmp_path / 'out'
    group_data.write_labels(root, list(LABELS))
    group_data.write_scan(root, 'sub-01_T1w', LABELS)
    path = write(root)
    page = open_page(path)
    assert names(page) == ['sub-01_T1w']
    # There is no page of the participant to lead to.
    assert page.locator('a:not([href^="#"])').count() == 0
    assert page.get_by_text('too few to compare').count() == 1
    assert lit(page.locator('canvas').first) > 10
    assert axe(page) == []
    assert html_faults(path) == []


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_checkers_find_nothing(
    few: Path,
    scheme: str,
    open_page: OpenPage,
    axe: Check,
    html_faults: Callable[[Path], list[str]],
) -> None:
    path = write(few)
    page = open_page(path, color_scheme=scheme)
    for folded in page.locator('details').all():
        folded.evaluate('details => { details.open = true; }')
    assert axe(page) == []
    assert html_faults(path) == []


def test_narrow_screens_do_not_scroll_sideways(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few), viewport={'width': 360, 'height': 700})
    assert page.evaluate('document.documentElement.scrollWidth') <= 360


def test_all_plots_are_printed_dark_on_white(few: Path, open_page: OpenPage) -> None:
    page = open_page(write(few), color_scheme='dark', viewport={'width': 800, 'height': 300})
    last = page.locator('canvas').last
    page.emulate_media(media='print')
    page.wait_for_function('canvas => canvas.height === 72', arg=last.element_handle())
    corner = 'canvas => [...canvas.getContext("2d").getImageData(canvas.width / 2, 0, 1, 1).data]'
    assert last.evaluate(corner)[3] == 0
    assert page.locator('#filter').is_hidden()


@pytest.mark.parametrize('text', HOSTILE)
def test_hostile_text_is_text(tmp_path: Path, open_page: OpenPage, text: str) -> None:
    root, bids = tmp_path / 'out', tmp_path / 'bids'
    bids.mkdir()
    quoted = text.replace('"', '""').replace('\x00', '')
    (bids / 'participants.tsv').write_text(
        f'participant_id\t"{quoted}"\nsub-01\t"{quoted}"\n', newline=''
    )
    group_data.write_labels(root, list(LABELS))
    flag = {'Name': text, 'Reason': text}
    for number in range(1, 13):
        volumes = {**LABELS, 'CSF': LABELS['CSF'] * (1 + number / 100 + 3 * (number == 1))}
        scan = f'sub-{number:02d}_T1w'
        group_data.write_scan(root, scan, volumes, Measures={text: number}, Flags=[flag])
    entry = {'participant_id': 'sub-01', 'bids_name': 'sub-01_T1w', 'model': 'x'}
    ratings = [{**entry, 'rating': 'fail', 'note': text, 'rater': text}]
    (root / 'a_ratings.json').write_text(json.dumps({'Ratings': ratings}))
    (root / 'dataset_description.json').write_text(json.dumps({'Name': text}))
    page = open_page(write(root))
    shown = ' '.join(text.split()).replace('\x00', '\ufffd').replace('\x1b', '\ufffd')
    content = page.locator('body').text_content() or ''
    # Dataset, flags, reasons, names of the measure and of columns, the table's cells.
    assert content.count(shown) > 30
    row = page.locator('#scans tbody tr').filter(has_text='sub-01_T1w')
    assert row.get_by_text(shown, exact=True).count() >= 2
    assert page.locator('script').count() == 2
    assert page.locator('img[src="x"]').count() == 0
    assert page.evaluate('document.documentElement.scrollWidth') <= 1280


def test_names_of_files_are_quoted_in_links(tmp_path: Path, open_page: OpenPage) -> None:
    root = tmp_path / 'out'
    group_data.write_labels(root, list(LABELS))
    subject = 'sub-a"b#c?d:e<i>'
    group_data.write_scan(root, f'{subject}_T1w', LABELS)
    outputs = ScanOutputs(root, ScanName.parse(f'{subject}_T1w.nii.gz'), 'x')
    group_data.write_page(root, subject, [outputs.anchor])
    page = open_page(write(root))
    page.locator('#scans tbody a').click()
    page.wait_for_url('**/sub-a*')
    assert page.locator(':target').count() == 1


def test_the_newer_page_is_linked(tmp_path: Path) -> None:
    root = tmp_path / 'out'
    group_data.write_labels(root, list(LABELS))
    group_data.write_scan(root, 'sub-01_ses-A_T1w', LABELS)
    for name in ('sub-01', 'sub-01_ses-A'):
        group_data.write_page(root, name, [])
    link = 'href="{}.html#sub-01_ses-A_T1w_seg-x"'
    os.utime(root / 'sub-01.html', (1, 1))
    assert link.format('sub-01_ses-A') in write(root).read_text()
    os.utime(root / 'sub-01_ses-A.html', (0, 0))
    assert link.format('sub-01') in write(root).read_text()


def test_thumbnails_are_the_first_row_and_small(tmp_path: Path, open_page: OpenPage) -> None:
    root = tmp_path / 'out'
    group_data.write_group(root, 14, 2)
    for scan in range(13):
        group_data.write_mosaic(root, f'sub-{scan:04d}_T1w')
    (root / 'sub-0003/figures/sub-0003_seg-x_desc-cuts_dseg.webp').write_bytes(b'RIFFxxxxWEBP')
    page = open_page(write(root))
    pictures = page.locator('.worst img')
    shown = page.locator('.worst h3').all_inner_texts()
    # The flagged one, the one that stands out (whose picture is broken), ten others.
    assert shown[:2] == ['sub-0007_T1w', 'sub-0003_T1w']
    assert len(shown) == 12
    assert 10 <= pictures.count() <= 11
    for source in pictures.evaluate_all('all => all.map(img => img.src)'):
        content = base64.b64decode(source.removeprefix('data:image/webp;base64,'))
        assert len(content) < 10_000
        picture = np.asarray(Image.open(BytesIO(content)).convert('L'), float)
        assert picture.mean() > 150
        # Nothing of the second row.
        assert picture[: picture.shape[0] // 2].mean() > 150
    missing = ScanOutputs(root, ScanName.parse('sub-0013_T1w.nii.gz'), 'x')
    assert thumbnail(missing) is None


def test_the_page_needs_no_neighbours(few: Path) -> None:
    html = write(few).read_text()
    assert not re.search(r'(?:src|srcset)="(?!data:)', html)
    assert 'url(' not in html
    assert "default-src 'none'" in html
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert not set(data[1]) & set('<>&')
    assert len(json.loads(data[1])['links']) == 12
