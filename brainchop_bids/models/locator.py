"""A small network that finds an organ in frames of 64 x 64 pixels."""

from collections.abc import Sequence
from typing import Any

import keras

# Of each block of the encoder: width inside, channels of its output, stride.
_ENCODER = ((48, 24, 2), (72, 24, 1), (96, 32, 2), (96, 32, 1), (96, 40, 2), (120, 40, 1))
_STEM = 16
# Channels of each step back to finer grids.
_DECODER = (32, 24, 16)
# The moving statistics follow 50 steps.
_MOMENTUM = 0.98


def build_locator(
    *, classes: int, in_channels: int = 1, input_shape: Sequence[int | None] = (64, 64)
) -> Any:
    """Build a localiser of frames.

    Inverted residuals, that is 1x1 convolution, 3x3 depthwise convolution and 1x1 convolution,
    as in MobileNetV3 small (Howard et al. 2019, https://arxiv.org/abs/1905.02244), with plain
    ReLU and without squeeze and excitation. From the coarsest grid, of 4 x 4 for 64 x 64 pixels,
    features are upsampled and added to those of finer grids, up to half the resolution of the
    frame.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    in_channels : int
        Channels of the frames.
    input_shape : sequence of int or None
        Rows and columns of the frames, multiples of 16; None leaves an axis open.

    Returns
    -------
    keras.Model
        ``(batch, rows, columns, in_channels)`` to logits ``(batch, rows, columns, classes)``;
        50,129 weights with 17 classes, 45,689 after folding.
    """
    layers = keras.layers
    inputs = keras.Input((*input_shape, in_channels), name='input')
    tensor = _convolution(inputs, _STEM, 3, 'stem', strides=2)
    skips = [tensor]
    for number, (inside, width, stride) in enumerate(_ENCODER):
        if stride > 1 and number:
            skips.append(tensor)
        tensor = _inverted_residual(tensor, inside, width, stride, f'encoder_{number}')
    deepest = tensor
    for number, (width, skip) in enumerate(zip(_DECODER, reversed(skips), strict=True)):
        name = f'decoder_{number}'
        tensor = _convolution(tensor, width, 1, f'{name}_project', activated=False)
        tensor = layers.UpSampling2D(2, name=f'{name}_upsample')(tensor)
        tensor = layers.Add(name=f'{name}_add')([tensor, skip])
        tensor = _depthwise(tensor, 1, f'{name}_depthwise')
        tensor = _convolution(tensor, width, 1, f'{name}_mix')
    # The kind of view is a property of the whole frame: the coarsest features tell it directly,
    # which takes a tenth of the steps to learn.
    whole = layers.Conv2D(classes, 1, use_bias=False, name='view')(deepest)
    whole = layers.UpSampling2D(2 ** len(_DECODER), name='view_upsample')(whole)
    tensor = layers.Conv2D(classes, 1, name='output')(tensor)
    tensor = layers.Add(name='logits')([tensor, whole])
    return keras.Model(inputs, layers.UpSampling2D(2, name='full_size')(tensor), name='locator')


def _inverted_residual(tensor: Any, inside: int, width: int, stride: int, name: str) -> Any:
    made = _convolution(tensor, inside, 1, f'{name}_expand')
    made = _depthwise(made, stride, f'{name}_depthwise')
    made = _convolution(made, width, 1, f'{name}_project', activated=False)
    if stride == 1 and tensor.shape[-1] == width:
        return keras.layers.Add(name=f'{name}_add')([tensor, made])
    return made


def _convolution(
    tensor: Any, width: int, size: int, name: str, *, strides: int = 1, activated: bool = True
) -> Any:
    layer = keras.layers.Conv2D(
        width, size, strides=strides, padding='same', use_bias=False, name=name
    )
    return _normalised(layer(tensor), name, activated)


def _depthwise(tensor: Any, stride: int, name: str) -> Any:
    layer = keras.layers.DepthwiseConv2D(
        3, strides=stride, padding='same', use_bias=False, name=name
    )
    return _normalised(layer(tensor), name, True)


def _normalised(tensor: Any, name: str, activated: bool) -> Any:
    norm = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f'{name}_norm')
    tensor = norm(tensor)
    return keras.layers.ReLU(name=f'{name}_relu')(tensor) if activated else tensor
