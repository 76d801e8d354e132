import math

import pytest

from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.models.spec import load_spec

# Peak resident memory of one process on 256^3, GB (TensorFlow 2.21, 2 threads).
MEASURED = {
    'model5_gw_ae': 1.23,
    'mindgrab': 2.13,
    'model21_104class': 2.47,
    'model30chan18cls': 3.17,
}


# By OpenVINO 2026.4.
GRAPHS = {
    'model5_gw_ae': 1.06,
    'model11_gw_ae': 1.78,
    'mindgrab': 3.25,
    'model21_104class': 5.55,
    'model30chan18cls': 7.86,
}


@pytest.mark.parametrize('name', GRAPHS)
def test_estimates_of_graphs_are_a_little_above_what_was_measured(shared, name):
    spec = load_spec(shared / 'models' / 'brainchop' / name)
    estimate = estimate_peak_gb(spec, (256, 256, 256), 'openvino')
    assert GRAPHS[name] <= estimate <= GRAPHS[name] * 1.25


@pytest.mark.parametrize('name', MEASURED)
def test_estimates_are_a_little_above_what_was_measured(shared, name):
    spec = load_spec(shared / 'models' / 'brainchop' / name)
    estimate = estimate_peak_gb(spec, (256, 256, 256))
    assert MEASURED[name] <= estimate <= MEASURED[name] * 1.2
    larger = estimate_peak_gb(spec, (320, 320, 320))
    growth = math.prod((320, 320, 320)) / math.prod((256, 256, 256))
    assert larger == pytest.approx(0.9 + (estimate - 0.9) * growth, rel=0.05)
