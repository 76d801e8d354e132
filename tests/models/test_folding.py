import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

import keras  # noqa: E402

from brainchop_bids.models.keras_model import build_model, network_of  # noqa: E402
from brainchop_bids.models.meshnet import build_meshnet  # noqa: E402
from brainchop_bids.models.network import fold_batchnorm  # noqa: E402

layers = keras.layers


def randomise(model, seed):
    """Give every weight a random value, variances positive ones over four decades."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if variable.name == 'moving_variance':
                values.append(10 ** rng.uniform(-2, 2, shape))
            elif variable.name == 'kernel':
                values.append(rng.normal(0, np.sqrt(2 / np.prod(shape[:4])), shape))
            else:
                values.append(rng.normal(0, 1, shape))
        layer.set_weights(values)
    return model


def compare(model, seed, shape=(1, 9, 8, 7)):
    folded = build_model(fold_batchnorm(network_of(model)))
    assert not any(isinstance(x, layers.BatchNormalization) for x in folded.layers)
    channels = model.inputs[0].shape[-1]
    volume = np.random.default_rng(seed).random((*shape, channels), np.float32)
    expected = model.predict(volume, verbose=0)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(
        folded.predict(volume, verbose=0) / scale, expected / scale, rtol=0, atol=1e-4
    )
    return folded


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 6),
    dilations=st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5),
    activation=st.sampled_from(['relu', 'elu', 'gelu']),
    dropout=st.sampled_from([0.0, 0.2]),
    in_channels=st.integers(1, 2),
)
def test_a_folded_meshnet_computes_the_same(
    seed, channels, dilations, activation, dropout, in_channels
):
    model = build_meshnet(
        channels=channels,
        dilations=dilations,
        classes=3,
        activation=activation,
        norm='batch',
        dropout=dropout,
        in_channels=in_channels,
    )
    folded = compare(randomise(model, seed), seed)
    # Kernel and bias of each layer remain.
    hidden = [x for x in folded.layers if isinstance(x, layers.Conv3D)]
    assert all(x.use_bias for x in hidden)
    assert len(hidden) == len(dilations) + 1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    blocks=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=4,
    ),
)
def test_any_chain_of_convolutions_and_norms(seed, blocks):
    chain = [keras.Input((9, 8, 7, 2))]
    for bias, center, scale, norms, activated in blocks:
        chain.append(layers.Conv3D(3, 3, padding='same', use_bias=bias))
        chain += [
            layers.BatchNormalization(center=center, scale=scale, epsilon=0.01)
            for _ in range(norms)
        ]
        if activated:
            chain.append(layers.LeakyReLU(negative_slope=0.1))
    compare(randomise(keras.Sequential(chain), seed), seed)


def test_strided_transposed_and_branching_networks():
    inputs = keras.Input((8, 8, 8, 1))
    x = layers.Conv3D(4, 3, strides=2, padding='same', use_bias=False)(inputs)
    x = skip = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv3D(4, 3, padding='same')(x))
    x = layers.Add()([layers.ReLU()(x), skip])
    x = layers.BatchNormalization()(layers.Conv3DTranspose(3, 2, strides=2, use_bias=False)(x))
    compare(randomise(keras.Model(inputs, x), 3), 3, (2, 8, 8, 8))


def test_the_original_stays_as_it_is():
    network = network_of(
        randomise(build_meshnet(channels=2, dilations=[1], classes=2, norm='batch'), 0)
    )
    before = [values.copy() for op in network.ops for values in op.weights.values()]
    fold_batchnorm(network)
    after = [values for op in network.ops for values in op.weights.values()]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_norms_the_network_itself_comes_back():
    network = network_of(build_meshnet(channels=2, dilations=[1], classes=2))
    assert fold_batchnorm(network) is network


def test_what_cannot_be_folded_stays():
    """Before and after other layers, and where the convolution's own output is used."""
    norm = layers.BatchNormalization
    inputs = keras.Input((9, 8, 7, 1))
    shared = layers.Conv3D(2, 3, padding='same')(norm(name='first')(inputs))
    x = layers.Add()([shared, norm(name='other')(shared)])
    x = norm(name='late')(layers.Conv3D(2, 3, activation='relu')(x))
    x = norm()(layers.Conv3D(2, 1)(x))
    model = randomise(keras.Model(inputs, x), 4)
    folded = fold_batchnorm(network_of(model))
    kept = [op.name for op in folded.ops if op.kind == 'batch_norm']
    assert kept == ['first', 'other', 'late']
    volume = np.random.default_rng(4).random((1, 9, 8, 7, 1), np.float32)
    expected = model.predict(volume, verbose=0)
    np.testing.assert_allclose(
        build_model(folded).predict(volume, verbose=0), expected, rtol=1e-4, atol=1e-4
    )


def test_what_is_no_network():
    inputs = keras.Input((8, 8, 8, 1))
    x = layers.BatchNormalization(axis=1)(layers.Conv3D(2, 3)(inputs))
    with pytest.raises(ModelError, match='axis 1'):
        network_of(keras.Model(inputs, x))
    with pytest.raises(ModelError, match='no weights yet'):
        network_of(keras.Sequential([layers.Conv3D(2, 3), layers.BatchNormalization()]))
