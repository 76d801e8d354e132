"""An ensemble as one network: its logits are the mean of those of its members."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from brainchop_bids.models.formats import read_network
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.keras_model import build_model, network_of
from brainchop_bids.models.levels import slab_values
from brainchop_bids.training.architectures import build_network
from brainchop_bids.training.merge import average_networks
from brainchop_bids.training.options import NetworkOptions
from tests.models.networks import randomised

MESHNET = NetworkOptions(channels=3, dilations=(1, 2, 1))


@pytest.mark.parametrize(
    ('network', 'norm', 'chain'),
    [
        (MESHNET, 'none', True),
        (MESHNET, 'group', True),
        (replace(MESHNET, space_to_depth=2), 'none', True),
        (NetworkOptions('unet', channels=2, levels=2), 'none', False),
    ],
)
def test_the_mean_of_logits(
    tmp_path: Path, network: NetworkOptions, norm: str, chain: bool
) -> None:
    members = [
        randomised(build_network(network, norm=norm, classes=3, in_channels=2)) for _ in range(3)
    ]
    for number, member in enumerate(members):
        for variable in member.weights:
            variable.assign(variable * (1 + 0.1 * number))
    merged = average_networks([network_of(member) for member in members])
    # Chains go by slabs, on whole volumes.
    assert (slab_values(merged) > 0) == chain
    save_tfjs(merged, tmp_path)
    image = np.random.default_rng(0).random((1, 8, 12, 8, 2), np.float32)
    found, *logits = (
        keras.ops.convert_to_numpy(model(image, training=False))
        for model in (build_model(read_network(tmp_path)[0]), *members)
    )
    np.testing.assert_allclose(found, np.mean(logits, 0), rtol=1e-3, atol=1e-3)
    assert np.abs(logits[0] - logits[1]).max() > 0.1
