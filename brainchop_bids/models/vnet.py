"""V-Net: residual stages of 5x5x5 convolutions, and strided ones in place of pooling.

Milletari, Navab and Ahmadi, V-Net: fully convolutional neural networks for volumetric medical
image segmentation, 3DV 2016, https://doi.org/10.1109/3DV.2016.79.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .blocks import Blocks


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

    A level's stage has 1, 2, 3, 3, ... convolutions, and what enters it is added before the last
    activation. Strided 2x2x2 convolutions lead down and double the width; transposed ones lead
    up, to the width of the level, whose features are joined before theirs: the stage there is
    twice as wide. The paper has PReLU after all of them, 5 levels and 2 classes.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    channels : int
        Width of the first stage.
    levels : int
        Resolutions.
    activation, norm, dropout
        As `brainchop_bids.models.blocks.Blocks` has them.
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
        For an unknown activation or norm.
    """
    blocks = Blocks(activation, norm, dropout)
    layers = keras.layers
    inputs = keras.Input((*input_shape, in_channels), name='input')
    # The paper adds its one channel to each of the stage's. So does this at first, and it can be
    # told of any number of channels.
    entering = layers.Conv3D(
        channels, 1, use_bias=False, kernel_initializer=Spread(), name='encoder_0_project'
    )(inputs)
    tensor = _stage(blocks, inputs, entering, channels, 0, 'encoder')
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


def _stage(blocks: Blocks, tensor: Any, entering: Any, width: int, level: int, side: str) -> Any:
    """Add a level's convolutions and, before the last activation, what entered."""
    count = min(level + 1, 3)
    for i in range(count):
        name = f'{side}_{level}_{{}}_{i}'
        tensor = blocks.convolution(tensor, width, 5, name, activated=i < count - 1)
    tensor = keras.layers.Add(name=f'{side}_{level}_add')([tensor, entering])
    return blocks.activate(tensor, f'{side}_{level}_{{}}_{count - 1}')


@keras.saving.register_keras_serializable('brainchop')
class Spread(keras.initializers.Initializer):
    """Kernels whose outputs are the inputs, one after the other and again from the first."""

    def __call__(self, shape: Sequence[int], dtype: Any = None, **options: Any) -> Any:
        """Return a kernel of ``(1, 1, 1, Cin, Cout)``."""
        kernel = np.zeros(shape, np.float32)
        outputs = np.arange(shape[-1])
        kernel[..., outputs % shape[-2], outputs] = 1
        return keras.ops.cast(kernel, dtype or keras.config.floatx())
