import pytest

from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.inference.subvolumes import Subvolumes
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model

WHOLE = (256, 256, 256)
# Peak resident memory of `brainchop-segment` on 256^3, GB (OpenVINO 2026.4, 2 threads): the whole
# volume at once, and tiles of 174 x 256 x 256.
MEASURED = {
    'model5_gw_ae': (0.71, None),
    'tissue': (1.57, None),
    'mindgrab': (1.54, None),
    'model30chan18cls': (2.72, 1.78),
    'model30chan50cls': (2.72, 1.78),
}


@pytest.mark.parametrize('name', MEASURED)
def test_estimates_are_a_little_above_what_was_measured(shared, name):
    spec = load_spec(find_model(name, shared / 'models' / 'brainchop'))
    whole, tile = MEASURED[name]
    assert whole <= estimate_peak_gb(spec, WHOLE) <= whole * 1.2
    if tile is not None:
        assert tile <= estimate_peak_gb(spec, WHOLE, tile=(174, 256, 256)) <= tile * 1.2


def test_what_needs_more_and_less(shared):
    spec = load_spec(shared / 'models' / 'brainchop' / 'model30chan18cls')
    whole = estimate_peak_gb(spec, WHOLE)
    assert estimate_peak_gb(spec, (320, 320, 320)) > 1.8 * whole
    assert estimate_peak_gb(spec, WHOLE, precision='bf16') < 0.7 * whole
    assert estimate_peak_gb(spec, WHOLE, 'tensorflow') > whole
    few, many = (
        estimate_peak_gb(spec, WHOLE, subvolumes=Subvolumes(64, overlap)) for overlap in (0, 32)
    )
    assert few < 0.6
    # Sums of 18 classes and of weights in 64 planes.
    assert many - few == pytest.approx(4 * 19 * 64 * 256**2 / 1e9, rel=0.25)
