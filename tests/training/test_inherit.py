"""What a training takes over from the model it begins with, unless its config says otherwise."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from brainchop_bids.models.keras_model import network_of
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.training.architectures import ARCHITECTURES, build_network
from brainchop_bids.training.config import read_training_config
from brainchop_bids.training.inherit import PACKAGED
from brainchop_bids.training.options import InitOptions, NetworkOptions
from brainchop_bids.training.transfer import load_pretrained
from tests.models.networks import randomised

SHAPE = (16, 16, 8)


def config(folder: Path, text: str = '', changes: tuple[str, ...] = ()) -> Any:
    path = folder / 'c.toml'
    path.write_text(f'[data]\nlabel_maps = "maps"\n{text}')
    return read_training_config(path, changes)


def saved(folder: Path, model: Any, facts: str = '') -> Path:
    folder.mkdir()
    model.save(folder / 'model.keras')
    if facts:
        (folder / 'brainchop.json').write_text(facts)
    return folder


def reused(model: Any, name: str) -> float:
    rows = load_pretrained(model, InitOptions(name))
    return sum(row.reused for row in rows) / sum(row.weights for row in rows)


def test_packaged_architectures_are_named() -> None:
    assert set(PACKAGED) == set(ARCHITECTURES)


@pytest.mark.parametrize(('name', 'classes'), [('tissue', 4), ('subcortical', 18), ('aseg', 33)])
def test_a_packaged_model_is_taken_over_whole(tmp_path: Path, name: str, classes: int) -> None:
    ours = config(tmp_path, changes=(f'init.model={name}',))
    spec = load_spec(find_model(name))
    assert ours.data.mapping == f'aseg_to_{name}'
    assert ours.data.normalization == str(spec.normalization)
    assert [label['name'] for label in ours.card.labels] == [label.name for label in spec.labels]
    assert ours.card.smooth == {'voxels': spec.smoothing.voxels}
    model = build_network(ours.model, norm='none', classes=classes, shape=(8, 8, 8))
    assert reused(model, name) == 1
    # What a run writes down is complete, and is read back as it is.
    (tmp_path / 'again.toml').write_text(ours.to_toml())
    assert read_training_config(tmp_path / 'again.toml') == ours


def test_the_config_has_the_last_word(tmp_path: Path) -> None:
    ours = config(
        tmp_path,
        'normalization = "zscore"\nmapping = "aseg_to_subcortical"\n[model]\nchannels = 5\n'
        '[init]\nmodel = "tissue"\n',
    )
    assert (ours.data.normalization, ours.data.mapping) == ('zscore', 'aseg_to_subcortical')
    assert ours.model == NetworkOptions(channels=5)
    # Its 18 labels are not those of the model.
    assert ours.card.labels == ()
    assert config(tmp_path).model == NetworkOptions()


FACTS = """{"normalization": "zscore", "labels": [{"name": "background"},
{"name": "grey", "abbreviation": "GM", "color": "#112233", "freesurfer": 3},
{"name": "white", "abbreviation": "WM"}]}"""


@pytest.mark.parametrize('norm', ['none', 'batch', 'group'])
@pytest.mark.parametrize('kind', ['unet', 'vnet', 'light_unet'])
def test_a_network_of_any_kind_is_taken_over(tmp_path: Path, kind: str, norm: str) -> None:
    """From the file alone, with a channel and a class more, all but these is the model's."""
    network = NetworkOptions(kind, channels=4, levels=3, widths=(4, 6), space_to_depth=1)
    model = randomised(build_network(network, norm=norm, classes=3, shape=(None, None, None)))
    folder = saved(tmp_path / 'm', model, FACTS)
    table = tmp_path / 'table.tsv'
    table.write_text('code\tindex\tlabel\n0\t0\tbackground\n1\t1\tGM\n2\t2\tWM\n')
    ours = config(tmp_path, f'mapping = "{table}"\n[init]\nmodel = "{folder}"\n')
    assert ours.model.architecture == f'like:{folder}'
    assert ours.data.normalization == 'zscore'
    assert ours.card.labels[1] == {
        'name': 'grey', 'abbreviation': 'GM', 'color': '#112233', 'freesurfer': 3,
    }  # fmt: skip
    assert {stage.norm for stage in ours.stages} == {'group' if norm == 'group' else 'none'}
    same = build_network(ours.model, norm=ours.stages[0].norm, classes=3, shape=SHAPE)
    assert reused(same, str(folder)) == 1
    volume = np.random.default_rng(0).random((1, *SHAPE, 1), np.float32)
    expected, found = (
        keras.ops.convert_to_numpy(net(volume, training=False)) for net in (model, same)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.std())
    other = build_network(
        ours.model, norm=ours.stages[0].norm, classes=4, in_channels=2, shape=SHAPE
    )
    assert other.output_shape == (None, *SHAPE, 4)
    assert 0.8 < reused(other, str(folder)) < 1
    if norm == 'batch':
        kept = build_network(ours.model, norm='batch', classes=3, shape=SHAPE)
        assert any(op.kind == 'batch_norm' for op in network_of(kept).ops)
        assert reused(kept, str(folder)) == 1


def test_networks_that_cannot_be_taken_over(tmp_path: Path) -> None:
    plain = build_network(NetworkOptions('unet', channels=2, levels=3), norm='none', classes=3)
    like = NetworkOptions(f'like:{saved(tmp_path / "m", plain)}')
    with pytest.raises(SettingsError, match=r"like:.*no batch normalisation; set norm = 'none'"):
        build_network(like, norm='batch', classes=3)
    with pytest.raises(SettingsError, match=r'choose another stages\.cube'):
        build_network(like, norm='none', classes=3, shape=(10, 8, 8))
    image = keras.Input((None, None, None, 1))
    hidden = keras.layers.Conv3D(1, 3, padding='same')(image)
    added = keras.layers.Conv3D(3, 1)(keras.layers.Add()([image, hidden]))
    like = replace(like, architecture=f'like:{saved(tmp_path / "a", keras.Model(image, added))}')
    assert build_network(like, norm='none', classes=4).output_shape[-1] == 4
    with pytest.raises(SettingsError, match='adds or appends the image'):
        build_network(like, norm='none', classes=4, in_channels=2)
