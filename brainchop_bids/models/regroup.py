"""Space to depth and back: networks that compute on 2 mm places and label 1 mm voxels.

The 2x2x2 voxels of a place become the channels of one value, the network runs on an eighth of
the voxels, and its last convolution gives a logit for each class of each of the eight, which
become voxels again. After Shi et al. (2016), sub-pixel convolution,
https://doi.org/10.1109/CVPR.2016.207. Both ends are written as convolutions that every format and
engine knows: one whose stride is as wide as its kernel, and a transposed one of the same kind.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..system.errors import ModelError

GATHER = 'space_to_depth'
HEAD = 'output'


@keras.saving.register_keras_serializable('brainchop')
class Gather(keras.initializers.Initializer):
    """The kernel of a convolution that moves each voxel of a place into a channel of its own."""

    def __call__(self, shape: Sequence[int], dtype: Any = None, **options: Any) -> Any:
        """Return a kernel of ``(n, n, n, C, n^3 C)`` with one 1 for each channel of its output."""
        count = int(np.prod(shape[:4]))
        if shape[-1] != count:
            raise ValueError(f'a kernel of {tuple(shape)}; expected {count} channels at its end')
        return keras.ops.cast(np.eye(count).reshape(shape), dtype or 'float32')


def space_to_depth(tensor: Any, factor: int) -> Any:
    """Make a channel of each voxel of a place.

    Parameters
    ----------
    tensor : keras.KerasTensor
        ``(batch, X, Y, Z, C)``.
    factor : int
        Voxels of a place along each axis; sides must be multiples of it.

    Returns
    -------
    keras.KerasTensor
        ``(batch, X / factor, Y / factor, Z / factor, factor^3 C)``, the last axis of a place
        fastest. The same tensor for a factor of 1.

    Raises
    ------
    ModelError
        Where a side is no multiple.
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
        kernel_initializer=Gather(),
        trainable=False,
        name=GATHER,
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
        Voxels along each axis that a place becomes.

    Returns
    -------
    keras.KerasTensor
        ``(batch, factor X, factor Y, factor Z, classes)``.
    """
    if factor == 1:
        return keras.layers.Conv3D(classes, 1, padding='same', name=HEAD)(tensor)
    # Glorot's bounds would count the voxels of a place as inputs.
    start = keras.initializers.RandomNormal(stddev=tensor.shape[-1] ** -0.5)
    return keras.layers.Conv3DTranspose(
        classes, factor, strides=factor, kernel_initializer=start, name=HEAD
    )(tensor)
