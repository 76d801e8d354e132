"""Finding what is bright in large fields of view: the organ is looked at from close by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.inference.localise.localiser import Localiser
from brainchop_bids.models.spec import load_spec
from tests.builders import write_localiser


@pytest.fixture(scope='module')
def localiser(tmp_path_factory: pytest.TempPathFactory) -> Localiser:
    return Localiser.of(load_spec(write_localiser(tmp_path_factory.mktemp('bright'))))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_box_does_not_depend_on_the_field_of_view(localiser: Localiser, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides, before = rng.integers(45, 70, 3), rng.integers(0, 130, 3)
    shape = tuple(sides + before + rng.integers(0, 130, 3))
    data = np.zeros(shape, np.float32)
    box = tuple(slice(a, a + n) for a, n in zip(before, sides, strict=True))
    data[box] = 1000
    # Pixels of all of the volume are of up to 12 mm.
    geometry = Geometry(shape, np.full(3, 2.5), np.eye(3), np.zeros(3))
    sector = localiser(data, geometry).sector
    assert sector is not None
    grown = sector.grown(-9, shape, geometry.zooms)
    for extent, part, length in zip(grown.extents, box, shape, strict=True):
        # Where the box ends with the volume, it has no margin.
        at_ends = extent.first - 4 <= 0, extent.last + 4 >= length - 1
        assert at_ends[0] or abs(extent.first - part.start) * 2.5 <= 5
        assert at_ends[1] or abs(extent.last + 1 - part.stop) * 2.5 <= 5
        assert min(extent.certainties) > 0.8


def test_closer_looks_are_only_taken_where_they_show_more(
    localiser: Localiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    logits = localiser.logits
    monkeypatch.setattr(localiser, 'logits', lambda x: counts.append(len(x)) or logits(x))
    for shape, looks in (((110, 115, 105), 1), ((250, 240, 200), 2)):
        data = np.zeros(shape, np.float32)
        data[20:90, 25:95, 30:90] = 1000
        counts.clear()
        assert localiser(data, Geometry(shape, np.full(3, 2.0), np.eye(3), np.zeros(3))).sector
        assert len(counts) == 3 * looks
