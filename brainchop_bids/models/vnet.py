"""V-Net: residual stages of 5x5x5 convolutions, with strided convolutions instead of pooling.

Milletari, Navab and Ahmadi, V-Net: fully convolutional neural networks for volumetric medical
image segmentation, 3DV 2016, https://doi.org/10.1109/3DV.2016.79.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .blocks import ConvBlocks


def build_vnet(
    *,
    classes: int,
    channels: int = 16,
    levels: int = 5,
    activation: str = 'leaky_relu',
    norm: str = 'none',
    dropout: float = 0.0,
    in_channels: int = 1,
    input_shape: Sequence[int | None] = (None, None, None),
) -> Any:
    """Build a V-Net.

    The stages of the levels have 1, 2, 3, 3, ... convolutions, and the input of a stage is added
    before its last activation. In the encoder strided 2x2x2 convolutions double the width; in the
    decoder transposed ones change it to that of the level, and features are concatenated after
    those of the encoder, so that stages are twice as wide. The paper has PReLU activations, 5
    levels and 2 classes.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    channels : int
        Width of the first stage.
    levels : int
        Number of resolutions.
    activation, norm, dropout
        See `brainchop_bids.models.blocks.ConvBlocks`.
    in_channels : int
        Channels of the input.
    input_shape : sequence of int or None
        Spatial shape, of multiples of ``2 ** (levels - 1)``; None leaves an axis open.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.

    Raises
    ------
    ModelError
        If activation or norm are unknown.
    """
    blocks = ConvBlocks(activation, norm, dropout)
    layers = keras.layers
    inputs = keras.Input((*input_shape, in_channels), name='input')
    # The paper adds its single input channel to all channels of the stage. This convolution starts
    # as the same, for any number of input channels.
    projected = layers.Conv3D(
        channels,
        1,
        use_bias=False,
        kernel_initializer=RepeatedIdentity(),
        name='encoder_0_project',
    )(inputs)
    tensor = _stage(blocks, inputs, projected, channels, 0, 'encoder')
    skips = [tensor]
    for level in range(1, levels):
        width = channels * 2**level
        name = f'encoder_{level}_{{}}_down'
        tensor = blocks.convolution(tensor, width, 2, name, strides=2)
        tensor = _stage(blocks, tensor, tensor, width, level, 'encoder')
        skips.append(tensor)
    for level in reversed(range(levels - 1)):
        width = channels * 2**level
        name = f'decoder_{level}_{{}}_up'
        tensor = blocks.convolution(tensor, width, 2, name, strides=2, transposed=True)
        tensor = layers.Concatenate(name=f'decoder_{level}_concatenate')([skips[level], tensor])
        tensor = _stage(blocks, tensor, tensor, 2 * width, level, 'decoder')
    outputs = layers.Conv3D(classes, 1, padding='same', name='output')(tensor)
    return keras.Model(inputs, outputs, name='vnet')


def _stage(
    blocks: ConvBlocks, tensor: Any, residual: Any, width: int, level: int, side: str
) -> Any:
    """Add a level's convolutions, and the residual before the last activation."""
    count = min(level + 1, 3)
    for i in range(count):
        name = f'{side}_{level}_{{}}_{i}'
        tensor = blocks.convolution(tensor, width, 5, name, activated=i < count - 1)
    tensor = keras.layers.Add(name=f'{side}_{level}_add')([tensor, residual])
    return blocks.activate(tensor, f'{side}_{level}_{{}}_{count - 1}')


@keras.saving.register_keras_serializable('brainchop')
class RepeatedIdentity(keras.initializers.Initializer):
    """Kernels of 1x1x1 convolutions that repeat the input channels in order."""

    def __call__(self, shape: Sequence[int], dtype: Any = None, **options: Any) -> Any:
        """Return a kernel ``(1, 1, 1, Cin, Cout)``."""
        kernel = np.zeros(shape, np.float32)
        outputs = np.arange(shape[-1])
        kernel[..., outputs % shape[-2], outputs] = 1
        return keras.ops.cast(kernel, dtype or keras.config.floatx())
