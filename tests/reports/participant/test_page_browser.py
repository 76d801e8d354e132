"""The participant's page in a browser: what moves, what is shown, and that nothing leaves it."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainchop_bids.reports.participant.page import write_participant_page
from tests.browser import OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Page

Facts = Callable[..., dict[str, Any]]
Add = Callable[..., Path]

HOSTILE = (
    '<img src=x onerror="window.hit=1"></script><script>window.hit=1</script>" \' {{7*7}} \u202e𝔅'
)


def show_viewer(page: 'Page') -> None:
    """Scroll to the first viewer and wait until it is unpacked."""
    page.locator('[data-viewer]').first.scroll_into_view_if_needed()
    page.wait_for_selector('[data-viewer][data-ready]')


def slice_to(page: 'Page', plane: str, place: int) -> None:
    """Move a slider as a hand would."""
    slider = page.locator(f'[data-plane="{plane}"] input').first
    slider.evaluate(
        "(input, place) => { input.value = place; input.dispatchEvent(new Event('input')); }",
        place,
    )


def pixels(page: 'Page', selector: str) -> np.ndarray:
    """Return what is seen of an element."""
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).first.screenshot())))


def readout(page: 'Page') -> tuple[str, np.ndarray]:
    """Return the label under the crosshair, and where that is in mm."""
    text = page.locator('[data-readout]').first.inner_text()
    found = re.fullmatch(r'(.+) · R (\S+), A (\S+), S (\S+) mm', text)
    assert found, text
    return found[1], np.array([float(part) for part in found.groups()[1:]])


def test_pages_of_real_scans_work(real_derivatives: Path, open_page: OpenPage) -> None:
    pages = sorted(real_derivatives.glob('sub-*.html'))
    assert len(pages) == 10
    for path in pages:
        assert path.stat().st_size < 6e6
        page = open_page(path)
        show_viewer(page)
        assert page.locator('[data-message]').first.is_hidden()
        for plane in ('axial', 'coronal', 'sagittal'):
            assert np.std(pixels(page, f'[data-plane="{plane}"] canvas')) > 20
        for link in page.locator('a[href^="#"]').all():
            target = (link.get_attribute('href') or '')[1:]
            assert page.locator(f'[id="{target}"]').count() == 1


def test_the_slider_and_the_switches_change_what_is_seen(
    real_derivatives: Path, open_page: OpenPage
) -> None:
    page = open_page(real_derivatives / 'sub-01.html')
    seen = {}
    slider, switches = page.locator('[data-opacity]'), page.locator('[data-shows]')
    for opacity in ('0', '40', '100'):
        slider.fill(opacity)
        seen[opacity] = pixels(page, '.stack').astype(int)
    switches.first.uncheck()
    assert (pixels(page, '.stack') == seen['0']).all()
    colour = {name: np.ptp(image, axis=2).mean() for name, image in seen.items()}
    assert colour['0'] < 0.5 * colour['40'] < 0.5 * colour['100']
    switches.last.uncheck()
    bare = pixels(page, '.stack')
    # Letters are yellow, all else is grey.
    assert np.ptp(bare, axis=2).mean() < 0.5 * colour['0']


def test_the_viewer_shows_the_scan_as_nibabel_does(
    real_derivatives: Path, open_page: OpenPage
) -> None:
    """Planes, sides, coordinates and labels against the written images."""
    page = open_page(real_derivatives / 'sub-01.html', viewport={'width': 1400, 'height': 1000})
    show_viewer(page)
    for name in ('labels', 'crosshair'):
        page.locator(f'[data-viewer-control="{name}"]').uncheck()
    anat = real_derivatives / 'sub-01' / 'anat'
    scan = nib.as_closest_canonical(
        nib.load(anat / 'sub-01_space-conform_desc-preproc_T1w.nii.gz')
    )
    values = np.asarray(scan.dataobj)
    labels = nib.load(anat / 'sub-01_space-conform_seg-tissue_dseg.nii.gz')
    names = {1: 'Gray Matter', 2: 'White Matter', 3: 'Cerebrospinal Fluid'}
    rng = np.random.default_rng(0)
    _, middle = readout(page)
    for _ in range(12):
        for plane in ('axial', 'coronal', 'sagittal'):
            most = int(page.locator(f'[data-plane="{plane}"] input').get_attribute('max') or 0)
            slice_to(page, plane, int(rng.integers(most // 4, 3 * most // 4)))
        label, place = readout(page)
        voxel = np.rint(nib.affines.apply_affine(np.linalg.inv(labels.affine), place)).astype(int)
        value = int(np.asarray(labels.dataobj)[tuple(voxel)])
        assert label == (f'{names[value]} ({value})' if value else 'no label')
    page.locator('[data-find="2"]').click()
    assert readout(page)[0] == 'White Matter (2)'
    assert np.abs(readout(page)[1] - middle).max() < 40
    at = np.rint(nib.affines.apply_affine(np.linalg.inv(scan.affine), readout(page)[1])).astype(
        int
    )
    for axis, plane in enumerate(('sagittal', 'coronal', 'axial')):
        shot = page.locator(f'[data-plane="{plane}"] canvas').evaluate(
            "canvas => canvas.toDataURL('image/png')"
        )

        seen = Image.open(io.BytesIO(base64.b64decode(shot.partition(',')[2]))).convert('L')
        whole = values.take(at[axis], axis=axis).T[::-1]
        shape = json.loads(
            (real_derivatives / 'sub-01/figures/sub-01_desc-slices_T1w.json').read_text()
        )['shape']
        across, up = (shape[other] for other in range(3) if other != axis)
        small = np.asarray(seen.resize((across, up), Image.Resampling.BOX), dtype=float)
        windows = np.lib.stride_tricks.sliding_window_view(whole, small.shape)
        best = max(
            float(np.corrcoef(window.ravel(), small.ravel())[0, 1])
            for row in windows
            for window in row
        )
        assert best > 0.95, plane


def test_the_cursor_and_the_keyboard_move_the_crosshair(
    real_derivatives: Path, open_page: OpenPage
) -> None:
    page = open_page(real_derivatives / 'sub-02.html')
    show_viewer(page)
    _, before = readout(page)
    canvas = page.locator('[data-plane="axial"] canvas')
    box = canvas.bounding_box()
    assert box
    canvas.click(position={'x': 0.7 * box['width'], 'y': 0.3 * box['height']})
    _, after = readout(page)
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert after[2] == before[2]
    page.locator('[data-plane="axial"] input').focus()
    page.keyboard.press('ArrowRight')
    assert readout(page)[1][2] == after[2] + 1


def test_the_table_of_volumes_sorts(real_derivatives: Path, open_page: OpenPage) -> None:
    page = open_page(real_derivatives / 'sub-01.html')
    header = page.locator('table.volumes th', has_text='Voxels')
    for order, reverse in (('ascending', False), ('descending', True)):
        header.locator('button').focus()
        page.keyboard.press('Enter')
        assert header.get_attribute('aria-sort') == order
        cells = page.locator('table.volumes tbody tr td:nth-child(4)').all_inner_texts()
        counts = [int(cell.replace(',', '')) for cell in cells]
        assert counts == sorted(counts, reverse=reverse)
        assert len(set(counts)) == 3


def test_ratings_are_downloaded_and_kept(derivatives: Path, open_page: OpenPage) -> None:
    path = write_participant_page(derivatives, '01')
    assert path is not None
    page = open_page(path)
    assert page.locator('[data-json]').is_disabled()
    page.get_by_label('fail').check()
    page.get_by_label('Note').fill('eyes\tlabelled, "twice"\n<b>')
    page.get_by_label('Your name').fill('Ann Ö.')
    with page.expect_download() as waiting:
        page.locator('[data-json]').click()
    assert waiting.value.suggested_filename == 'sub-01_rater-AnnÖ_ratings.json'
    (rating,) = json.loads(Path(waiting.value.path()).read_text('utf-8'))['Ratings']
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', rating.pop('rated'))
    assert rating == {
        'participant_id': 'sub-01',
        'bids_name': 'sub-01_T1w',
        'model': 'gw',
        'rating': 'fail',
        'note': 'eyes\tlabelled, "twice"\n<b>',
        'rater': 'Ann Ö.',
        'source_sha256': 'cd' * 32,
        'model_sha256': 'ab' * 32,
    }
    with page.expect_download() as waiting:
        page.locator('[data-tsv]').click()
    lines = Path(waiting.value.path()).read_text('utf-8').splitlines()
    assert len(lines) == 2
    row = dict(zip(*(line.split('\t') for line in lines), strict=True))
    assert row['note'] == 'eyes labelled, "twice" <b>'
    page.reload()
    assert page.get_by_label('fail').is_checked()
    assert page.get_by_label('Your name').input_value() == 'Ann Ö.'


def test_hostile_derivatives_run_nothing(
    derivatives: Path, add_result: Add, sidecar_facts: Facts, open_page: OpenPage
) -> None:
    facts = sidecar_facts(
        Model={'Name': HOSTILE, 'SHA256': HOSTILE},
        Warnings=[HOSTILE],
        Flags=[{'Name': HOSTILE, 'Reason': HOSTILE, 'Value': HOSTILE}],
        Measures={HOSTILE: 1.0},
        Brainchop={'SourceSHA256': HOSTILE},
    )
    table = 'index\tname\tvoxels\tvolume\n1\t"' + HOSTILE.replace('"', '""') + '"\t1\t1\n'
    add_result('sub-01_T1w', sidecar=json.dumps(facts), volumes=table)
    names = (derivatives / 'seg-gw_dseg.tsv').read_text()
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    (derivatives / 'seg-gw_dseg.tsv').write_text(names.replace('White Matter', quoted))
    (derivatives / 'dataset_description.json').write_text(json.dumps({'Name': HOSTILE}))
    (derivatives / 'logs/CITATION.md').write_text(HOSTILE)
    (derivatives / 'logs/crash-1.txt').write_text(
        f'Node: app_wf.sub_01_run_2_T1w_wf.conform\n/x/sub-01_run-2_T1w.nii.gz\nOSError: {HOSTILE}'
    )
    path = write_participant_page(derivatives, '01')
    assert path is not None
    page = open_page(path)
    show_viewer(page)
    assert page.evaluate('window.hit') is None
    # As text, in sight: what a browser drops of white space aside.
    assert page.locator('main').inner_text().count('onerror="window.hit=1"') >= 6
    assert page.locator('img:not([src^="data:"])').count() == 0


def test_a_viewer_without_its_files_says_so(derivatives: Path, open_page: OpenPage) -> None:
    (derivatives / 'sub-01/figures/sub-01_seg-gw_desc-slices_dseg.gz').write_bytes(b'cut short')
    path = write_participant_page(derivatives, '01')
    assert path is not None
    page = open_page(path)
    page.locator('[data-viewer]').scroll_into_view_if_needed()
    page.get_by_text('The viewer cannot be shown').wait_for()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_checkers_find_nothing_serious(
    real_derivatives: Path,
    open_page: OpenPage,
    axe: 'Callable[[Page], list[str]]',
    html_faults: Callable[[Path], list[str]],
    scheme: str,
) -> None:
    path = real_derivatives / 'sub-01.html'
    page = open_page(path, color_scheme=scheme)
    show_viewer(page)
    assert axe(page) == []
    if scheme == 'light':
        assert html_faults(path) == []
