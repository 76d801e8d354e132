"""Training configs: what is written is read back, and a slip of the pen is named."""

from pathlib import Path

import pytest

from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.config import TrainConfig, read_training_config
from tests.corpus.configs import BAD_TRAINING

RECIPE = Path(__file__).parents[2] / 'recipes' / 'tissue.toml'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / 'c.toml'
    path.write_text('[data]\nlabel_maps = "maps"\n[[stages]]\nsteps = 3\n[[stages]]\ncube = 32\n')
    return path


def test_the_packaged_recipe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    config = read_training_config(RECIPE)
    (tmp_path / 'again.toml').write_text(config.to_toml())
    assert read_training_config(tmp_path / 'again.toml') == config
    assert [label['abbreviation'] for label in config.card.labels] == ['BG', 'GM', 'WM', 'CSF']


def test_single_keys_are_changed_by_their_dotted_names(config: Path) -> None:
    changes = ['stages.1.steps=7', 'card.name=mine', 'synthesis.t1 = 1', 'model.dilations=[1,2]']
    changed = read_training_config(config, changes)
    assert [stage.steps for stage in changed.stages] == [3, 7]
    assert changed.card.name == 'mine'
    assert changed.synthesis.t1 == 1.0
    assert changed.model.dilations == (1, 2)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ('stages.0.learning_rte=1', 'stages[0].learning_rate'),
        ('sed=1', 'did you mean seed'),
        ('data.lable_maps=x', 'did you mean data.label_maps'),
        ('synthesis.nose=0', 'did you mean synthesis.noise'),
        ('zzz=1', 'known: seed'),
        ('seed="one"', "seed is 'one'; expected int"),
        ('seed=true', 'expected int'),
        ('stages.9.steps=1', 'no such place'),
        ('stages', 'expected KEY=VALUE'),
        ('loss.kind=dise', 'soft_dice'),
        ('precision=float8', 'float32'),
        ('stages.0.stride=3', 'stages[0].stride'),
        ('stages.1.stride=2', 'stages[1].stride'),
        ('stages.0.norm=layer', 'stages[0].norm'),
        ('stages.0.norm=fixed', 'stages[0].norm'),
        ('data.label_maps=', 'exactly one of data.label_maps, data.table'),
        ('data.bids=x', 'given: data.label_maps, data.bids'),
        ('data.channels=["T2w"]', 'T1w first'),
        ('data.channels=["T1w", "T2w"]', 'one channel, where images are made'),
        ('validation.every=7', 'a multiple of checkpoint_every'),
        ('validation.patience=2', 'validation.every above 0'),
        ('augmentation.gama=1', 'did you mean augmentation.gamma'),
        ('augmentation.noise=2', 'augmentation.noise'),
        ('stages.0.cube=[16, 8]', 'stages[0].cube in the training config: expected one side, or'),
        ('stages.0.cube=[16, 8, 0]', 'stages[0].cube[2] is 0; expected 1 or more'),
        ('stages.0.cube="16"', "stages[0].cube is '16'; expected int"),
        ('data.split=1', 'data.split is 1.0; expected 0 or more and below 1'),
        ('init.freeze=["0"]', 'init.freeze in the training config: expected nothing without'),
        ('stages.0.labelled=2', 'stages[0].labelled'),
        ('optimizer.nam="sgd"', 'did you mean optimizer.name'),
        ('data.normalization=maximum', 'normalisation'),
        ('stages=[]', 'at least one'),
        ('model=3', 'expected a table'),
        ('model.dilations=3', 'expected a list'),
        ('model.dilations=[]', 'model.dilations'),
        ('card.name="../elsewhere"', 'card.name'),
        ('card.name=""', 'card.name'),
    ],
)
def test_mistakes_are_named_in_one_line(config: Path, change: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_training_config(config, [change])
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_patches_with_three_sides(config: Path, tmp_path: Path) -> None:
    changed = read_training_config(config, ['stages.0.cube=[128, 128, 64]'])
    assert changed.stages[0].shape == (128, 128, 64)
    assert changed.stages[1].shape == (32, 32, 32)
    (tmp_path / 'again.toml').write_text(changed.to_toml())
    assert read_training_config(tmp_path / 'again.toml') == changed
    with pytest.raises(SettingsError, match='even cube'):
        read_training_config(config, ['stages.0.cube=[8, 9, 8]', 'stages.0.stride=2'])


@pytest.mark.parametrize('change', BAD_TRAINING)
def test_values_out_of_range_are_named(config: Path, change: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_training_config(config, [change])
    assert str(caught.value).startswith(f'{config}: {BAD_TRAINING[change]}')


@pytest.mark.parametrize('path', sorted(RECIPE.parent.glob('*.toml')), ids=lambda path: path.name)
def test_all_recipes_are_in_range(path: Path) -> None:
    read_training_config(path)


def test_a_config_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match='cannot be read'):
        read_training_config(tmp_path / 'nothing.toml')
    (tmp_path / 'bad.toml').write_text('[[')
    with pytest.raises(SettingsError, match='is not TOML'):
        read_training_config(tmp_path / 'bad.toml')
    with pytest.raises(SettingsError, match='label_maps'):
        TrainConfig()
