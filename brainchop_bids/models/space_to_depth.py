"""Space to depth and back: networks that compute on 2 mm blocks and label 1 mm voxels.

The 2x2x2 voxels of a block become channels at one position, so that the network computes an eighth
of the positions, and its last convolution gives the logits of all eight voxels, after Shi et al.
(2016), sub-pixel convolution, https://doi.org/10.1109/CVPR.2016.207. Both steps are convolutions
with a stride as wide as the kernel, the last one transposed. All formats and engines support them.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..system.errors import ModelError

SPACE_TO_DEPTH = 'space_to_depth'
OUTPUT_LAYER = 'output'


@keras.saving.register_keras_serializable('brainchop')
class SpaceToDepthKernel(keras.initializers.Initializer):
    """Kernel of a convolution that moves each voxel of a block to a channel of its own."""

    def __call__(self, shape: Sequence[int], dtype: Any = None, **options: Any) -> Any:
        """Return a kernel ``(n, n, n, C, n^3 C)`` with a single 1 for each output channel."""
        count = int(np.prod(shape[:4]))
        if shape[-1] != count:
            raise ValueError(f'a kernel of {tuple(shape)}; expected {count} channels at its end')
        return keras.ops.cast(np.eye(count).reshape(shape), dtype or 'float32')


def space_to_depth(tensor: Any, factor: int) -> Any:
    """Move the voxels of each block to channels.

    Parameters
    ----------
    tensor : keras.KerasTensor
        ``(batch, X, Y, Z, C)``.
    factor : int
        Voxels of a block along each axis; sides must be multiples of it.

    Returns
    -------
    keras.KerasTensor
        ``(batch, X / factor, Y / factor, Z / factor, factor^3 C)``, the last axis of a block
        fastest. The given tensor for a factor of 1.

    Raises
    ------
    ModelError
        If a side is not a multiple.
    """
    if factor == 1:
        return tensor
    sides = [side for side in tensor.shape[1:4] if side is not None and side % factor]
    if sides:
        raise ModelError(f'a side of {sides[0]} voxels; expected a multiple of {factor}')
    return keras.layers.Conv3D(
        factor**3 * tensor.shape[-1],
        factor,
        strides=factor,
        use_bias=False,
        kernel_initializer=SpaceToDepthKernel(),
        trainable=False,
        name=SPACE_TO_DEPTH,
    )(tensor)


def class_logits(tensor: Any, classes: int, factor: int) -> Any:
    """Add the last layer: logits of each voxel.

    Parameters
    ----------
    tensor : keras.KerasTensor
        Features ``(batch, X, Y, Z, C)``.
    classes : int
        Number of classes.
    factor : int
        Voxels of a block along each axis.

    Returns
    -------
    keras.KerasTensor
        ``(batch, factor X, factor Y, factor Z, classes)``.
    """
    if factor == 1:
        return keras.layers.Conv3D(classes, 1, padding='same', name=OUTPUT_LAYER)(tensor)
    # Glorot's limits would count the voxels of a block as inputs.
    initializer = keras.initializers.RandomNormal(stddev=tensor.shape[-1] ** -0.5)
    return keras.layers.Conv3DTranspose(
        classes, factor, strides=factor, kernel_initializer=initializer, name=OUTPUT_LAYER
    )(tensor)
