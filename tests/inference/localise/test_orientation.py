"""Orientations, against nibabel's."""

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.inference.localise.orientation import (
    ORIENTATIONS,
    VIEWS,
    find_orientation,
    symmetric,
    view_of,
)


def test_as_many_as_can_be_told_apart() -> None:
    assert len(set(VIEWS)) == 16
    assert len(set(ORIENTATIONS)) == 24


@pytest.mark.parametrize('codes', ORIENTATIONS)
def test_frames_turn_with_the_volume(codes: tuple[str, str, str]) -> None:
    """A volume that advances to the anterior shows it along the axis that nibabel names."""
    canonical = np.zeros((3, 3, 3))
    canonical[1] += 10 * np.arange(3)[:, None]
    canonical[1, 1] += np.arange(3)
    to = nib.orientations.axcodes2ornt(codes)
    turned = nib.apply_orientation(
        canonical, nib.orientations.ornt_transform(nib.orientations.axcodes2ornt('RAS'), to)
    )
    axis = codes.index('R')
    frame = np.moveaxis(turned, axis, 0)[1]
    rows, columns = VIEWS[view_of(codes, axis)]
    # Along the anterior values rise by ten; along the superior by one, in the middle.
    for direction, way in ((rows, frame[:, 1]), (columns, frame[1])):
        sign = 1 if direction in 'AS' else -1
        assert np.sign(way[2] - way[0]) == sign
        assert (abs(way[2] - way[0]) >= 18) == (direction in 'AP')


@pytest.mark.parametrize('codes', ORIENTATIONS)
def test_votes_of_two_axes_outweigh_a_third(codes: tuple[str, str, str]) -> None:
    rng = np.random.default_rng(0)
    votes = rng.random((3, len(VIEWS)))
    for axis in range(3):
        votes[axis, view_of(codes, axis)] += 30
    assert find_orientation(votes)[0] == codes
    assert find_orientation(votes)[1] > 0.5
    votes[0] = rng.random(len(VIEWS)) * 30
    assert find_orientation(votes)[0] == codes


def test_left_and_right_are_one() -> None:
    assert symmetric('LPS') == ('R', 'P', 'S')
