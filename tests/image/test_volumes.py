"""Volumes against NumPy's own counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainchop_bids.image.volumes import label_volumes, volumes_table


@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16]), (3, 4, 5)))
def test_counts(labels):
    values, counts = np.unique(labels, return_counts=True)
    got = label_volumes(labels, 0.25)
    assert list(got) == values.tolist()
    assert [voxels for voxels, _ in got.values()] == counts.tolist()
    assert sum(volume for _, volume in got.values()) == pytest.approx(60 * 0.25)


def test_table_has_a_row_for_labels_that_are_missing():
    assert '2\tB\t0\t0.000' in volumes_table({1: (3, 1.5)}, {1: 'A', 2: 'B'}).splitlines()
