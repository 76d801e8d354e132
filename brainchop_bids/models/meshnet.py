"""MeshNet: dilated 3x3x3 convolutions of one narrow width, and a 1x1x1 convolution to classes.

Fedorov et al., End-to-end learning of brain tissue segmentation from imperfect labeling,
IJCNN 2017, https://doi.org/10.1109/IJCNN.2017.7966333. It works on all
Keras backends.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .blocks import ConvBlocks
from .space_to_depth import class_logits, space_to_depth


@keras.saving.register_keras_serializable('brainchop')
class NearIdentity(keras.initializers.Initializer):
    """Identity kernels with additional noise of a He initialisation.

    Long chains of narrow layers without normalisation hardly train from a He initialisation, since
    the signal vanishes along the chain. After the Dirac initialisation of Zagoruyko and Komodakis
    (2017), https://arxiv.org/abs/1706.00388.

    Parameters
    ----------
    noise : float
        Factor on the He normal initialisation that is added.
    seed : int, optional
        Seed of the noise.
    """

    def __init__(self, noise: float = 0.3, seed: int | None = None) -> None:
        self.noise = noise
        self.seed = seed

    def __call__(self, shape: Sequence[int], dtype: Any = None, **options: Any) -> Any:
        """Return a kernel ``(X, Y, Z, Cin, Cout)``; only He initialisation if widths differ."""
        he = keras.initializers.HeNormal(seed=self.seed)(shape, dtype=dtype, **options)
        if shape[-1] != shape[-2]:
            return he
        return self.noise * he + keras.ops.cast(identity_kernel(shape), he.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {'noise': self.noise, 'seed': self.seed}


def identity_kernel(shape: Sequence[int]) -> np.ndarray:
    """Return the kernel ``(X, Y, Z, C, C)`` of the identity."""
    kernel = np.zeros(shape, np.float32)
    kernel[tuple(size // 2 for size in shape[:3])] = np.eye(shape[-1])
    return kernel


def build_meshnet(
    *,
    channels: int,
    dilations: Sequence[int],
    classes: int,
    activation: str = 'relu',
    norm: str | None = None,
    dropout: float = 0.0,
    in_channels: int = 1,
    input_shape: Sequence[int | None] = (None, None, None),
    first_stride: int = 1,
    factor: int = 1,
    initializer: Any = 'he_normal',
) -> Any:
    """Build a MeshNet.

    Parameters
    ----------
    channels : int
        Width of each hidden layer.
    dilations : sequence of int
        Dilation of each hidden layer, e.g. ``(1, 2, 4, 8, 16, 8, 4, 2, 1)``.
    classes : int
        Number of classes, background included.
    activation : str
        One of `brainchop_bids.models.network.ACTIVATIONS`.
    norm : {None, 'batch', 'group'}
        See `brainchop_bids.models.blocks.ConvBlocks`.
    dropout : float
        Rate of spatial dropout after each activation.
    in_channels : int
        Channels of the input.
    input_shape : sequence of int or None
        Spatial shape; None leaves an axis open.
    first_stride : int
        Stride of the first layer, whose dilation must then be 1, see
        `brainchop_bids.training.stages`.
    factor : int
        Voxels, along each axis, of the blocks that the network computes on, see
        `brainchop_bids.models.space_to_depth`; dilations are in blocks.
    initializer : str or keras.initializers.Initializer
        Initialiser of the kernels of hidden layers.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.

    Raises
    ------
    ModelError
        If activation or norm are unknown, or sides are not multiples of ``factor``.
    """
    blocks = ConvBlocks(activation, norm or 'none', dropout, initializer)
    inputs = keras.Input((*input_shape, in_channels), name='input')
    tensor = space_to_depth(inputs, factor)
    for i, dilation in enumerate(dilations):
        tensor = blocks.convolution(
            tensor,
            channels,
            3,
            f'{{}}_{i}',
            strides=first_stride if i == 0 else 1,
            dilation_rate=dilation,
        )
    return keras.Model(inputs, class_logits(tensor, classes, factor), name='meshnet')
