"""Sides, colours and framing of the mosaic, against volumes turned by nibabel."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from brainchop_bids.reports import LABEL_ALPHA, UNKNOWN_COLOR
from brainchop_bids.reports.figures.mosaic import Panel, compose_mosaic
from brainchop_bids.reports.figures.planes import PLANES
from brainchop_bids.reports.figures.thumbnail import flatten

SIZE = 128
HEAD_MM, BLOB_MM = (70.0, 85.0, 65.0), 12.0
# Millimetres from the middle of the head towards right, anterior and superior.
SIDES = {
    'L': (-40, 0, 0),
    'R': (40, 0, 0),
    'P': (0, -50, 0),
    'A': (0, 50, 0),
    'I': (0, 0, -35),
    'S': (0, 0, 35),
}


def phantom(*blobs: tuple[float, float, float], brain: bool = True) -> tuple[np.ndarray, ...]:
    """Return an LIA scan and labels: label 1 a head, label 2 blobs placed in world space."""
    lps = nib.Nifti1Image(np.zeros((SIZE,) * 3, np.uint8), np.diag([-2, -2, 2, 1]))
    turn = ornt_transform(axcodes2ornt('LPS'), axcodes2ornt('LIA'))
    lia = nib.Nifti1Image(
        np.zeros((SIZE,) * 3, np.uint8), lps.affine @ inv_ornt_aff(turn, lps.shape)
    )
    assert ''.join(nib.aff2axcodes(lia.affine)) == 'LIA'
    voxels = np.indices(lia.shape).reshape(3, -1)
    centre = nib.affines.apply_affine(lia.affine, (np.array(lia.shape) - 1) / 2)
    world = (nib.affines.apply_affine(lia.affine, voxels.T) - centre).T
    head = ((world / np.array(HEAD_MM)[:, None]) ** 2).sum(0) <= 1
    labels = np.zeros(head.size, np.uint8)
    labels[head & brain] = 1
    for blob in blobs:
        distance = np.sqrt(((world - np.array(blob)[:, None]) ** 2).sum(0))
        labels[distance < BLOB_MM] = 2
    image = np.where(head, 120, 0).astype(np.uint8)
    return image.reshape(lia.shape), labels.reshape(lia.shape)


def compose(*arguments: Any, **options: Any) -> tuple[Image.Image, tuple[Panel, ...]]:
    """Return scan and labels as a page lays them over each other, and the panels."""
    mosaic = compose_mosaic(*arguments, **options)
    return flatten(mosaic.scan, mosaic.labels), mosaic.panels


def crop(picture: Image.Image, panel: Panel) -> np.ndarray:
    return np.asarray(picture.crop(panel.box)).astype(int)


def centre_of_red(tile: np.ndarray) -> tuple[float, float] | None:
    """Return where, from -1 to 1 towards the right and the bottom, a panel is red."""
    red = (tile[..., 0] - tile[..., 1:].max(axis=2)) > 60
    if red.sum() < 50:
        return None
    rows, columns = np.nonzero(red)
    return (
        2 * columns.mean() / red.shape[1] - 1,
        2 * rows.mean() / red.shape[0] - 1,
    )


@pytest.mark.parametrize('side', SIDES)
def test_each_side_of_the_head_lies_where_its_letter_stands(side: str) -> None:
    image, labels = phantom(SIDES[side])
    picture, panels = compose(image, labels, {1: (0, 90, 0), 2: (255, 0, 0)}, voxel_size=2.0)
    for plane in PLANES:
        if side not in plane.letters:
            continue
        towards = dict(zip(plane.letters, [(-1, 0), (1, 0), (0, -1), (0, 1)], strict=True))[side]
        places = [
            place
            for panel in panels
            if panel.plane == plane and (place := centre_of_red(crop(picture, panel)))
        ]
        assert places, plane.name
        for place in places:
            along = np.dot(place, towards)
            assert along > 0.3, (plane.name, place)
            assert abs(np.dot(place, towards[::-1])) < 0.2, (plane.name, place)


@pytest.mark.parametrize(
    ('name', 'letters'),
    [('axial', 'LRAP'), ('coronal', 'LRSI'), ('sagittal', 'PASI')],
)
def test_letters_follow_nilearn(name: str, letters: str) -> None:
    """Left is left, anterior is right, and superior (anterior in axial cuts) is up."""
    plane = next(plane for plane in PLANES if plane.name == name)
    assert plane.letters == tuple(letters)


def test_letters_are_written_at_the_edges() -> None:
    image, labels = phantom()
    picture, panels = compose(np.zeros_like(image), labels * 0, {}, voxel_size=2.0)
    for panel in panels:
        tile = crop(picture, panel)
        lit = tile.max(axis=2) > 128
        height, width = lit.shape
        thirds = lit[height // 3 : -height // 3], lit[:, width // 3 : -width // 3]
        for strip in (
            thirds[0][:, :32],
            thirds[0][:, -32:],
            thirds[1][:32],
            thirds[1][-32:],
        ):
            assert strip.any(), panel
        assert not lit[36:-36, 36:-36].any()


def test_cuts_run_from_left_to_right_back_to_front_and_below_to_above() -> None:
    """A blob far to one side is in the first or in the last cuts of the plane it faces."""
    for side, plane, last in (('R', PLANES[2], True), ('L', PLANES[2], False)):
        image, labels = phantom(SIDES[side])
        picture, panels = compose(image, labels, {1: (0, 90, 0), 2: (255, 0, 0)}, voxel_size=2.0)
        row = [panel for panel in panels if panel.plane == plane]
        assert [panel.index for panel in row] == sorted(panel.index for panel in row)
        red = [centre_of_red(crop(picture, panel)) is not None for panel in row]
        half = len(red) // 2
        assert any(red[half:] if last else red[:half])
        assert not any(red[:half] if last else red[half:])


def test_labels_are_mixed_in_and_background_stays_grey() -> None:
    image, labels = phantom()
    labels[: SIZE // 2] = 0
    colors = np.array([[9, 9, 9], [40, 200, 90]], np.uint8)
    picture, panels = compose(image, labels, colors, voxel_size=2.0)
    plain, _ = compose(image, labels, {1: (0, 0, 0)}, voxel_size=2.0)
    panel = next(panel for panel in panels if panel.plane.name == 'coronal')
    tile, dark = crop(picture, panel), crop(plain, panel)
    height, width, _ = tile.shape
    # The first half of an LIA volume is the participant's right: the right of the picture.
    bare = tile[height // 2 - 10 : height // 2, width // 2 + 20 : width // 2 + 40]
    assert bare.min() > 0
    assert (bare == bare[..., :1]).all()
    filled = np.s_[height // 2 - 10 : height // 2, width // 2 - 40 : width // 2 - 20]
    assert np.abs((tile - dark)[filled] - LABEL_ALPHA * colors[1]).max() <= 1


def test_a_label_without_a_colour_is_seen() -> None:
    image, labels = phantom()
    bright, _ = compose(image, labels, np.zeros((1, 3), np.uint8), voxel_size=2.0)
    named, _ = compose(image, labels, {1: UNKNOWN_COLOR}, voxel_size=2.0)
    assert bright.tobytes() == named.tobytes()


def test_the_missing_half_of_a_brain_is_shown() -> None:
    image, labels = phantom()
    whole, _ = compose(image, labels, {1: (255, 0, 0)}, voxel_size=2.0)
    labels[: SIZE // 2] = 0
    half, panels = compose(image, labels, {1: (255, 0, 0)}, voxel_size=2.0)
    assert half.width > 0.9 * whole.width
    axial = [panel for panel in panels if panel.plane.name == 'axial'][3]
    tile = crop(half, axial)
    right = tile[:, tile.shape[1] * 6 // 10 :]
    assert (right.min(axis=2) > 100).mean() > 0.4


@pytest.mark.parametrize('value', [0, 255])
def test_nothing_segmented_still_renders(value: int) -> None:
    image = np.full((64, 64, 64), value, np.uint8)
    mosaic = compose_mosaic(image, np.zeros_like(image), {})
    assert mosaic.scan.size[0] > 100
    assert mosaic.labels.getextrema()[3] == mosaic.outline.getextrema()[3] == (0, 0)


def test_layers_lie_over_each_other_and_labels_are_exact() -> None:
    """Every pixel of the labels is that of its voxel, and the outline runs inside the mask."""
    image, labels = phantom(SIDES['R'])
    colors = {1: (0, 90, 0), 2: (255, 0, 0)}
    mosaic = compose_mosaic(image, labels, colors, mask=labels == 1, voxel_size=2.0)
    assert mosaic.scan.size == mosaic.labels.size == mosaic.outline.size
    lut = np.array([[0, 0, 0, 0], [0, 90, 0, 255], [255, 0, 0, 255]])
    ras = labels[::-1, ::-1].transpose(0, 2, 1)
    for panel in mosaic.panels:
        cut = ras.take(panel.index, axis=panel.plane.normal).T[::-1]
        found = crop(mosaic.labels, panel)
        scale = 4
        # The window is some part of the cut: it is where the picture says so.
        inside = found[scale // 2 :: scale, scale // 2 :: scale]
        windows = np.lib.stride_tricks.sliding_window_view(cut, inside.shape[:2])
        assert any((lut[window] == inside).all() for row in windows for window in row), panel
        edge = crop(mosaic.outline, panel)[..., 3] > 0
        assert not (edge & (found[..., :2] != (0, 90)).any(axis=2)).any()


def test_a_single_voxel_and_many_labels_render() -> None:
    image, labels = phantom(brain=False)
    labels = labels.astype(np.uint16)
    labels[3, 4, 5] = 60000
    _, panels = compose(image, labels, {60000: (1, 2, 3)}, voxel_size=2.0)
    assert len(panels) == sum(plane.cuts for plane in PLANES)


def test_shapes_that_differ_are_refused() -> None:
    image, labels = phantom()
    with pytest.raises(ValueError, match='one 3-D shape'):
        compose_mosaic(image, labels[:-1], {})


def test_uncertainty_is_where_it_is_and_transparent_at_zero() -> None:
    image, labels = phantom((30, 20, 10))
    entropy = np.where(labels == 2, 2.0, 0.0).astype(np.float32)
    mosaic = compose_mosaic(
        image, labels, {1: (0, 255, 0), 2: (255, 0, 0)}, uncertainty=entropy, voxel_size=2.0
    )
    assert mosaic.uncertainty is not None
    assert mosaic.uncertainty.size == mosaic.labels.size
    drawn, below = np.asarray(mosaic.uncertainty), np.asarray(mosaic.labels)
    blob = (below == (255, 0, 0, 255)).all(-1)
    assert blob.any()
    assert (drawn[blob] == (255, 255, 0, 255)).all()
    assert not drawn[~blob][:, 3].any()
    half = compose_mosaic(image, labels, {}, uncertainty=entropy * np.log(2) / 4, voxel_size=2.0)
    assert half.uncertainty is not None
    assert np.unique(np.asarray(half.uncertainty)[blob][:, 3]).tolist() == [136]
    assert compose_mosaic(image, labels, {}, voxel_size=2.0).uncertainty is None
