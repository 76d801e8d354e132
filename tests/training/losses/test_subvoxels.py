"""Training on places: a step computes some voxels of each, the network's own numbers there."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.models.formats import read_network
from brainchop_bids.models.space_to_depth import SPACE_TO_DEPTH
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.config import read_training_config
from brainchop_bids.training.data.subvoxels import draw_subvoxels, subvoxel_labels
from brainchop_bids.training.losses.registry import LabelLoss
from brainchop_bids.training.losses.subvoxels import whole_network, with_subvoxels
from brainchop_bids.training.options import NetworkOptions, Stage
from brainchop_bids.training.stages import build_stage
from tests.training.maps import write_maps
from tests.training.runs import kill_after, run
from tests.training.test_stages import randomised

SLOW = pytest.mark.slow
NETWORKS = [
    NetworkOptions(channels=3, dilations=(1, 2, 1), space_to_depth=2),
    NetworkOptions('light_unet', widths=(3, 4), space_to_depth=2),
]


@pytest.mark.parametrize('network', NETWORKS, ids=lambda network: network.architecture)
def test_some_voxels_have_the_numbers_of_the_whole(network: NetworkOptions) -> None:
    whole = randomised(build_stage(network, Stage(cube=8, norm='batch'), 4), 0)
    part = with_subvoxels(whole, 3)
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 8, 1)).astype(np.float32)
    places = np.tile(np.array([6, 1, 3], np.int32), (2, 1))
    found = np.asarray(part([image, places]))
    expected = np.asarray(whole(image))
    x, y, z = np.unravel_index(places[0], (2, 2, 2))
    for i in range(3):
        there = expected[:, x[i] :: 2, y[i] :: 2, z[i] :: 2]
        np.testing.assert_allclose(found[..., i, :], there, rtol=1e-4, atol=1e-4)
    again = whole_network(part)
    np.testing.assert_allclose(np.asarray(again(image)), expected, rtol=1e-4, atol=1e-4)
    assert {v.path for v in again.variables} == {v.path for v in whole.variables}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_loss_over_all_voxels_is_that_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(1, 4, 4, 4, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (1, 4, 4, 4))
    places = draw_subvoxels((seed,), 8, 2)
    assert sorted(places) == list(range(8))
    parts = np.stack([subvoxel_labels(logits[..., c], places, 2) for c in range(3)], -1)
    loss = LabelLoss('dice_cross_entropy', class_weights=[1.0, 2.0, 3.0])
    expected = np.asarray(loss(labels, logits))
    np.testing.assert_allclose(
        loss(subvoxel_labels(labels, places, 2), parts), expected, rtol=1e-5
    )


def test_space_to_depth_is_numpys() -> None:
    model = build_stage(NETWORKS[0], Stage(cube=8), 2)
    image = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    found = np.asarray(model.get_layer(SPACE_TO_DEPTH)(image[None, ..., None]))[0]
    parts = image.reshape(4, 2, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5).reshape(4, 4, 4, 8)
    np.testing.assert_array_equal(found, parts)


CONFIG = """
seed = 5
workers = 1
precision = "auto"
checkpoint_every = 3
validation_cubes = 1
[data]
label_maps = "{maps}"
mapping = "aseg_to_aseg"
[model]
architecture = "light_unet"
widths = [3, 4]
space_to_depth = 2
[optimizer]
name = "adamw"
ema = 0.9
[card]
name = "tiny"
[[stages]]
steps = 6
cube = 24
norm = "batch"
subvoxels = 2
[[stages]]
steps = 6
cube = 24
subvoxels = 3
"""


def write_config(folder: Path) -> Path:
    path = folder / 'tiny.toml'
    path.write_text(CONFIG.format(maps=write_maps(folder / 'maps', 1)))
    return path


@pytest.fixture(params=['torch', *(pytest.param(b, marks=SLOW) for b in ('tensorflow', 'jax'))])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    pytest.importorskip(name, reason=f'{name} is not installed')
    monkeypatch.setenv('KERAS_BACKEND', name)
    return name


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, backend: str) -> None:
    config = write_config(tmp_path)
    ended, killed = tmp_path / 'ended', tmp_path / 'killed'
    result = run(config, ended)
    assert result.returncode == 0, f'{backend}: {result.stderr}'
    kill_after(1, config, killed)
    again = run(config, killed)
    assert 'resuming at step' in again.stdout, again.stderr
    for name in ('model.json', 'group1-shard1of1.bin', 'log.csv'):
        assert (killed / 'tiny' / name).read_bytes() == (ended / 'tiny' / name).read_bytes()
    network = read_network(ended / 'tiny')[0]
    # Left and right are labels of their own.
    assert network.classes == 33
    assert network.stride == 4
    assert 'batch_norm' not in {op.kind for op in network.ops}


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ('stages.0.subvoxels=8', 'stages[0].subvoxels'),
        ('loss.kind=boundary_cross_entropy', 'stages[0].subvoxels'),
        ('model.space_to_depth=3', 'model.space_to_depth'),
        ('model.architecture=unet', 'model.space_to_depth'),
        ('model.widths=[]', 'model.widths'),
        ('precision=float8', 'precision'),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, change: str, said: str) -> None:
    config = write_config(tmp_path)
    with pytest.raises(SettingsError) as error:
        read_training_config(config, [change])
    assert said in str(error.value)
    assert '\n' not in str(error.value)


def test_stride_and_odd_cubes_are_refused_on_places() -> None:
    with pytest.raises(SettingsError, match='set stride = 1'):
        build_stage(NETWORKS[0], Stage(cube=8, stride=2), 3)
    for network in NETWORKS:
        with pytest.raises(SettingsError, match='needs a multiple of'):
            build_stage(network, Stage(cube=9), 3)
