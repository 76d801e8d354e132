"""What is written of a trained network."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from brainchop_bids.image.normalise import normalise
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_engine, plan_scan
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.system.resources import available_memory
from brainchop_bids.training.architectures import build_network
from brainchop_bids.training.config import TrainConfig
from brainchop_bids.training.export import write_model
from brainchop_bids.training.options import CardOptions, DataOptions, NetworkOptions, Stage
from brainchop_bids.training.stages import build_stage, trained_network
from tests.models.networks import randomised

MAPS = DataOptions(label_maps='maps')
LIGHT = NetworkOptions('light_unet', widths=(3, 4), space_to_depth=2)


@pytest.mark.parametrize(
    ('network', 'norm', 'block'),
    [
        (NetworkOptions(channels=3, dilations=(1, 2)), 'batch', None),
        (NetworkOptions(channels=3, dilations=(1, 2), space_to_depth=2), 'batch', None),
        (LIGHT, 'batch', None),
        (LIGHT, 'group', (16, 16, 16)),
        (NetworkOptions(channels=3, dilations=(1, 2)), 'group', (16, 16, 16)),
        (NetworkOptions('unet', channels=2, levels=2), 'batch', (16, 16, 16)),
    ],
)
def test_what_goes_by_slabs_and_has_fixed_statistics_runs_on_the_whole_volume(
    tmp_path: Path, network: NetworkOptions, norm: str, block: tuple[int, int, int] | None
) -> None:
    stage = Stage(cube=16, norm=norm)
    config = TrainConfig(data=MAPS, model=network, stages=(stage,))
    model = randomised(build_network(network, norm=norm, classes=3))
    write_model(config, trained_network(network, stage, model), tmp_path / 'net')
    assert load_spec(tmp_path / 'net').block == block


def test_patches_of_other_shapes_are_those_of_the_model(tmp_path: Path) -> None:
    """The engine computes it on adjacent boxes of the shape that it was trained on."""
    network = NetworkOptions('unet', channels=2, levels=2)
    stage = Stage(cube=(16, 12, 8))
    config = TrainConfig(data=MAPS, model=network, stages=(stage,))
    model = randomised(build_stage(network, stage, 3))
    assert model.output_shape == (None, 16, 12, 8, 3)
    write_model(config, trained_network(network, stage, model), tmp_path / 'net')
    spec = load_spec(tmp_path / 'net')
    assert spec.block == (16, 12, 8)
    image = np.random.default_rng(0).integers(0, 255, (32, 24, 16)).astype(np.uint8)
    plan = plan_scan(spec, image, (1, 1, 1), available_memory(), InferenceOptions(device='cpu'))
    found = make_engine(plan, spec, 1, None).segment(image, tiles=plan.tiles)
    for x, y, z in np.ndindex(2, 2, 2):
        box = (slice(16 * x, 16 * x + 16), slice(12 * y, 12 * y + 12), slice(8 * z, 8 * z + 8))
        part = normalise(image, spec.normalization)[box][None, ..., None]
        expected = keras.ops.convert_to_numpy(model(part))[0].argmax(-1)
        assert (found[box] == expected).mean() > 0.999


def test_weights_in_half_the_space(tmp_path: Path) -> None:
    model = randomised(build_network(LIGHT, norm='none', classes=3))
    network = trained_network(LIGHT, Stage(), model)
    config = TrainConfig(data=MAPS, model=LIGHT, stages=(Stage(),))
    specs = []
    for weights in ('float32', 'float16'):
        write_model(
            replace(config, card=CardOptions(weights=weights)), network, tmp_path / weights
        )
        specs.append(load_spec(tmp_path / weights))
    sizes = [sum(file.stat().st_size for file in spec.folder.glob('*.bin')) for spec in specs]
    assert sizes[0] == 2 * sizes[1]
    assert specs[0].weights_sha256 != specs[1].weights_sha256
    ops = [
        replace(op, weights={k: v.astype(np.float16) for k, v in op.weights.items()})
        for op in network.ops
    ]
    rounded = replace(network, ops=tuple(ops))
    assert specs[1].weights_sha256 == rounded.weights_sha256()


def test_what_follows_from_the_labels_is_told(tmp_path: Path) -> None:
    labels = tuple({'name': name} for name in ('Unknown', 'CSF', 'Left-Cerebral-Cortex'))
    card = CardOptions(labels=labels, derived={'tissue': 'aseg_to_tissue'})
    config = TrainConfig(data=MAPS, model=LIGHT, stages=(Stage(),), card=card)
    model = randomised(build_network(LIGHT, norm='none', classes=3))
    write_model(config, trained_network(LIGHT, Stage(), model), tmp_path / 'net')
    [tissue] = load_spec(tmp_path / 'net').derived
    assert tissue.values == (0, 3, 1)


def test_other_weights_are_refused_before_the_training() -> None:
    with pytest.raises(SettingsError, match=r'card\.weights .* float16, not .int8.'):
        CardOptions(weights='int8')
