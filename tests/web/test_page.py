"""The page in a headless Chromium that may reach ``brainchop-web`` and nothing else."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.models import main as models
from brainchop_bids.models.convert import write_network
from brainchop_bids.models.keras_model import network_of
from brainchop_bids.models.meshnet import build_meshnet
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import search_folders
from brainchop_bids.web import folder as web_folder
from tests.browser import OpenPage, watched_pages
from tests.image.test_dicom import write_series
from tests.models.networks import randomised
from tests.web.page import ROOT, require_page, served, static_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCAN = ROOT / 'examples' / 'bids' / 'sub-06' / 'anat' / 'sub-06_T1w.nii.gz'
Axe = Callable[['Page'], list[str]]
# Without one, so that each request is seen.
QUIET = {'service_workers': 'block'}
PHONE = {'viewport': {'width': 390, 'height': 844}, 'is_mobile': True, 'has_touch': True}
# ms; the machines that run tests are busy.
SOON, LONG = 60_000, 600_000
NO_WEBGL = """
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind === 'webgl2' ? null : original.call(this, kind, ...more);
};
"""


@pytest.fixture(scope='module')
def address() -> Iterator[str]:
    require_page()
    with served() as (url, _):
        yield url


@pytest.fixture
def open_served(browser: 'Browser', address: str) -> Iterator[OpenPage]:
    """Return a function that opens a page of ``brainchop-web``."""
    with watched_pages(browser, address) as open_one:
        yield lambda path='', **options: ready(open_one(path, **{**QUIET, **options}))


def ready(page: 'Page') -> 'Page':
    page.wait_for_selector('body[data-ready]', timeout=SOON)
    return page


def until(page: 'Page', expression: str, milliseconds: int = SOON) -> None:
    """Wait until an expression is true. `wait_for_function` would break the page's policy."""
    for _ in range(milliseconds // 100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    pytest.fail(f'not within {milliseconds} ms: {expression}')


def drop(page: 'Page', *paths: Path) -> None:
    """Drop files on the page as a person does."""
    # Chromium lets tests put files into an input only, so they come from one.
    page.evaluate("""() => {
      const input = document.createElement('input');
      Object.assign(input, { type: 'file', multiple: true, id: 'for-tests', hidden: true });
      document.body.append(input);
    }""")
    page.set_input_files('#for-tests', list(map(str, paths)))
    page.evaluate("""() => {
      const input = document.getElementById('for-tests');
      const transfer = new DataTransfer();
      for (const file of input.files) transfer.items.add(file);
      input.remove();
      const event = new DragEvent('drop', { dataTransfer: transfer, bubbles: true });
      document.body.dispatchEvent(event);
    }""")


def give(page: 'Page', scan: Path = SCAN) -> None:
    drop(page, scan)
    page.wait_for_selector('#segment:not(:disabled)', timeout=SOON)


def segmented(page: 'Page', model: str) -> None:
    page.check(f'input[value="{model}"]')
    page.click('#segment')
    page.wait_for_selector('#results:not([hidden]), #alerts .alert', timeout=LONG)
    assert page.inner_text('#alerts') == ''


def alert(page: 'Page') -> str:
    """Return the line at the head of the page, as soon as there is one."""
    return page.wait_for_selector('#alerts .alert p', timeout=SOON).inner_text()


def saved(page: 'Page', kind: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(f'[data-save="{kind}"]')
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def expected(model: str, folder: Path) -> Path:
    """Return a folder with what ``brainchop-segment`` writes of the scan."""
    folder.mkdir()
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', SCAN, folder / 'labels.nii.gz']
    for kind, suffix in (('mask', 'nii.gz'), ('brain', 'nii.gz'), ('volumes', 'tsv')):
        command += [f'--{kind}', folder / f'{kind}.{suffix}']
    command += ['--model', model]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return folder


def same_share(one: Path, other: Path) -> float:
    first, second = nib.load(one), nib.load(other)
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-5)
    assert first.header.get_zooms() == second.header.get_zooms()
    return float((np.asarray(first.dataobj) == np.asarray(second.dataobj)).mean())


@pytest.mark.parametrize('model', ['tissue', pytest.param('aseg', marks=pytest.mark.slow)])
def test_a_scan_that_is_dropped_gets_the_labels_of_brainchop_segment(
    open_served: OpenPage, model: str, tmp_path: Path, axe: Axe
) -> None:
    theirs = expected(model, tmp_path / 'expected')
    page = open_served()
    give(page)
    segmented(page, model)
    files = {kind: saved(page, kind, tmp_path) for kind in ('labels', 'mask', 'brain')}
    assert {path.name for path in files.values()} == {
        f'sub-06_seg-{model}_dseg.nii.gz',
        'sub-06_desc-brain_mask.nii.gz',
        'sub-06_desc-brain_T1w.nii.gz',
    }
    spec = load_spec(search_folders()[0] / model)
    found = np.unique(np.asarray(nib.load(files['labels']).dataobj))
    assert found.tolist() == list(range(spec.classes))
    for kind, path in files.items():
        assert same_share(path, theirs / f'{kind}.nii.gz') >= 0.9999, kind
    tables = [saved(page, 'volumes', tmp_path), theirs / 'volumes.tsv']
    rows = [list(csv.DictReader(path.open(), delimiter='\t')) for path in tables]
    known = {row['index']: row for row in rows[1]}
    assert len(rows[0]) == spec.classes - 1
    for row in rows[0]:
        assert row['name'] == known[row['index']]['name']
        # mm^3; a voxel has 3.4.
        volume = float(known[row['index']]['volume'])
        assert float(row['volume']) == pytest.approx(volume, rel=1e-3, abs=7)
        assert f'{float(row["volume"]) / 1000:.2f}' in page.inner_text('#results tbody')
    provenance = saved(page, 'provenance', tmp_path).read_text('utf-8')
    assert spec.sha256 in provenance
    json.loads(provenance)
    # A name in the table shows the structure, which the line under the view then names.
    name = page.locator('#results tbody button').nth(1)
    name.click()
    shown = json.dumps(name.inner_text())
    named = f'document.getElementById("readout").textContent.startsWith({shown})'
    until(page, named)
    assert axe(page) == []
    # The mask takes the place of the labels, and they come back.
    labels = page.locator('#canvas').screenshot()
    page.select_option('#layer', 'mask')
    mask = redrawn(page, labels)
    assert mask != labels
    assert page.evaluate(named)
    page.select_option('#layer', 'labels')
    assert redrawn(page, mask) == labels


def redrawn(page: 'Page', before: bytes) -> bytes:
    """Return the view as soon as it differs from the one before, or after some seconds."""
    for _ in range(50):
        page.wait_for_timeout(200)
        picture = page.locator('#canvas').screenshot()
        if picture != before:
            break
    return picture


def test_a_job_is_cancelled_and_the_next_one_runs(open_served: OpenPage) -> None:
    page = open_served()
    give(page)
    page.click('#segment')
    page.wait_for_selector('#cancel:not([hidden])')
    until(page, 'document.getElementById("step").textContent !== ""')
    page.click('#cancel')
    page.wait_for_selector('#segment:not([hidden]):not(:disabled)', timeout=SOON)
    assert page.inner_text('#said') == 'Cancelled'
    assert page.inner_text('#alerts') == ''
    assert page.is_hidden('#results')


@pytest.mark.parametrize(
    ('name', 'content', 'said'),
    [
        ('cut_T1w.nii.gz', SCAN.read_bytes()[:50_000], 'cut_T1w.nii.gz: is damaged or cut short'),
        ('other.nii', b'no image at all' * 100, 'other.nii: is not a NIfTI image'),
        ('empty.mgz', b'', 'empty.mgz: is empty'),
        ('photo.png', b'\x89PNG', 'photo.png: is no scan; expected .nii'),
        ('model.onnx', b'no network' * 9, 'model.onnx'),
    ],
)
def test_a_file_that_is_none_is_a_line_and_the_page_goes_on(
    open_served: OpenPage, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    page = open_served()
    path = tmp_path / name
    path.write_bytes(content)
    drop(page, path)
    line = alert(page)
    assert said in line
    assert '\n' not in line
    give(page)
    assert 'sub-06_T1w.nii.gz' in page.inner_text('#scan-name')
    assert page.inner_text('#alerts') == ''


def test_a_scan_too_large_is_a_line_and_the_page_goes_on(
    open_served: OpenPage, tmp_path: Path
) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((1024, 1024, 1024))
    header.set_zooms((0.25, 0.25, 0.25))
    (tmp_path / 'large.nii').write_bytes(header.binaryblock + bytes(1000))
    page = open_served()
    drop(page, tmp_path / 'large.nii')
    assert 'large.nii: has 1024 x 1024 x 1024 voxels, more than a page can hold' in alert(page)
    give(page)
    assert page.inner_text('#alerts') == ''


def test_of_a_large_scan_a_part_of_the_voxels_is_shown(
    open_served: OpenPage, tmp_path: Path
) -> None:
    # More than the viewer holds within 2 GB.
    data = np.zeros((384, 360, 352), np.int16)
    data[100:300, 90:250, 80:260] = 500
    nib.save(nib.Nifti1Image(data, np.diag([0.6, 0.6, 0.6, 1])), tmp_path / 'fine_T1w.nii')
    page = open_served()
    give(page, tmp_path / 'fine_T1w.nii')
    said = page.inner_text('#scan-name')
    assert '384 × 360 × 352 voxels of 0.6 × 0.6 × 0.6 mm, of which one in 8 is shown' in said
    sliders = page.locator('[data-axis]').all()
    assert [int(slider.get_attribute('max')) for slider in sliders] == [191, 179, 175]
    page.focus('[data-axis="0"]')
    before = page.inner_text('#readout')
    assert 'intensity 500' in before
    page.keyboard.press('ArrowRight')
    places = [text.split('z: ')[1].split(',')[0] for text in (before, page.inner_text('#readout'))]
    # Voxels of 1.2 mm.
    assert float(places[1]) - float(places[0]) == pytest.approx(1.2, abs=0.15)


@pytest.mark.parametrize(
    ('inputs', 'labels', 'said'),
    [
        (2, 3, 'takes 2 scans, a page gives one'),
        (1, 4, 'has 3 classes, but 4 labels; correct the labels'),
    ],
)
def test_a_model_that_does_not_fit_is_a_line_and_the_page_goes_on(
    open_served: OpenPage, tmp_path: Path, inputs: int, labels: int, said: str
) -> None:
    model = build_meshnet(channels=2, dilations=(1, 2), classes=3, in_channels=inputs)
    write_network(network_of(randomised(model)), 'tfjs', tmp_path)
    table = {str(index): f'Label {index}' for index in range(labels)}
    (tmp_path / 'labels.json').write_text(json.dumps(table))
    page = open_served()
    drop(page, *tmp_path.iterdir())
    line = alert(page)
    assert said in line
    assert '\n' not in line
    # The packaged ones can be chosen as before.
    give(page)
    page.click('#segment')
    page.wait_for_selector('#cancel:not([hidden])')
    until(page, 'document.getElementById("step").textContent.startsWith("Running the network")')
    assert page.inner_text('#alerts') == ''


def test_slices_that_are_none_are_a_line(browser: 'Browser', address: str, tmp_path: Path) -> None:
    (tmp_path / 'slice.dcm').write_bytes(b'no slice' * 99)
    # Not watched: dcm2niix writes to the console.
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        drop(ready(page), tmp_path / 'slice.dcm')
        assert 'no DICOM series' in alert(page)


def test_a_folder_of_dicom_slices_becomes_a_scan(open_served: OpenPage, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-1000, 1000, (90, 80, 20)).astype(np.int16)
    write_series(tmp_path / 'series', data)
    page = open_served()
    page.set_input_files('#scan-folder', str(tmp_path / 'series'))
    page.wait_for_selector('#segment:not(:disabled)', timeout=SOON)
    assert '90 × 80 × 20 voxels of 0.8 × 1.1 × 2.5 mm' in page.inner_text('#scan-name')


def test_your_own_model_is_dropped_and_chosen(open_served: OpenPage) -> None:
    page = open_served()
    folder = search_folders()[0] / 'tissue'
    files = [folder / name for name in ('model.json', 'group1-shard1of1.bin', 'brainchop.json')]
    offered = page.locator('.model').count()
    drop(page, *files)
    until(page, f'document.querySelectorAll(".model").length === {offered + 1}')
    chosen = page.locator('.model:has(:checked)').inner_text()
    assert 'your own' in chosen
    assert 'Gray Matter' in chosen


def test_the_keyboard_alone_moves_the_crosshair(open_served: OpenPage) -> None:
    page = open_served()
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.id') == 'choose-scan'
    give(page)
    page.focus('[data-axis="2"]')
    place = int(page.input_value('[data-axis="2"]'))
    before = page.inner_text('#readout')
    page.keyboard.press('ArrowRight')
    assert int(page.input_value('[data-axis="2"]')) == place + 1
    heights = [
        float(text.split(', ')[-1].removesuffix(' mm'))
        for text in (before, page.inner_text('#readout'))
    ]
    # Voxels of 1.5 mm.
    assert heights[1] - heights[0] == pytest.approx(1.5, abs=0.2)


@pytest.mark.parametrize(
    'options',
    [{}, {'color_scheme': 'dark'}, PHONE, {**PHONE, 'color_scheme': 'dark'}],
    ids=['light', 'dark', 'phone', 'dark phone'],
)
@pytest.mark.parametrize('path', ['', 'speed.html'])
def test_axe_finds_nothing_serious(
    open_served: OpenPage, axe: Axe, path: str, options: dict[str, Any]
) -> None:
    page = open_served(path, **options)
    assert axe(page) == []
    if not path:
        give(page)
        assert axe(page) == []
    # Nothing has to be scrolled sideways.
    width = page.evaluate('[document.documentElement.scrollWidth, innerWidth]')
    assert width[0] <= width[1]


@pytest.mark.parametrize('name', ['index.html', 'speed.html'])
def test_pages_are_valid_html(
    address: str, html_faults: Callable[[Path], list[str]], name: str
) -> None:
    assert html_faults(web_folder._PAGE / name) == []


def test_without_webgl_there_is_no_view_but_all_else(open_served: OpenPage) -> None:
    page = open_served()
    page.context.add_init_script(NO_WEBGL)
    page.reload()
    ready(page)
    assert 'no WebGL 2' in page.inner_text('#notes')
    give(page)
    assert page.is_hidden('#viewer')


def test_without_simd_a_line_says_what_to_do(open_served: OpenPage) -> None:
    page = open_served()
    page.context.add_init_script('WebAssembly.validate = () => false;')
    page.reload()
    ready(page)
    assert 'no SIMD' in alert(page)
    drop(page, SCAN)
    page.wait_for_selector('#scan-name:not(:empty)', timeout=SOON)
    assert page.is_disabled('#segment')


def test_the_speed_test_draws_its_graph(open_served: OpenPage) -> None:
    page = open_served('speed.html')
    page.click('#start')
    until(page, 'document.querySelectorAll("#graph circle").length > 2')
    page.click('#cancel')
    rows = page.locator('#measured tbody tr').all_inner_texts()
    sizes = [int(row.split('\t')[0]) for row in rows]
    assert sizes[:3] == [1, 2, 4]
    assert all(float(row.split('\t')[1]) > 0 for row in rows)
    with page.expect_download() as download:
        page.click('#save')
    table = Path(download.value.path()).read_text().splitlines()
    assert table[0] == 'frames\tthreads\tmilliseconds'
    assert len(table) == len(rows) + 1


def kept(page: 'Page') -> None:
    """Wait until the service worker has kept the page."""
    until(page, 'navigator.serviceWorker.controller?.state === "activated"')


def test_it_works_without_its_server_after_the_first_visit(browser: 'Browser') -> None:
    require_page()
    with served('--model', 'tissue') as (url, process), watched_pages(browser, url) as open_one:
        page = ready(open_one(''))
        kept(page)
        process.kill()
        process.wait()
        page.reload()
        ready(page)
        # Threads, too.
        assert page.evaluate('crossOriginIsolated')
        assert page.locator('.model').count() == 1
        give(page)
        page.click('#segment')
        page.wait_for_selector('#cancel:not([hidden])')
        until(
            page,
            'document.getElementById("step").textContent.startsWith("Running the network")'
            ' || document.querySelector("#alerts .alert")',
        )
        assert page.inner_text('#alerts') == ''


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    """Return the address of a folder behind a server that knows nothing of it."""
    require_page()
    assert models(['convert', 'tissue', 'web', str(tmp_path / 'some' / 'where')]) == 0
    with static_server(tmp_path) as address:
        yield f'{address}some/where/'


def test_any_server_will_do(browser: 'Browser', plain: str) -> None:
    with watched_pages(browser, plain) as open_one:
        page = ready(open_one(''))
        assert not page.evaluate('crossOriginIsolated')
        assert 'One thread only' in page.inner_text('#notes')
        give(page)
        kept(page)
        # From then on the service worker sends what threads need.
        page.click('#notes button')
        until(page, 'crossOriginIsolated')
        ready(page)
        assert page.inner_text('#notes') == ''
