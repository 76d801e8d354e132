"""The page of a run, as a parser and as a browser see it."""

import base64
import csv
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from brainchop_bids.system.errors import DatasetError
from brainchop_bids.training.config import TrainConfig
from brainchop_bids.training.options import CardOptions, DataOptions, Stage, ValidationOptions
from brainchop_bids.training.report.charts import Series, make_chart
from brainchop_bids.training.report.overlays import draw_overlay
from brainchop_bids.training.report.page import write_training_page
from brainchop_bids.training.report.scores import Scores, ValidationLog
from tests.browser import OpenPage
from tests.reports.participant.test_page import VOID

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = '<script>window.hit=1</script><img src=x onerror="window.hit=1"> \' {{7*7}}'
LABELS = ('BG', 'GM', 'WM', 'CSF')
COLORS = np.array([[0, 0, 0], [205, 62, 78], [245, 245, 245], [60, 60, 196]], np.uint8)
STEPS = (100, 200, 300, 400)


class Parsed(HTMLParser):
    """Elements in their nesting, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ''
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ('script', 'style'):
            self.text += data


def head() -> tuple[np.ndarray, np.ndarray]:
    """Return an image and labels of balls in each other."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1.2, 1.2, 48)] * 3, indexing='ij'))
    radius = np.sqrt((grid**2).sum(0))
    labels = sum((radius < limit).astype(np.uint8) for limit in (1.0, 0.7, 0.3))
    return (40 + 60 * labels + 4 * (radius * 10 % 3)).astype(np.uint8), labels.astype(np.uint8)


def write_log(out: Path, steps: range, names: tuple[str, ...]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    columns = ['stage', 'step', 'learning_rate', 'loss', 'validation_loss']
    columns += [f'{kind}_{name}' for kind in ('dice', 'validation_dice') for name in names]
    with (out / 'log.csv').open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        for step in steps:
            dice = [0.99, *(0.9 - 100 / (step + 200 + 50 * i) for i in range(len(names) - 1))]
            row = [int(step > 200), step, 1e-3 * step / 400, 0.2 + 60 / step, 0.3 + 60 / step]
            writer.writerow([*row, *dice, *['nan'] * len(names)])


def test_validation_loss_is_drawn_beside_the_training_loss(tmp_path: Path) -> None:
    write_log(tmp_path, range(20, 401, 20), LABELS)
    html = write_training_page(tmp_path, config()).read_text()
    ends = 'validation cubes from 3.3 to 0.45; training from 3.2 to 0.35.'
    assert f'Loss over the steps: {ends}' in html
    assert '<td class="number">0.4500</td>' in html
    # A log of an earlier version.
    log = tmp_path / 'log.csv'
    rows = [line.split(',') for line in log.read_text().splitlines()]
    log.write_text('\n'.join(','.join([*row[:4], *row[5:]]) for row in rows) + '\n')
    html = write_training_page(tmp_path, config()).read_text()
    assert 'Loss over the steps: training from 3.2 to 0.35.' in html


def config(name: str = 'tiny') -> TrainConfig:
    return TrainConfig(
        data=DataOptions(label_maps=HOSTILE),
        card=CardOptions(name=name, status='experimental'),
        stages=(Stage(steps=200), Stage(steps=200)),
        validation=ValidationOptions(every=100, patience=3),
    )


def write_run(out: Path, names: tuple[str, ...] = LABELS, colors: np.ndarray = COLORS) -> Path:
    """Write what a run leaves in its folder."""
    write_log(out, range(20, 401, 20), names)
    image, truth = head()
    rng = np.random.default_rng(0)
    scans = (HOSTILE, 'sub-02', 'sub-03', 'sub-04', 'sub-05')
    log = ValidationLog(out)
    for step in STEPS:
        gain = 0.9 - 0.1 * abs(step - 300) / 100
        dice = gain - 0.1 * np.arange(5)[::-1, None] / 5 - rng.random((5, len(names))) / 20
        dice[2, -1] = np.nan
        pictures = {}
        for i in (0, 1, 2, 4):
            found = np.where(rng.random(truth.shape) < 0.05, 0, np.roll(truth, 3 - i // 2, 0))
            pictures[scans[i]] = draw_overlay(image, truth, found, colors)
        log.add(step, Scores(scans, names, dice, colors, pictures))
    return out


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def page(run: Path) -> Path:
    return write_training_page(run, config(), [('Backend', 'torch 2.9'), ('Machine', HOSTILE)])


def test_it_says_what_the_tables_say(run: Path, page: Path) -> None:
    assert page == run / 'report.html'
    html = page.read_text('utf-8')
    parsed = Parsed(html)
    for word in (*LABELS[1:], 'sub-02', 'sub-05', HOSTILE, 'torch 2.9', 'experimental'):
        assert word in parsed.text
    with (run / 'validation.csv').open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['step'] == '300']
    for label in LABELS[1:]:
        values = {row['scan']: float(row['dice']) for row in rows if row['label'] == label}
        known = {scan: value for scan, value in values.items() if value == value}
        worst = min(known, key=lambda scan: known[scan])
        cells = [
            f'{np.mean(list(known.values())):.3f}',
            f'{np.median(list(known.values())):.3f}',
            worst.split('>')[-1],
            f'{known[worst]:.3f}',
            str(len(known)),
        ]
        line = next(
            row for row in re.findall('<tr>.*?</tr>', html) if f'<bdi>{label}</bdi></th>' in row
        )
        text = Parsed(line).text
        for cell in cells:
            assert cell in text, (label, cell, text)
    assert 'Whole scans at step 300' in parsed.text
    assert 'The best of 4 validations' in parsed.text
    assert 'patience = 3' in parsed.text
    # Its own script, and nothing of what the names hold.
    assert parsed.tags.count('script') == 1
    assert parsed.tags.count('svg') == 4
    assert parsed.tags.count('title') == 5
    assert parsed.tags.count('desc') == 4


def test_curves_lie_where_the_numbers_are(page: Path) -> None:
    html = page.read_text('utf-8')
    (strong,) = re.findall(
        r'Dice of whole validation scans</title>.*?<g class="strong">\s*<polyline points="(.*?)"',
        html,
        re.DOTALL,
    )
    points = np.array([[float(n) for n in pair.split(',')] for pair in strong.split()])
    assert len(points) == len(STEPS)
    # Axes: 0 to 400 steps from 56 to 628, Dice 0 to 1 from 234 up to 10.
    np.testing.assert_allclose((points[:, 0] - 56) / 572 * 400, STEPS, atol=0.1)
    with (page.parent / 'validation.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    means = [
        np.nanmean([float(row['dice']) for row in rows if row['step'] == str(step)])
        for step in STEPS
    ]
    np.testing.assert_allclose((234 - points[:, 1]) / 224, means, atol=1e-3)
    # The second stage begins in the middle.
    assert html.count('class="stage" x1="342.0" x2="342.0"') == 4


def test_pictures_are_those_that_were_kept(page: Path) -> None:
    images = re.findall(r'src="data:image/webp;base64,(.*?)"', page.read_text('utf-8'))
    # Three of the worst and the best.
    assert len(images) == 4
    image, truth = head()
    expected = draw_overlay(image, truth, truth, COLORS)
    for content in images:
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert('RGB'))
        # Scan and truth, which are the same in all.
        two = 2 * expected.shape[1] // 3
        np.testing.assert_array_equal(found[:, :two], expected[:, :two])


def test_a_run_without_validation_or_rows_has_a_page(tmp_path: Path) -> None:
    write_log(tmp_path, range(0), LABELS)
    none = TrainConfig(data=DataOptions(label_maps='maps'))
    assert 'The log has no rows' in write_training_page(tmp_path, none).read_text()
    write_log(tmp_path, range(20, 60, 20), LABELS)
    text = write_training_page(tmp_path, none).read_text()
    assert 'validation.every is 0' in text
    assert Parsed(text).tags.count('svg') == 3
    (tmp_path / 'log.csv').write_text('what\nis this\n')
    with pytest.raises(DatasetError, match=r'log\.csv: is no log of a training run'):
        write_training_page(tmp_path, none)


def test_without_pictures_the_tables_stay(tmp_path: Path) -> None:
    write_run(tmp_path)
    for path in (tmp_path / 'validation').iterdir():
        path.write_bytes(b'damaged')
    html = write_training_page(tmp_path, config()).read_text()
    assert 'Whole scans at step 300' in html
    assert '<img' not in html.replace(HOSTILE, '')


def test_lines_have_gaps_where_there_is_no_number() -> None:
    nan = float('nan')
    points = [(1, 0.1), (2, 0.2), (3, nan), (4, 0.4), (5, nan), (6, 0.6), (7, 0.7)]
    chart = make_chart('Dice', [Series('GM', points)], last=7)
    assert chart is not None
    (line,) = chart.lines
    assert [len(piece.split()) for piece in line.pieces] == [2, 2]
    assert len(line.dots) == 5
    assert chart.description == 'Dice over the steps: GM from 0.1 to 0.7.'
    assert make_chart('Dice', [Series('GM', [(1, nan)])], last=1) is None
    many = [Series(f's{i}', points) for i in range(9)]
    chart = make_chart('Dice', [*many, Series('mean', points, strong=True)], last=7, others='all')
    assert chart is not None
    assert [line.name for line in chart.legend] == ['mean', 'all']
    assert 's0' not in chart.description


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_browser_opens_it(
    page: Path,
    open_page: OpenPage,
    axe: 'Callable[[Page], list[str]]',
    html_faults: Callable[[Path], list[str]],
    scheme: str,
) -> None:
    opened = open_page(page, color_scheme=scheme)
    assert opened.evaluate('window.hit') is None
    assert HOSTILE.split(" '")[0] in opened.locator('main').inner_text()
    # Nothing is wider than a phone's screen.
    opened.set_viewport_size({'width': 360, 'height': 700})
    assert opened.evaluate('document.documentElement.scrollWidth') <= 360
    for summary in opened.locator('summary').all():
        summary.click()
    header = opened.locator('table', has_text='Mean Dice').last.locator('th', has_text='Mean Dice')
    header.locator('button').click()
    assert header.get_attribute('aria-sort') == 'ascending'
    assert axe(opened) == []
    if scheme == 'light':
        assert html_faults(page) == []
