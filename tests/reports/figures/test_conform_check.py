"""The picture of the original scan, against boxes and sides worked out by nibabel."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.reports.figures.conform_check import draw_conform_check

BLUE = np.array([79, 195, 255])


def scanner(codes: str, shape: tuple[int, int, int], zooms: tuple[float, ...]) -> Geometry:
    """Return a grid whose axes point along ``codes``, its middle at the origin."""
    turn = nib.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (to, sign) in enumerate(turn):
        affine[int(to), axis] = sign * zooms[axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry.from_affine(affine, shape)


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """Split a picture at its black columns between panels of blue outlines."""
    blue = (np.abs(picture.astype(int) - BLUE).sum(axis=2) < 30).any(axis=0)
    starts = np.flatnonzero(blue & ~np.roll(blue, 1))
    stops = np.flatnonzero(blue & ~np.roll(blue, -1))
    return [picture[:, start : stop + 1] for start, stop in zip(starts, stops, strict=True)]


@pytest.mark.parametrize('codes', ['RAS', 'LAS', 'PIR', 'ASL', 'SPR'])
def test_anterior_superior_and_right_stand_where_letters_do(codes: str) -> None:
    """Whatever the axes of the scan, a bright spot at its S, A and R end is up and right."""
    shape, zooms = (60, 50, 40), (2.0, 2.5, 3.0)
    grid = scanner(codes, shape, zooms)
    world = nib.affines.apply_affine(grid.affine, np.indices(shape).reshape(3, -1).T)
    half = np.abs(world).max(axis=0)
    # Planes through the middle, so that each slice shows two of the three spots.
    data = np.full(shape, 10.0)
    for axis in range(3):
        away = world.copy()
        away[:, axis] -= 0.7 * half[axis]
        data.reshape(-1)[(away**2).sum(axis=1) < 11**2] = 200
    conformed = scanner('LIA', (256, 256, 256), (1.0, 1.0, 1.0))
    picture = np.asarray(draw_conform_check(data, grid, conformed))
    found = panels(picture)
    assert len(found) == 3
    for panel in found:
        rows, columns = np.nonzero((panel.min(axis=2) > 150) & (np.ptp(panel, axis=2) < 20))
        height, width = panel.shape[:2]
        assert rows.size > 50
        # One spot is above the middle, one to the right of it; none opposite.
        assert (rows < 0.48 * height).any()
        assert (columns > 0.52 * width).any()
        assert not ((rows > 0.6 * height) | (columns < 0.4 * width)).any()


def test_the_box_has_the_size_of_the_conformed_volume() -> None:
    grid = scanner('RAS', (100, 100, 100), (1.0, 1.0, 1.0))
    conformed = scanner('LIA', (256, 256, 256), (1.0, 1.0, 1.0))
    picture = np.asarray(draw_conform_check(np.random.rand(100, 100, 100), grid, conformed))
    for panel in panels(picture):
        blue = np.abs(panel.astype(int) - BLUE).sum(axis=2) < 30
        rows = np.flatnonzero(blue.any(axis=1))
        assert abs(rows[-1] - rows[0] - 256 * 1.5) <= 3
        assert abs(panel.shape[1] - 256 * 1.5) <= 3


def test_an_oblique_scan_has_an_oblique_box() -> None:
    grid = scanner('RAS', (100, 100, 100), (1.0, 1.0, 1.0))
    affine = grid.affine.copy()
    affine[:3, :3] = euler2mat(z=0.4) @ affine[:3, :3]
    turned = Geometry.from_affine(affine, grid.shape)
    conformed = scanner('LIA', (256, 256, 256), (1.0, 1.0, 1.0))
    picture = np.asarray(draw_conform_check(np.random.rand(100, 100, 100), turned, conformed))
    blue = np.abs(picture.astype(int) - BLUE).sum(axis=2) < 30
    # Upright edges fill columns; of the axial panel's, turned about S, none stands upright.
    upright = np.flatnonzero(blue.sum(axis=0) > 200)
    assert 0 < upright.size <= 10


@pytest.mark.parametrize('value', [0.0, 5.0])
def test_a_scan_of_one_value_is_drawn(value: float) -> None:
    grid = scanner('RAS', (10, 10, 1000), (1.0, 1.0, 5.0))
    conformed = scanner('LIA', (256, 256, 256), (1.0, 1.0, 1.0))
    picture = draw_conform_check(np.full(grid.shape, value), grid, conformed)
    assert max(picture.size) < 4000
