"""Small networks of both kinds for tests of file formats."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from brainchop_bids.models.network import Network


def randomised(model: Any, seed: int = 0) -> Any:
    """Give every weight a random value that keeps signals in size."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name == 'kernel':
            variable.assign(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
        else:
            low = 0.5 if variable.name == 'moving_variance' else -1
            variable.assign(rng.uniform(low, 1, shape))
    return model


def write_localiser(folder: Path) -> Path:
    """Write the folder of an untrained localiser."""
    from brainchop_bids.models.locator import build_locator

    folder.mkdir()
    randomised(build_locator(classes=2)).save(folder / 'model.keras')
    facts = {
        'task': 'localise',
        'normalization': 'quantile:0.001:0.999:clip',
        'labels': [{'index': 0, 'name': 'nothing'}, {'index': 1, 'name': 'Heart'}],
        'license': 'MIT',
    }
    (folder / 'brainchop.json').write_text(json.dumps(facts))
    return folder


def folded_meshnet() -> Network:
    """Return a MeshNet trained with batch normalisation, which is folded."""
    from brainchop_bids.models.keras_model import network_of
    from brainchop_bids.models.meshnet import build_meshnet
    from brainchop_bids.models.network import fold_batchnorm

    model = build_meshnet(
        channels=4, dilations=(1, 2, 4, 1), classes=3, norm='batch', activation='elu'
    )
    return fold_batchnorm(network_of(randomised(model)))


def unet() -> Network:
    """Return a two-level U-Net."""
    import keras

    from brainchop_bids.models.keras_model import network_of

    layers = keras.layers
    inputs = keras.Input((None, None, None, 1))
    x = skip = layers.Conv3D(4, 3, padding='same', activation='relu')(inputs)
    x = layers.MaxPooling3D()(x)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv3D(6, 3, padding='same')(x))
    x = layers.concatenate([skip, layers.Conv3DTranspose(4, 2, strides=2)(x)])
    x = layers.Conv3D(4, 3, padding='same', dilation_rate=2, activation='silu')(x)
    outputs = layers.Conv3D(3, 1, activation='softmax')(x)
    return network_of(randomised(keras.Model(inputs, outputs)))


def channel_normed() -> Network:
    """Return a MeshNet like mindgrab: each channel normalised, tanh GELU."""
    from brainchop_bids.models.keras_model import network_of
    from brainchop_bids.models.meshnet import build_meshnet

    model = build_meshnet(
        channels=3, dilations=(2, 1), classes=2, norm='group', activation='gelu_tanh'
    )
    return network_of(randomised(model))


def everything() -> Network:
    """Return a network with each kind of operation that ONNX is written for."""
    import keras

    from brainchop_bids.models.keras_model import gelu_tanh, network_of

    layers = keras.layers
    inputs = keras.Input((None, None, None, 2))
    x = layers.ZeroPadding3D(((1, 2), (0, 1), (1, 0)))(inputs)
    x = layers.BatchNormalization()(x)
    for activation in ('relu6', 'selu', 'silu', 'sigmoid', 'softplus', 'tanh', 'gelu', gelu_tanh):
        x = layers.Conv3D(4, (3, 1, 2), padding='same', activation=activation)(x)
    x = layers.ELU(alpha=0.5)(layers.Conv3D(4, 3, groups=2)(x))
    x = low = layers.Conv3D(4, 3, strides=2, padding='same')(x)
    x = layers.MaxPooling3D(3, strides=1, padding='same')(x)
    x = layers.UpSampling3D((1, 2, 1))(layers.add([x, low]))
    x = layers.Conv3DTranspose(3, 3, strides=2, padding='same')(x)
    outputs = layers.Conv3DTranspose(2, 1, strides=2)(x)
    return network_of(randomised(keras.Model(inputs, outputs)))


def renamed(network: Network) -> Network:
    """Return a network whose names begin with a digit, as those of some files do."""
    names = {op.name: op.name if op.kind == 'input' else f'3_{op.name}' for op in network.ops}
    ops = [
        replace(op, name=names[op.name], inputs=tuple(names[n] for n in op.inputs))
        for op in network.ops
    ]
    return replace(network, ops=tuple(ops))


def places_meshnet() -> Network:
    """Return a MeshNet on places of 2x2x2 voxels, folded."""
    from brainchop_bids.models.keras_model import network_of
    from brainchop_bids.models.meshnet import build_meshnet
    from brainchop_bids.models.network import fold_batchnorm

    model = build_meshnet(channels=5, dilations=(1, 2, 1), classes=33, norm='batch', factor=2)
    return fold_batchnorm(network_of(randomised(model)))


def light_unet() -> Network:
    """Return a light U-Net of three levels on places of 2x2x2 voxels, folded."""
    from brainchop_bids.models.keras_model import network_of
    from brainchop_bids.models.network import fold_batchnorm
    from brainchop_bids.models.unet import build_light_unet

    model = build_light_unet(classes=33, widths=(3, 4, 5), features=6, norm='batch')
    return fold_batchnorm(network_of(randomised(model)))
