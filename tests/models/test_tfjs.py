import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, special

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.tfjs_folder import activation, conv, layer, random_weights, two_layers, write_tfjs

load_tensorflow()

from brainchop_bids.models.formats.tfjs import read_tfjs, save_tfjs  # noqa: E402
from brainchop_bids.models.keras_model import build_model, network_of  # noqa: E402

VOLUME = np.random.default_rng(1).random((7, 9, 8), np.float32)


def run(folder, volume=VOLUME):
    return build_model(read_tfjs(folder)).predict(volume[None, ..., None], verbose=0)[0]


def convolve(volume, kernel, bias=0.0):
    """Compute a 'same' convolution of one channel by SciPy."""
    outputs = [
        ndimage.correlate(volume, kernel[..., 0, i], mode='constant')
        for i in range(kernel.shape[4])
    ]
    return np.stack(outputs, -1) + bias


def test_conv_activation_conv(tmp_path):
    folder = two_layers(tmp_path / 'net')
    weights = random_weights(
        a__kernel=(3, 3, 3, 1, 2), a__bias=(2,), out__kernel=(1, 1, 1, 2, 3), out__bias=(3,)
    )
    hidden = np.maximum(convolve(VOLUME, weights['a/kernel'], weights['a/bias']), 0)
    expected = hidden @ weights['out/kernel'][0, 0, 0] + weights['out/bias']
    np.testing.assert_allclose(run(folder), expected, atol=1e-5)


def test_forms_of_the_same_network(tmp_path):
    plain = run(two_layers(tmp_path / 'plain'))
    np.testing.assert_array_equal(run(two_layers(tmp_path / 'cut', shards=5)), plain)
    np.testing.assert_array_equal(run(two_layers(tmp_path / 'seq', sequential=True)), plain)
    weights = random_weights(
        a__kernel=(3, 3, 3, 1, 2), a__bias=(2,), out__kernel=(1, 1, 1, 2, 3), out__bias=(3,)
    )
    inside = [
        conv('a', 2, activation='relu'),
        layer('Dropout', 'drop', rate=0.5),
        layer('SpatialDropout3D', 'drop2', rate=0.5),
        conv('out', 3, 1),
    ]
    np.testing.assert_array_equal(run(write_tfjs(tmp_path / 'in', inside, weights)), plain)


def test_dilation_is_between_taps(tmp_path):
    weights = random_weights(a__kernel=(3, 3, 3, 1, 2))
    layers = [conv('a', 2, dilation_rate=[2, 2, 2], use_bias=False)]
    wide = np.zeros((5, 5, 5, 1, 2), np.float32)
    wide[::2, ::2, ::2] = weights['a/kernel']
    found = run(write_tfjs(tmp_path / 'net', layers, weights))
    np.testing.assert_allclose(found, convolve(VOLUME, wide), atol=1e-5)


def test_strides_and_transposed_convolutions(tmp_path):
    weights = random_weights(a__kernel=(2, 2, 2, 1, 2), b__kernel=(2, 2, 2, 3, 2), b__bias=(3,))
    up = layer('Conv3DTranspose', 'b', filters=3, kernel_size=[2] * 3, strides=[2] * 3)
    layers = [conv('a', 2, 2, strides=[2] * 3, padding='valid', use_bias=False), up]
    volume = VOLUME[:6, :8, :8]
    found = run(write_tfjs(tmp_path / 'net', layers, weights), volume)
    blocks = volume.reshape(3, 2, 4, 2, 4, 2)
    hidden = np.einsum('aibjck,ijkn->abcn', blocks, weights['a/kernel'][:, :, :, 0])
    expected = np.einsum('abcn,ijkmn->aibjckm', hidden, weights['b/kernel'])
    np.testing.assert_allclose(found, expected.reshape(6, 8, 8, 3) + weights['b/bias'], atol=1e-5)


def test_the_mark_means_a_norm_of_each_channel_and_tanh_gelu(tmp_path):
    weights = random_weights(a_gn__kernel=(3, 3, 3, 1, 2), b__kernel=(1, 1, 1, 2, 2))
    layers = [
        conv('a_gn', 2, use_bias=False),
        activation('act', 'gelu'),
        conv('b', 2, 1, use_bias=False),
    ]
    found = run(write_tfjs(tmp_path / 'net', layers, weights))
    x = convolve(VOLUME, weights['a_gn/kernel']).astype(np.float64)
    x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    x = x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
    np.testing.assert_allclose(found, x @ weights['b/kernel'][0, 0, 0], atol=2e-5)


@pytest.mark.parametrize(
    ('kind', 'function'),
    [
        ('linear', lambda x: x),
        ('elu', lambda x: np.where(x > 0, x, np.expm1(x))),
        ('gelu', lambda x: x * (1 + special.erf(x / np.sqrt(2))) / 2),
        ('gelu_new', lambda x: x * special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        ('swish', lambda x: x * special.expit(x)),
        ('sigmoid', special.expit),
    ],
)
def test_activations(tmp_path, kind, function):
    weights = random_weights(a__kernel=(1, 1, 1, 1, 2))
    layers = [conv('a', 2, 1, use_bias=False), activation('act', kind)]
    found = run(write_tfjs(tmp_path / 'net', layers, weights))
    x = convolve(VOLUME, weights['a/kernel']).astype(np.float64)
    np.testing.assert_allclose(found, function(x), atol=1e-5)


def test_batch_normalisation(tmp_path):
    weights = random_weights(
        a__kernel=(1, 1, 1, 1, 2), n__gamma=(2,), n__beta=(2,), n__moving_mean=(2,)
    )
    weights['n/moving_variance'] = np.array([0.5, 2], '<f4')
    layers = [
        conv('a', 2, 1, use_bias=False),
        layer('BatchNormalization', 'n', axis=[4], epsilon=0.01),
    ]
    found = run(write_tfjs(tmp_path / 'net', layers, weights))
    x = convolve(VOLUME, weights['a/kernel'])
    x = (x - weights['n/moving_mean']) / np.sqrt(weights['n/moving_variance'] + 0.01)
    np.testing.assert_allclose(found, x * weights['n/gamma'] + weights['n/beta'], atol=1e-5)


def test_branches(tmp_path):
    weights = random_weights(a__kernel=(1, 1, 1, 1, 2))
    add = layer('Add', 'sum')
    add['inbound_nodes'] = [[['a', 0, 0, {}], ['act', 0, 0, {}]]]
    layers = [conv('a', 2, 1, use_bias=False), activation('act', 'relu'), add]
    found = run(write_tfjs(tmp_path / 'net', layers, weights))
    x = convolve(VOLUME, weights['a/kernel'])
    np.testing.assert_allclose(found, x + np.maximum(x, 0), atol=1e-5)


def test_quantised_weights(tmp_path):
    stored = {
        'a/kernel': np.arange(2, dtype='u1').reshape(1, 1, 1, 1, 2),
        'a/bias': np.array([0, 65535], '<u2'),
        'b/kernel': np.array([[1.5, -0.25]], '<f2').reshape(1, 1, 1, 2, 1),
    }
    quantization = {
        'a/kernel': {'dtype': 'uint8', 'scale': 0.5, 'min': -1.0},
        'a/bias': {'dtype': 'uint16', 'scale': 2 / 65535, 'min': 0.0},
        'b/kernel': {'dtype': 'float16'},
    }
    layers = [conv('a', 2, 1), conv('b', 1, 1, use_bias=False)]
    folder = write_tfjs(tmp_path / 'net', layers, stored, quantization=quantization)
    expected = 1.5 * (-1.0 * VOLUME) - 0.25 * (-0.5 * VOLUME + 2)
    np.testing.assert_allclose(run(folder)[..., 0], expected, atol=1e-6)


def test_quantised_weights_are_restored_in_double_precision(tmp_path):
    stored = {'a/kernel': np.arange(256, dtype='u1').reshape(1, 1, 1, 1, 256)}
    scale, least = 0.0123456789, -1.7654321
    quantization = {'a/kernel': {'dtype': 'uint8', 'scale': scale, 'min': least}}
    layers = [conv('a', 256, 1, use_bias=False)]
    folder = write_tfjs(tmp_path / 'net', layers, stored, quantization=quantization)
    kernel = read_tfjs(folder).ops[-1].weights['kernel'].ravel()
    expected = [np.float32(n * scale + least) for n in range(256)]
    np.testing.assert_array_equal(kernel, expected)


def refused(folder, *parts):
    with pytest.raises(ModelError) as caught:
        read_tfjs(folder)
    message = str(caught.value)
    assert '\n' not in message
    assert str(folder) in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize('kind', ['Lambda', 'TFOpLambda', 'Conv2D', 'os.system'])
def test_unknown_layers_are_named(tmp_path, kind):
    layers = [conv('a', 3), layer(kind, 'odd', function='import os')]
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3), a__bias=(3,))
    refused(write_tfjs(tmp_path / 'net', layers, weights), "'odd'", kind, 'not supported')


def test_settings_that_are_not_supported(tmp_path):
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3), a__bias=(3,))
    for number, (change, found) in enumerate(
        [
            ({'data_format': 'channels_first'}, 'channels_last'),
            ({'activation': 'os.system'}, 'os.system'),
            ({'padding': 'reflect'}, "'a'"),
            ({'kernel_size': 'x'}, "'a'"),
            ({'kernel_size': [5, 5, 5]}, 'its layer needs [5, 5, 5, 1, 3]'),
        ]
    ):
        refused(write_tfjs(tmp_path / str(number), [conv('a', 3, **change)], weights), found)


def test_weights_that_do_not_fit(tmp_path):
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3))
    refused(write_tfjs(tmp_path / 'few', [conv('a', 3)], weights), 'has no a/bias')
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3), a__bias=(3,), b__bias=(3,))
    refused(write_tfjs(tmp_path / 'many', [conv('a', 3)], weights), 'no layer takes', 'b/bias')
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3), a__bias=(3,))
    weights['a/bias'][1] = np.nan
    refused(write_tfjs(tmp_path / 'nan', [conv('a', 3)], weights), 'a/bias', 'not finite')


def test_graphs_that_lead_nowhere(tmp_path):
    lost = conv('a', 3)
    lost['inbound_nodes'] = [[['nobody', 0, 0, {}]]]
    weights = random_weights(a__kernel=(3, 3, 3, 1, 3), a__bias=(3,))
    refused(write_tfjs(tmp_path / 'lost', [lost], weights), "'a'", 'nobody')
    folder = write_tfjs(tmp_path / 'two', [conv('a', 3)], weights)
    model = json.loads((folder / 'model.json').read_text())
    layers = model['modelTopology']['model_config']['config']['layers']
    layers.insert(1, {**layers[0], 'name': 'other'})
    (folder / 'model.json').write_text(json.dumps(model))
    refused(folder, 'several inputs')


def test_what_is_written_is_read_back(tmp_path):
    from brainchop_bids.models.meshnet import build_meshnet

    model = build_meshnet(channels=3, dilations=(1, 2), classes=4, activation='elu')
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    save_tfjs(replace(network_of(model), input_shape=(256, 256, 256)), tmp_path)
    again = read_tfjs(tmp_path)
    assert again.input_shape == (256, 256, 256)
    image = rng.normal(size=(1, 6, 7, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(build_model(again)(image), model(image))
    mine = [values for op in again.ops for values in op.weights.values()]
    for values, other in zip(mine, model.get_weights(), strict=True):
        np.testing.assert_array_equal(values, other)
