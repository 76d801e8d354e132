"""3-D U-Nets: an encoder and a decoder with skip connections at each resolution.

Çiçek et al., 3D U-Net: learning dense volumetric segmentation from sparse annotation, MICCAI
2016, https://doi.org/10.1007/978-3-319-46723-8_49. Here
convolutions are padded with zeros, where those of the paper are not padded.
"""

from collections.abc import Sequence
from typing import Any

import keras

from .blocks import NORM_EPSILON, ConvBlocks
from .space_to_depth import class_logits, space_to_depth

# Epsilon of Keras 2, with which Nobrainer's networks were trained.
_NOBRAINER_EPSILON = 1e-3


def build_unet(
    *,
    classes: int,
    channels: int = 32,
    levels: int = 4,
    activation: str = 'relu',
    norm: str = 'none',
    dropout: float = 0.0,
    in_channels: int = 1,
    input_shape: Sequence[int | None] = (None, None, None),
    nobrainer: bool = False,
) -> Any:
    """Build a 3-D U-Net.

    Each level of the encoder has two 3x3x3 convolutions, the second of twice the width of the
    first, with 2x2x2 max pooling between levels. Each level of the decoder has a transposed 2x2x2
    convolution of constant width, concatenation after the features of the encoder, and two 3x3x3
    convolutions. By default, with the paper's 3 channels and 3 classes, the network has the
    paper's 19,069,955 weights.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    channels : int
        Width of the first convolution.
    levels : int
        Number of resolutions.
    activation, norm, dropout
        See `brainchop_bids.models.blocks.ConvBlocks`.
    in_channels : int
        Channels of the input.
    input_shape : sequence of int or None
        Spatial shape, of multiples of ``2 ** (levels - 1)``; None leaves an axis open.
    nobrainer : bool
        Whether all convolutions have a bias, and batch normalisation has Nobrainer's epsilon. With
        16 ``channels`` and 4 ``levels``, the network takes weights of Nobrainer's ``unet``
        (https://github.com/neuronets/nobrainer).

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.

    Raises
    ------
    ModelError
        If activation or norm are unknown.
    """
    blocks = ConvBlocks(
        activation,
        norm,
        dropout,
        epsilon=_NOBRAINER_EPSILON if nobrainer else NORM_EPSILON,
        always_bias=nobrainer,
    )
    layers = keras.layers
    inputs = tensor = keras.Input((*input_shape, in_channels), name='input')
    skips = []
    for level in range(levels):
        if level:
            tensor = layers.MaxPooling3D(2, name=f'encoder_{level}_pool')(tensor)
        for i in range(2):
            width = channels * 2 ** (level + i)
            tensor = blocks.convolution(tensor, width, 3, f'encoder_{level}_{{}}_{i}')
        skips.append(tensor)
    for level in reversed(range(levels - 1)):
        width = channels * 2 ** (level + 1)
        tensor = layers.Conv3DTranspose(
            2 * width, 2, strides=2, use_bias=nobrainer, name=f'decoder_{level}_conv3d_transpose'
        )(tensor)
        tensor = layers.Concatenate(name=f'decoder_{level}_concatenate')([skips[level], tensor])
        for i in range(2):
            tensor = blocks.convolution(tensor, width, 3, f'decoder_{level}_{{}}_{i}')
    outputs = layers.Conv3D(classes, 1, padding='same', name='output')(tensor)
    return keras.Model(inputs, outputs, name='unet')


def build_light_unet(
    *,
    classes: int,
    widths: Sequence[int] = (24, 48, 96, 128),
    features: int = 48,
    factor: int = 2,
    activation: str = 'relu',
    norm: str = 'none',
    dropout: float = 0.0,
    in_channels: int = 1,
    input_shape: Sequence[int | None] = (None, None, None),
) -> Any:
    """Build a U-Net that is cheap on fine grids.

    Each level of the encoder has two 3x3x3 convolutions, the first of stride 2 except on the first
    level. In the decoder, a 1x1x1 convolution changes the width to that of the level, features are
    upsampled by nearest neighbours and added to those of the encoder, as in LinkNet (Chaurasia and
    Culurciello 2017, https://doi.org/10.1109/VCIP.2017.8305148). Concatenation would double the
    time and memory on the finest grid, which takes nearly all of both.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    widths : sequence of int
        Channels of each level.
    features : int
        Input channels of the last layer.
    factor : int
        Voxels, along each axis, of the blocks that the network computes on, see
        `brainchop_bids.models.space_to_depth`.
    activation, norm, dropout
        See `brainchop_bids.models.blocks.ConvBlocks`.
    in_channels : int
        Channels of the input.
    input_shape : sequence of int or None
        Spatial shape, of multiples of ``factor * 2 ** (len(widths) - 1)``; None leaves an axis
        open.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.

    Raises
    ------
    ModelError
        If activation or norm are unknown, or sides are not multiples of ``factor``.
    """
    blocks = ConvBlocks(activation, norm, dropout)
    layers = keras.layers
    inputs = keras.Input((*input_shape, in_channels), name='input')
    tensor = space_to_depth(inputs, factor)
    skips = []
    for level, width in enumerate(widths):
        for i in range(2):
            stride = 2 if level and not i else 1
            tensor = blocks.convolution(
                tensor, width, 3, f'encoder_{level}_{{}}_{i}', strides=stride
            )
        skips.append(tensor)
    for level in reversed(range(len(widths) - 1)):
        name = f'decoder_{level}'
        tensor = blocks.convolution(
            tensor, widths[level], 1, f'{name}_{{}}_project', activated=False
        )
        tensor = layers.UpSampling3D(2, name=f'{name}_upsample')(tensor)
        tensor = layers.Add(name=f'{name}_add')([skips[level], tensor])
        for i in range(2):
            width = features if i and not level else widths[level]
            tensor = blocks.convolution(tensor, width, 3, f'{name}_{{}}_{i}')
    return keras.Model(inputs, class_logits(tensor, classes, factor), name='light_unet')
