"""Training of localisers, from masks of any organ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.inference.localise.localiser import Localiser
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.config import read_training_config
from tests.bodies import body, write_bodies
from tests.training.runs import run

CONFIG = """
seed = 1
workers = 1
checkpoint_every = {every}
validation_cubes = 4

[data]
table = "{folder}/table.tsv"
channels = ["CT"]
mapping = "{folder}/heart.tsv"
normalization = "window:-200:300"
split = 0.8

[model]
architecture = "locator"

[loss]
kind = "cross_entropy"

[optimizer]
name = "adamw"

[synthesis]
rotation = 10.0
elastic = 2.0
bias = 0.0
air_noise = 0.0
gamma = 0.05
noise = 0.03

[card]
name = "locate-heart"
task = "localise"

[[stages]]
steps = {steps}
cube = 64
batch = {batch}
cubes_per_volume = 4
learning_rate = 4e-3
norm = "batch"
"""


def trained(folder: Path, *, bodies: int, steps: int, batch: int, every: int) -> Localiser:
    """Train on bodies, and return the localiser of the model folder."""
    write_bodies(folder, bodies, (96, 96, 100))
    config = folder / 'heart.toml'
    config.write_text(CONFIG.format(folder=folder, steps=steps, batch=batch, every=every))
    finished = run(config, folder / 'out')
    assert finished.returncode == 0, finished.stderr
    assert 'brainchop-localise' in finished.stdout + finished.stderr
    return Localiser.of(load_spec(folder / 'out' / 'locate-heart'))


def test_a_run_ends_with_a_localiser(tmp_path: Path) -> None:
    localiser = trained(tmp_path, bodies=3, steps=2, batch=8, every=2)
    assert localiser.organ == 'Heart'
    assert str(localiser.normalization) == 'window:-200:300'
    data, _, affine = body(np.random.default_rng(9), (64, 64, 70))
    localiser(data, Geometry.from_affine(affine, data.shape))


@pytest.mark.slow
def test_a_heart_is_found_in_frames_of_ct(tmp_path: Path) -> None:
    localiser = trained(tmp_path, bodies=12, steps=600, batch=48, every=200)
    rng = np.random.default_rng(99)
    for _ in range(4):
        data, heart, affine = body(rng, (512, 512, 700))
        found = localiser(data, Geometry.from_affine(affine, data.shape))
        assert found.sector is not None
        zooms = np.abs(np.diag(affine))[:3]
        places = np.argwhere(heart[::2, ::2, ::2]) * 2
        for axis, extent in enumerate(found.sector.extents):
            ends = places[:, axis].min(), places[:, axis].max()
            apart = np.abs(np.subtract((extent.first, extent.last), ends)) * zooms[axis]
            assert apart.max() < 12
        assert found.codes == found.header_codes


@pytest.mark.parametrize(
    ('change', 'key'),
    [
        ('model.architecture="meshnet"', 'model.architecture'),
        ('card.task="tissue"', 'data.channels'),
        ('stages=[{cube=96, norm="batch"}]', 'stages[0].cube'),
        ('stages=[{cube=64, norm="none"}]', 'stages[0].norm'),
        ('stages=[{cube=64, norm="fixed"}]', 'stages[0].norm'),
        ('stages=[{cube=64, norm="batch", stride=2}]', 'stages[0].stride'),
        ('validation.every=100', 'validation.every'),
        ('data.channels=["CT", "PET"]', 'data.channels'),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: str, key: str) -> None:
    path = tmp_path / 'heart.toml'
    path.write_text(CONFIG.format(folder=tmp_path, steps=2, batch=8, every=100))
    with pytest.raises(SettingsError, match=key.replace('[', r'\[')):
        read_training_config(path, [change])


def test_a_window_is_for_localisers_alone(tmp_path: Path) -> None:
    path = tmp_path / 'heart.toml'
    path.write_text(CONFIG.format(folder=tmp_path, steps=2, batch=8, every=100))
    config = read_training_config(path)
    card, model = replace(config.card, task=''), replace(config.model, architecture='unet')
    with pytest.raises(SettingsError, match='window'):
        replace(
            config, card=card, model=model, data=replace(config.data, channels=('T1w',))
        )  # fmt: skip
