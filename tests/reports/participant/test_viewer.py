"""The viewer of a participant's page in a browser: mouse, touch, keys, colours, surface."""

import base64
import gzip
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from brainchop_bids.reports.participant.page import write_participant_page
from tests.browser import OpenPage
from tests.reports.participant.test_page_browser import readout, show_viewer

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WIDE = {'viewport': {'width': 1400, 'height': 1000}}
PHONE = {'viewport': {'width': 390, 'height': 844}, 'has_touch': True, 'is_mobile': True}


def open_viewer(open_page: OpenPage, root: Path, name: str = 'sub-01', **options: Any) -> 'Page':
    page = open_page(root / f'{name}.html', **{**WIDE, **options})
    show_viewer(page)
    page.locator('[data-viewer]').first.evaluate("root => root.scrollIntoView({block: 'start'})")
    return page


def plane(page: 'Page', name: str) -> 'Locator':
    return page.locator(f'[data-plane="{name}"] canvas').first


def spot(canvas: 'Locator', right: float, down: float) -> tuple[float, float]:
    """Return a point of a canvas, given by fractions, in the window."""
    box = canvas.bounding_box()
    assert box
    return box['x'] + right * box['width'], box['y'] + down * box['height']


def show_surface(page: 'Page') -> 'Locator':
    canvas = page.locator('[data-projection] canvas').first
    canvas.scroll_into_view_if_needed()
    await_that(page, lambda: picture(canvas).any())
    return canvas


def at_slice(slider: 'Locator', place: float) -> bool:
    return float(slider.input_value()) == place


def differs(canvas: 'Locator', seen: np.ndarray) -> bool:
    return bool((picture(canvas) != seen).any())


def await_that(page: 'Page', condition: Callable[[], object]) -> None:
    """Wait for what wheels and fingers do: browsers handle them when they like.

    Playwright's own waiting needs a page that allows `eval`.
    """
    for _ in range(500):
        if condition():
            return
        page.wait_for_timeout(10)
    pytest.fail('nothing happened in five seconds')


def picture(canvas: 'Locator') -> np.ndarray:
    """Return the colours of a canvas, as it was painted."""
    shot = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    image = Image.open(io.BytesIO(base64.b64decode(shot.partition(',')[2])))
    return np.asarray(image.convert('RGB')).astype(int)


def switch_off(page: 'Page', *names: str) -> None:
    for name in names:
        page.locator(f'[data-viewer-control="{name}"]').first.uncheck()


def test_the_wheel_and_keys_move_slices(real_derivatives: Path, open_page: OpenPage) -> None:
    page = open_viewer(open_page, real_derivatives)
    axial, slider = plane(page, 'axial'), page.locator('[data-plane="axial"] input').first
    start = float(slider.input_value())
    page.mouse.move(*spot(axial, 0.4, 0.4))
    page.mouse.move(*spot(axial, 0.5, 0.5))
    before = page.evaluate('scrollY')
    # Up is up. A notch of the wheel is a slice, a touch pad needs several small moves for one.
    for turns, moved in (([-120], 1), ([-120], 2), ([100], 1), ([-12, -12, -12], 2)):
        for down in turns:
            page.mouse.wheel(0, down)
        await_that(page, partial(at_slice, slider, start + moved))
    assert page.evaluate('scrollY') == before
    place = start + 2
    # A click gives the keys to the slider of the plane.
    page.mouse.click(*spot(axial, 0.5, 0.5))
    for key, moved in (
        ('PageUp', 10), ('ArrowDown', 9), ('ArrowRight', 10), ('PageDown', 0), ('PageDown', -10),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert float(slider.input_value()) == place + moved
    page.keyboard.press('End')
    top = float(slider.get_attribute('max') or 0)
    assert float(slider.input_value()) == top
    # Beyond the last slice the page scrolls, and so it does under a mouse that rests.
    page.mouse.wheel(0, -300)
    await_that(page, lambda: page.evaluate('scrollY') < before)


def test_zoom_keeps_what_is_under_the_mouse_and_the_picture_moves(
    real_derivatives: Path, open_page: OpenPage
) -> None:
    page = open_viewer(open_page, real_derivatives)
    switch_off(page, 'labels', 'crosshair')
    coronal = plane(page, 'coronal')
    plain = picture(coronal)
    page.mouse.move(*spot(coronal, 0.3, 0.4))
    under = readout(page)
    page.keyboard.down('Control')
    for _ in range(6):
        seen = picture(coronal)
        page.mouse.wheel(0, -120)
        await_that(page, partial(differs, coronal, seen))
    page.keyboard.up('Control')
    assert page.evaluate('visualViewport.scale') == 1
    page.mouse.move(*spot(coronal, 0.3, 0.4))
    assert readout(page)[0] == under[0]
    assert (readout(page)[1] == under[1]).all()
    zoomed = picture(coronal)
    assert np.abs(zoomed - plain).mean() > 5
    # A drag with Shift, or with the middle button, moves the picture by as much.
    for button, key in (('middle', None), ('left', 'Shift')):
        page.mouse.move(*spot(coronal, 0.3, 0.4))
        before = readout(page)[1]
        if key:
            page.keyboard.down(key)
        page.mouse.down(button=button)
        page.mouse.move(*spot(coronal, 0.4, 0.3))
        page.mouse.up(button=button)
        if key:
            page.keyboard.up(key)
        page.mouse.move(*spot(coronal, 0.4, 0.3))
        assert np.abs(readout(page)[1] - before).max() <= 1
        page.mouse.move(*spot(coronal, 0.3, 0.4))
        after = readout(page)[1]
        assert after[0] < before[0] - 2
        assert after[2] < before[2] - 2
    slider = page.locator('[data-plane="coronal"] input').first
    slider.focus()
    page.keyboard.press('0')
    assert (picture(coronal) == plain).all()
    page.keyboard.press('+')
    closer = picture(coronal)
    page.keyboard.press('Shift+ArrowLeft')
    assert (picture(coronal) != closer).any()
    page.get_by_role('button', name='Zoom out').first.click()
    assert (picture(coronal) == plain).all()


def test_window_level_and_colours_of_the_scan(real_derivatives: Path, open_page: OpenPage) -> None:
    page = open_viewer(open_page, real_derivatives)
    switch_off(page, 'labels', 'crosshair')
    sagittal = plane(page, 'sagittal')
    middle = (slice(60, -60), slice(60, -60))  # without letters
    plain = picture(sagittal)[middle]

    def drag(right: float, down: float) -> np.ndarray:
        page.mouse.move(*spot(sagittal, 0.5, 0.5))
        page.mouse.down(button='right')
        x, y = spot(sagittal, 0.5, 0.5)
        page.mouse.move(x + right, y + down)
        page.mouse.up(button='right')
        return picture(sagittal)[middle]

    assert drag(0, -60).mean() > plain.mean() + 20  # upwards is brighter
    assert drag(0, 60).mean() == pytest.approx(plain.mean(), abs=1)
    assert drag(-150, 0).std() > 1.3 * plain.std()
    window = page.locator('[data-viewer-control="window"]').first
    assert window.input_value() == '105'
    page.get_by_role('button', name='Reset').first.click()
    assert (picture(sagittal)[middle] == plain).all()
    # By keys: a step of the slider.
    window.focus()
    page.keyboard.press('PageUp')
    assert int(window.input_value()) > 255
    assert picture(sagittal)[middle].std() < plain.std()
    page.get_by_role('button', name='Reset').first.click()
    colors = page.get_by_label('Colours').first
    colors.select_option('inverted')
    # Smoothing rounds both ways.
    assert np.abs(picture(sagittal)[middle] + plain - 255).max() <= 2
    colors.select_option('hot')
    hot = picture(sagittal)[middle]
    bright = plain.max(axis=2) > 120
    assert (hot[bright][:, 0] >= 250).mean() > 0.98
    assert hot[bright][:, 2].mean() < plain[bright].mean()


def test_touch_on_a_phone(real_derivatives: Path, open_page: OpenPage) -> None:
    page = open_viewer(open_page, real_derivatives, **PHONE)
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    canvas = plane(page, 'axial')
    canvas.scroll_into_view_if_needed()
    # A finger that moves up scrolls the page, unless the picture is zoomed.
    assert canvas.evaluate('canvas => getComputedStyle(canvas).touchAction') == 'pan-y'
    before = readout(page)[1]
    page.touchscreen.tap(*spot(canvas, 0.7, 0.4))
    tapped = readout(page)[1]
    assert tapped[0] > before[0]
    assert tapped[1] > before[1]
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [dict(zip('xy', spot(canvas, *point), strict=True)) for point in points]
        session.send('Input.dispatchTouchEvent', {'type': f'touch{kind}', 'touchPoints': places})

    plain = picture(canvas)
    touch('Start', (0.4, 0.5), (0.6, 0.5))
    for apart in (0.15, 0.2, 0.3):
        touch('Move', (0.5 - apart, 0.5), (0.5 + apart, 0.5))
    touch('End')
    zoomed = "canvas => getComputedStyle(canvas).touchAction === 'none'"
    await_that(page, lambda: canvas.evaluate(zoomed))
    assert (picture(canvas) != plain).any()
    assert (readout(page)[1] == tapped).all()
    page.locator('[data-viewer-action="reset"]').first.tap()
    assert (picture(canvas) == plain).all()


def test_the_surface_is_what_numpy_sees_from_behind(
    real_derivatives: Path, open_page: OpenPage
) -> None:
    page = open_viewer(open_page, real_derivatives)
    switch_off(page, 'crosshair')
    figures = real_derivatives / 'sub-01' / 'figures'
    grid = json.loads((figures / 'sub-01_desc-slices_T1w.json').read_text())
    packed = (figures / 'sub-01_seg-tissue_desc-slices_dseg.gz').read_bytes()
    labels = np.frombuffer(gzip.decompress(packed), np.uint8).reshape(grid['shape'][::-1])
    brain = np.isin(labels, (1, 2))  # not fluid
    place = np.argwhere(brain)
    least, most = place.min(axis=0), place.max(axis=0)
    size = int(np.ceil(np.hypot.reduce(most - least))) + 4
    # The first voxel from behind, in the grid of the picture.
    seen = np.take_along_axis(labels * brain, brain.argmax(axis=1)[:, None], axis=1)[:, 0]
    expected = np.zeros((size, size), int)
    middle = (least + most) / 2
    for line, column in np.argwhere(seen):
        row = int(np.floor(size / 2 - (line - middle[0])))
        expected[row, int(np.floor(size / 2 + column - middle[2]))] = seen[line, column]
    canvas = show_surface(page)
    for name in ('turn', 'tilt'):
        page.locator(f'[data-angle="{name}"]').first.evaluate(
            "input => { input.value = 0; input.dispatchEvent(new Event('input')); }"
        )
    shown = Image.fromarray(picture(canvas).astype(np.uint8)).resize((size, size), 1)
    found = np.asarray(shown).astype(int)
    inside = expected > 0
    assert (found.max(axis=2)[inside] > 0).mean() > 0.98
    # Grey matter is red; of white matter, red and blue are equal.
    red = found[..., 0] > 1.6 * found[..., 2] + 5
    assert (red == (expected == 1))[inside].mean() > 0.9
    beyond = found.max(axis=2)[:, : size // 12]
    assert (beyond[: size // 3] == 0).all()

    # A click moves the crosshair to the surface that is seen.
    line, column = size // 2 - 10, size // 2 + 30
    page.mouse.click(*spot(canvas, (column + 0.5) / size, (line + 0.5) / size))
    label, place = readout(page)
    assert label.startswith(('Gray Matter', 'White Matter'))
    affine = np.array([*grid['affine'], [0, 0, 0, 1]])
    voxel = np.rint(np.linalg.inv(affine) @ [*place, 1]).astype(int)[:3]
    across = column - size / 2 + middle[2]
    assert abs(voxel[0] - across) < 2.5
    assert abs(voxel[1] - brain[voxel[2], :, voxel[0]].argmax()) == 0


def test_a_drag_turns_the_surface_and_a_structure_shows_in_glass(
    real_derivatives: Path, open_page: OpenPage
) -> None:
    page = open_viewer(open_page, real_derivatives)
    canvas = show_surface(page)
    turn, tilt = (page.locator(f'[data-angle="{name}"]').first for name in ('turn', 'tilt'))
    plain, before = picture(canvas), readout(page)[1]
    page.mouse.move(*spot(canvas, 0.5, 0.5))
    page.mouse.down()
    x, y = spot(canvas, 0.5, 0.5)
    # Slower than a step of the slider.
    for step in range(1, 41):
        page.mouse.move(x + step, y + step / 2)
    page.mouse.up()
    assert (turn.input_value(), tilt.input_value()) == ('100', '25')
    assert (picture(canvas) != plain).any()
    assert (readout(page)[1] == before).all()
    # Names of structures choose the surface, too.
    page.locator('[data-find="2"]').first.focus()
    page.keyboard.press('Enter')
    select = page.locator('[data-projection] select').first
    await_that(page, lambda: select.input_value() == '2')
    # Whoever uses keys goes on with them in the planes.
    assert page.evaluate("document.activeElement.closest('[data-plane]').dataset.plane") == 'axial'
    # White matter in its colour, and the rest like glass: without the red of grey matter.
    switch_off(page, 'crosshair')
    show_surface(page)
    await_that(page, lambda: picture(canvas)[40:-40, 40:-40].max() > 200)
    shown = picture(canvas)[40:-40, 40:-40]
    assert (shown[..., 0] - shown[..., 2]).max() < 5


def test_left_stands_beside_right(
    derivatives: Path,
    add_result: Callable[..., Path],
    open_page: OpenPage,
    axe: 'Callable[[Page], list[str]]',
    html_faults: Callable[[Path], list[str]],
) -> None:
    lines = ['1\tLeft-Caudate\t40\t4400', '2\tRight-Caudate\t36\t3600', '3\tBrain-Stem\t9\t21000']
    add_result('sub-01_T1w', volumes='\n'.join(['index\tname\tvoxels\tvolume', *lines]) + '\n')
    path = write_participant_page(derivatives, '01')
    assert path is not None
    page = open_page(path)
    show_viewer(page)
    rows = page.locator('table.volumes tbody tr')
    assert rows.count() == 2
    cells = [rows.nth(row).locator('td, th').all_inner_texts() for row in range(2)]
    assert cells[0][1:8] == ['1, 2', 'Caudate', '4.40', '3.60', '+20.0', '8.00', '27.59']
    assert cells[1][1:8] == ['3', 'Brain-Stem', '–', '–', '–', '21.00', '72.41']
    page.get_by_role('button', name='Right-Caudate, 3.60 mL').click()
    assert readout(page)[0].endswith('(2)')
    page.get_by_role('button', name='Caudate', exact=True).click()
    assert readout(page)[0].endswith('(1)')
    assert page.locator('[data-projection] select').input_value() == '1 2'
    header = page.locator('table.volumes th', has_text='Left (mL)')
    header.get_by_role('button').click()
    assert header.get_attribute('aria-sort') == 'ascending'
    assert axe(page) == []
    assert html_faults(path) == []
