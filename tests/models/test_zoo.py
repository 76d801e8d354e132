import pytest

from brainchop_bids.models.zoo import find_model, list_models, search_folders
from brainchop_bids.system.errors import ModelError
from tests.tfjs_folder import two_layers


def test_the_places_a_model_is_looked_for_in(tmp_path, monkeypatch):
    monkeypatch.delenv('BRAINCHOP_MODELS', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    own, given = two_layers(tmp_path / 'here'), two_layers(tmp_path / 'dir' / 'net')
    two_layers(tmp_path / 'dir' / 'tissue')
    assert find_model(str(own)) == own
    assert find_model('net', tmp_path / 'dir') == given
    assert find_model('tissue', tmp_path / 'dir').parent.name == 'models'
    cached = two_layers(tmp_path / 'cache' / 'brainchop-bids' / 'models' / 'net')
    assert find_model('net', tmp_path / 'dir') == cached
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path / 'env'))
    other = two_layers(tmp_path / 'env' / 'net')
    assert find_model('net', tmp_path / 'dir') == other


def test_a_published_model_that_is_not_here_can_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path))
    with pytest.raises(ModelError, match='brainchop-models get mindgrab'):
        find_model('mindgrab')


def test_the_names_of_brainchops_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path))
    with pytest.raises(ModelError, match='brainchop-models get model5_gw_ae'):
        find_model('tissue_fast')
    folder = two_layers(tmp_path / 'model5_gw_ae')
    assert find_model('tissue_fast') == folder
    assert find_model('tissue_fast', tmp_path / 'other') == folder
    own = two_layers(tmp_path / 'tissue_fast')
    assert find_model('tissue_fast') == own
    # That of brainchop is another network than ours.
    assert find_model('subcortical').parent == search_folders()[0]


@pytest.mark.parametrize(
    ('given', 'folder'),
    [
        ('subcortical-mini', 'model18cls'),
        ('DKatlas', 'model21_104class'),
        ('aparc50', 'model30chan50cls'),
        ('robust_tissue', 'robust_tissue'),
        ('big_robust_tissue', 'big_robust_tissue'),
        ('mindgrab', 'mindgrab'),
    ],
)
def test_every_name_of_brainchops_models_json(tmp_path, monkeypatch, given, folder):
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path))
    with pytest.raises(ModelError, match=f'brainchop-models get {folder}$'):
        find_model(given)
    own = two_layers(tmp_path / folder)
    assert find_model(given) == own


def test_a_missing_model_tells_what_there_is(tmp_path, monkeypatch):
    monkeypatch.delenv('BRAINCHOP_MODELS', raising=False)
    two_layers(tmp_path / 'alpha')
    two_layers(tmp_path / 'beta')
    with pytest.raises(ModelError) as caught:
        find_model('gamma', tmp_path)
    message = str(caught.value)
    assert 'gamma' in message
    assert str(tmp_path) in message
    assert 'models there: alpha, aseg, beta, ' in message


@pytest.mark.parametrize(
    ('typed', 'meant'), [('tisue', 'tissue'), ('alhpa', 'alpha'), ('mindgrap', 'mindgrab')]
)
def test_a_misspelt_name_is_answered_by_the_nearest(tmp_path, typed, meant):
    two_layers(tmp_path / 'alpha')
    with pytest.raises(ModelError, match=f'{typed}: no such model folder; did you mean {meant}'):
        find_model(typed, tmp_path)


def test_a_path_that_does_not_exist_is_not_looked_up_by_name(tmp_path):
    two_layers(tmp_path / 'net')
    with pytest.raises(ModelError, match='no such model folder'):
        find_model(str(tmp_path / 'elsewhere' / 'net'), tmp_path)


def test_a_file_is_no_model(tmp_path):
    folder = two_layers(tmp_path / 'net')
    with pytest.raises(ModelError, match='is a file'):
        find_model(folder / 'model.json')


def test_listing(tmp_path):
    two_layers(tmp_path / 'b')
    (tmp_path / 'empty').mkdir()
    assert list_models(tmp_path) == ['b']
    assert list_models(tmp_path / 'missing') == []
