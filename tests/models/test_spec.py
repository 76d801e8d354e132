import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from brainchop_bids.image.cleanup import MaskRule
from brainchop_bids.image.smooth import Smoothing
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import ModelError
from tests.tfjs_folder import (
    activation,
    conv,
    random_weights,
    two_layers,
    write_colormap,
    write_tfjs,
)

# As measured from upstream's files: classes, channels, parameters, normalisation.
UPSTREAM = {
    'model5_gw_ae': (3, 5, 5_598, 'minmax'),
    'model11_gw_ae': (3, 11, 23_290, 'minmax'),
    'model20chan3cls': (3, 20, 87_183, 'quantile:0.05:0.95'),
    'model18cls': (18, 21, 96_408, 'minmax'),
    'model30chan18cls': (18, 30, 196_038, 'minmax'),
    'model30chan50cls': (50, 30, 197_030, 'quantile:0.05:0.95'),
    'model21_104class': (104, 21, 86_372, 'minmax'),
    'mindgrab': (2, 15, 146_237, 'minmax'),
}


LIMIT = {'least': 0.8, 'dice': 0.7, 'hits': 2, 'bad': 3, 'false_alarms': 0, 'good': 3}


@pytest.mark.parametrize('name', UPSTREAM)
def test_upstream_models_are_known(shared, name):
    spec = load_spec(shared / 'models' / 'brainchop' / name)
    classes, channels, parameters, rule = UPSTREAM[name]
    assert (spec.classes, spec.channels, spec.parameters) == (classes, channels, parameters)
    assert str(spec.normalization) == rule
    assert (spec.name, spec.known, spec.warnings) == (name, True, ())
    assert (spec.input_shape, spec.in_channels) == ((256, 256, 256), 1)
    assert spec.license == 'MIT'
    background = spec.labels.by_value()[0]
    assert (background.abbreviation, background.mapping) == ('BG', 0)


def test_labels_of_upstream_models(shared):
    models = shared / 'models' / 'brainchop'
    # Its first colour table has two labels, the second fits; model11 has none at all.
    for name in ('model5_gw_ae', 'model11_gw_ae'):
        labels = load_spec(models / name).labels
        assert [label.abbreviation for label in labels] == ['BG', 'WM', 'GM']
        assert [label.mapping for label in labels] == [0, 2, 1]
        assert labels.by_value()[2].hex_color == '#cd3e4e'
    codes = [label.freesurfer for label in load_spec(models / 'model21_104class').labels]
    assert None not in codes
    assert len(set(codes)) == 104
    assert (codes[1], codes[34], codes[35], codes[68]) == (1001, 1035, 2001, 2035)
    assert (codes[69:71], codes[85:91]) == ([10, 49], [2, 41, 4, 5, 43, 44])
    assert codes[99:] == [251, 252, 253, 254, 255]
    # Without sides a label is no single structure of FreeSurfer's.
    codes = {x.name: x.freesurfer for x in load_spec(models / 'model18cls').labels}
    assert (codes['Hippocampus'], codes['Brain-Stem']) == (None, 16)


def test_a_renamed_model_is_still_known(shared, tmp_path):
    folder = tmp_path / 'My net, v2'
    shutil.copytree(shared / 'models' / 'brainchop' / 'model5_gw_ae', folder)
    spec = load_spec(folder)
    assert (spec.known, spec.name, spec.slug) == (True, 'model5_gw_ae', 'Mynetv2')
    for path in folder.glob('colormap*.json'):
        path.unlink()
    write_colormap(folder / 'colormap.json', ['background', 'brain'])
    spec = load_spec(folder)
    assert [label.abbreviation for label in spec.labels] == ['BG', 'WM', 'GM']
    assert 'colormap.json has 2' in spec.warnings[0]


def test_nothing_heavy_is_imported(tmp_path):
    folder = two_layers(tmp_path / 'net')
    code = (
        'import sys; from brainchop_bids.models.spec import load_spec; '
        'from brainchop_bids.models.zoo import find_model; '
        f'load_spec({str(folder)!r}); '
        'print([m for m in ("keras", "tensorflow", "nipype", "bids") if m in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_an_unknown_model_says_what_it_assumes(tmp_path):
    spec = load_spec(two_layers(tmp_path / 'my_net.v1'))
    assert spec.slug == 'mynetv1'
    assert [label.name for label in spec.labels] == ['background', 'Label-1', 'Label-2']
    assert str(spec.normalization) == 'minmax'
    assert len(spec.warnings) == 2
    assert len({label.color for label in spec.labels}) == 3


def test_the_older_label_files(tmp_path):
    folder = two_layers(tmp_path / 'net')
    names = {'0': 'background', '1': 'Gray Matter', '2': 'White Matter'}
    (folder / 'labels.json').write_text(json.dumps(names))
    lut = {'0': 'rgb(0,0,0)', '1': 'rgb(205, 62, 78)', '2': 'rgb(245,245,245)'}
    (folder / 'colorLUT.json').write_text(json.dumps(lut))
    labels = load_spec(folder).labels
    assert [label.name for label in labels] == list(names.values())
    assert labels.by_value()[1].color == (205, 62, 78)
    assert labels.by_value()[1].abbreviation == 'GrayMatter'


def test_the_fitting_one_of_several_colormaps_is_taken(tmp_path):
    folder = two_layers(tmp_path / 'net')
    write_colormap(folder / 'colormap.json', ['background', 'brain'])
    write_colormap(folder / 'colormap3.json', ['background', 'Left-Caudate', 'Brain-Stem'])
    assert [label.freesurfer for label in load_spec(folder).labels] == [None, 11, 16]


def test_a_folder_may_say_everything_itself(tmp_path):
    folder = two_layers(tmp_path / 'net')
    said = {
        'name': 'mine',
        'normalization': 'quantile:0.05:0.95',
        'labels': [
            {'index': 2, 'name': 'White Matter', 'abbreviation': 'WM', 'color': '#ffffff'},
            {'index': 1, 'name': 'CSF', 'mapping': 3, 'freesurfer': 24},
        ],
        'smooth': {'voxels': 0.8},
        'mask': {'closing_mm': 4, 'exclude': [1]},
        'license': 'CC0',
    }
    plain = load_spec(folder).sha256
    (folder / 'brainchop.json').write_text(json.dumps(said))
    spec = load_spec(folder)
    assert (spec.name, spec.slug, spec.license) == ('mine', 'net', 'CC0')
    assert str(spec.normalization) == 'quantile:0.05:0.95'
    assert spec.smoothing == Smoothing(0.8)
    assert spec.mask_rule == MaskRule(exclude=(1,), closing_mm=4.0)
    assert [label.name for label in spec.labels] == ['background', 'CSF', 'White Matter']
    assert spec.labels.by_value()[1].freesurfer == 24
    assert spec.labels.by_value()[2].abbreviation == 'WM'
    assert spec.sha256 != plain


def test_the_checksum_covers_weights_and_labels(tmp_path):
    folder = two_layers(tmp_path / 'net')
    first = load_spec(folder)
    shard = next(folder.glob('*.bin'))
    assert first.weights_sha256 == hashlib.sha256(shard.read_bytes()).hexdigest()
    write_colormap(folder / 'colormap.json', ['a', 'b', 'c'])
    second = load_spec(folder)
    shard.write_bytes(shard.read_bytes()[::-1])
    third = load_spec(folder)
    assert len({first.sha256, second.sha256, third.sha256}) == 3
    assert first.weights_sha256 == second.weights_sha256 != third.weights_sha256


def test_shards_do_not_change_what_a_model_is_recognised_by(tmp_path):
    whole, cut = two_layers(tmp_path / 'a'), two_layers(tmp_path / 'b', shards=3)
    assert load_spec(whole).weights_sha256 == load_spec(cut).weights_sha256


def refused(folder, *parts):
    with pytest.raises(ModelError) as caught:
        load_spec(folder)
    message = str(caught.value)
    assert '\n' not in message
    for part in parts:
        assert str(part) in message
    return message


def edit(folder, change):
    path = folder / 'model.json'
    model = json.loads(path.read_text())
    change(model)
    path.write_text(json.dumps(model))


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / 'nothing', 'is not a model folder')
    (tmp_path / 'empty').mkdir()
    refused(tmp_path / 'empty', 'model.json', 'has no weights')


@pytest.mark.parametrize('text', ['', '{"modelTopology": ', '[' * 100_000, '\xff\xfe'])
def test_json_that_is_none(tmp_path, text):
    folder = two_layers(tmp_path / 'net')
    (folder / 'model.json').write_bytes(text.encode('latin-1'))
    refused(folder, 'model.json', 'is not JSON')


@pytest.mark.parametrize('content', [[], {}, {'weightsManifest': []}, {'weightsManifest': [{}]}])
def test_json_of_something_else(tmp_path, content):
    folder = two_layers(tmp_path / 'net')
    (folder / 'model.json').write_text(json.dumps(content))
    refused(folder, 'model.json')


def test_weight_files_missing_short_and_long(tmp_path):
    folder = two_layers(tmp_path / 'net', shards=3)
    second = folder / 'group1-shard2of3.bin'
    content = second.read_bytes()
    second.write_bytes(content[:-5])
    refused(folder, second, f'{len(content) - 5} bytes', f'expected {len(content)}')
    second.write_bytes(content + b'x')
    refused(folder, 'bytes')
    second.unlink()
    refused(folder, second, 'is missing')
    second.mkdir()
    refused(folder, second, 'is missing')
    alone = two_layers(tmp_path / 'one')
    shard = next(alone.glob('*.bin'))
    content = shard.read_bytes()
    shard.write_bytes(b'')
    refused(alone, shard, 'has 0 bytes', f'expected {len(content)}')


@pytest.mark.parametrize('name', ['../weights.bin', '/etc/passwd', 'a/../../b', 'C:\\w', ''])
def test_weights_outside_the_folder_are_refused(tmp_path, name):
    folder = two_layers(tmp_path / 'net')
    (tmp_path / 'weights.bin').write_bytes(next(folder.glob('*.bin')).read_bytes())
    edit(folder, lambda model: model['weightsManifest'][0].update(paths=[name]))
    refused(folder, 'outside the model folder', repr(name))


@pytest.mark.parametrize(
    'change',
    [
        {'dtype': 'complex64'},
        {'dtype': 'string'},
        {'shape': [-1]},
        {'shape': 'x'},
        {'quantization': {'dtype': 'int4', 'scale': 1, 'min': 0}},
    ],
)
def test_weights_of_unknown_kinds(tmp_path, change):
    folder = two_layers(tmp_path / 'net')
    edit(folder, lambda model: model['weightsManifest'][0]['weights'][1].update(change))
    refused(folder, 'weight manifest cannot be read')


def test_labels_of_the_wrong_number(tmp_path):
    folder = two_layers(tmp_path / 'net')
    write_colormap(folder / 'colormap.json', ['a', 'b'])
    refused(folder, '3 classes', 'colormap.json has 2')
    (folder / 'colormap.json').unlink()
    (folder / 'labels.json').write_text('{"0": "a", "1": "b"}')
    refused(folder, 'labels.json', 'has 2 entries', '3 classes')
    (folder / 'labels.json').write_text('{"0": "a", "1": "b", "2": "c"}')
    (folder / 'colorLUT.json').write_text('{"0": "rgb(0,0,0)"}')
    refused(folder, 'colorLUT.json', 'has 1 entries')
    (folder / 'colorLUT.json').write_text('{"0": "rgb(0,0,0)", "1": "red", "2": "rgb(1,1,1)"}')
    refused(folder, 'colorLUT.json', "'red' is no colour")


@pytest.mark.parametrize(
    'content',
    [
        {'R': [0, 1], 'G': [0, 1, 2], 'B': [0, 1, 2], 'labels': ['a', 'b', 'c']},
        {'R': [0, 1, 300], 'G': [0, 1, 2], 'B': [0, 1, 2], 'labels': ['a', 'b', 'c']},
        {'labels': 'abc'},
        {},
        [],
    ],
)
def test_colour_tables_that_are_none(tmp_path, content):
    folder = two_layers(tmp_path / 'net')
    (folder / 'colormap.json').write_text(json.dumps(content))
    refused(folder, 'colormap.json')


@pytest.mark.parametrize(
    'content',
    [
        [],
        {'normalisation': 'minmax'},
        {'normalization': 'median'},
        {'normalization': 3},
        {'normalization': {'kind': 'quantile', 'hihg': 0.9}},
        {'name': 7},
        {'labels': {'1': 'WM'}},
        {'labels': [{'index': 9, 'name': 'x'}]},
        {'labels': [{'colour': 'red'}]},
        {'labels': [{'color': 'red'}]},
        {'labels': [{'name': 'x', 'mapping': 'GM'}]},
        {'labels': [{'abbreviation': 'a b'}]},
        {'components': 'biggest'},
        {'components': 'groups:1,7'},
        {'mask': {'closing': 3}},
        {'mask': {'closing_mm': -1}},
        {'mask': {'exclude': [3]}},
        {'mask': {'open_mm': '2'}},
        {'mask': 3},
        {'smooth': 0.9},
        {'smooth': {'voxels': -1}},
        {'confidence': 0.8},
        {'confidence': {}},
        {'confidence': {**LIMIT, 'more': 1}},
        {'confidence': {**LIMIT, 'least': 1.8}},
        {'confidence': {**LIMIT, 'dice': '0.7'}},
        {'confidence': {**LIMIT, 'hits': 4}},
        {'confidence': {**LIMIT, 'good': 2.5}},
        {'confidence': {**LIMIT, 'bad': None}},
        {'confidence': {**LIMIT, 'bad': True}},
    ],
)
def test_a_brainchop_json_that_cannot_be_followed(tmp_path, content):
    folder = two_layers(tmp_path / 'net')
    (folder / 'brainchop.json').write_text(json.dumps(content))
    refused(folder)


def test_networks_that_segment_nothing(tmp_path):
    weights = random_weights(a__kernel=(3, 3, 3, 1, 1), a__bias=(1,))
    layers = [conv('a', 1), activation('end', 'softmax')]
    refused(write_tfjs(tmp_path / 'one', layers, weights), 'softmax over one channel')
    layer = {'class_name': 'Flatten', 'name': 'f', 'config': {'name': 'f'}}
    refused(write_tfjs(tmp_path / 'flat', [layer], {}), 'Flatten, which is not supported')
