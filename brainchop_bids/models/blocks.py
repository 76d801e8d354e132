"""Convolutions with what stands behind them: the parts that all networks here are made of.

Written in `keras.layers` alone, so that they train on each of Keras' backends.
"""

from dataclasses import dataclass
from typing import Any

import keras

from ..system.errors import ModelError
from .keras_model import activation_layer
from .network import ACTIVATIONS, LEAKY_SLOPE

NORM_EPSILON = 1e-5
# Of moving statistics; of one patch a step they are means over some fifty patches.
NORM_MOMENTUM = 0.98
NORMS = ('none', 'batch', 'group')


@dataclass(frozen=True)
class Blocks:
    """Makes convolutions, each with its normalisation, activation and dropout.

    Parameters
    ----------
    activation : str
        One of `brainchop_bids.models.network.ACTIVATIONS`.
    norm : {'none', 'batch', 'group'}
        Between convolution and activation: none, batch normalisation (which `fold_batchnorm`
        takes out again), or each channel over the volume, without scale or shift.
    dropout : float
        Share of channels that training drops after each activation.
    initializer : str or keras.initializers.Initializer
        Of kernels.
    epsilon : float
        Of batch normalisation.
    always_bias : bool
        Whether convolutions that are normalised have a bias too. It changes nothing, since a
        normalisation subtracts it, but files of others hold it.

    Raises
    ------
    ModelError
        For an unknown activation or norm.
    """

    activation: str
    norm: str = 'none'
    dropout: float = 0.0
    initializer: Any = 'he_normal'
    epsilon: float = NORM_EPSILON
    always_bias: bool = False

    def __post_init__(self) -> None:
        """Refuse what there is no layer for."""
        if self.activation not in ACTIVATIONS or self.norm not in NORMS:
            raise ModelError(
                f'a network with activation {self.activation!r} and norm {self.norm!r}; expected '
                f'one of {", ".join(sorted(ACTIVATIONS))} and one of {", ".join(NORMS)}'
            )

    def convolution(
        self,
        tensor: Any,
        channels: int,
        size: int,
        name: str,
        *,
        activated: bool = True,
        transposed: bool = False,
        **settings: Any,
    ) -> Any:
        """Add a convolution and what follows it.

        Parameters
        ----------
        tensor : keras.KerasTensor
            ``(batch, X, Y, Z, Cin)``.
        channels, size : int
            Of its output, and side of its kernel, voxels.
        name : str
            With ``{}`` where each layer's name says what it is.
        activated : bool
            Whether activation and dropout follow.
        transposed : bool
            Whether it makes the grid finer.
        **settings
            Of Keras' layer, such as ``strides``.

        Returns
        -------
        keras.KerasTensor
            ``(batch, X, Y, Z, channels)``.
        """
        kind = keras.layers.Conv3DTranspose if transposed else keras.layers.Conv3D
        tensor = kind(
            channels,
            size,
            padding='same',
            # A normalisation subtracts whatever a bias adds.
            use_bias=self.always_bias or self.norm == 'none',
            kernel_initializer=self.initializer,
            name=name.format('conv3d_transpose' if transposed else 'conv3d'),
            **settings,
        )(tensor)
        if self.norm == 'batch':
            tensor = keras.layers.BatchNormalization(
                momentum=NORM_MOMENTUM, epsilon=self.epsilon, name=name.format('norm')
            )(tensor)
        elif self.norm == 'group':
            tensor = channel_norm(name.format('norm'))(tensor)
        return self.activate(tensor, name) if activated else tensor

    def activate(self, tensor: Any, name: str) -> Any:
        """Add an activation and the dropout behind it."""
        alpha = LEAKY_SLOPE if self.activation == 'leaky_relu' else 1.0
        tensor = activation_layer(self.activation, alpha, name.format('activation'))(tensor)
        if self.dropout:
            tensor = keras.layers.SpatialDropout3D(self.dropout, name=name.format('dropout'))(
                tensor
            )
        return tensor


def channel_norm(name: str) -> Any:
    """Return a layer that gives each channel mean 0 and variance 1 over the volume."""
    return keras.layers.GroupNormalization(
        groups=-1, epsilon=NORM_EPSILON, center=False, scale=False, name=name
    )
