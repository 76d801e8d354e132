"""Convolution blocks, with normalisation, activation and dropout, on any Keras backend."""

from dataclasses import dataclass
from typing import Any

import keras

from ..system.errors import ModelError
from .keras_model import activation_layer
from .network import ACTIVATIONS, LEAKY_SLOPE

NORM_EPSILON = 1e-5
# Momentum of moving statistics, which are means over about fifty patches with one in each step.
NORM_MOMENTUM = 0.98
NORMS = ('none', 'batch', 'group')


@dataclass(frozen=True)
class ConvBlocks:
    """Adds convolutions with normalisation, activation and dropout to a network.

    Parameters
    ----------
    activation : str
        One of `brainchop_bids.models.network.ACTIVATIONS`.
    norm : {'none', 'batch', 'group'}
        Normalisation between convolution and activation: none, batch normalisation (which
        `fold_batchnorm` removes), or of each channel over the volume, without scale and shift.
    dropout : float
        Rate of spatial dropout after each activation.
    initializer : str or keras.initializers.Initializer
        Initialiser of kernels.
    epsilon : float
        Epsilon of batch normalisation.
    always_bias : bool
        Whether convolutions with normalisation have a bias, too. It has no effect, but other
        programs' files have it.

    Raises
    ------
    ModelError
        If activation or norm are unknown.
    """

    activation: str
    norm: str = 'none'
    dropout: float = 0.0
    initializer: Any = 'he_normal'
    epsilon: float = NORM_EPSILON
    always_bias: bool = False

    def __post_init__(self) -> None:
        """Check activation and norm."""
        if self.activation not in ACTIVATIONS or self.norm not in NORMS:
            raise ModelError(
                f'activation {self.activation!r} with norm {self.norm!r} is unknown; expected '
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
        """Add a convolution, and the layers after it.

        Parameters
        ----------
        tensor : keras.KerasTensor
            ``(batch, X, Y, Z, Cin)``.
        channels, size : int
            Number of output channels, and side of the kernel in voxels.
        name : str
            Name with ``{}`` for the kind of each layer.
        activated : bool
            Whether activation and dropout follow.
        transposed : bool
            Whether the convolution is transposed.
        **settings
            Further arguments of the Keras layer, such as ``strides``.

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
            # Normalisation subtracts the bias.
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
        """Add an activation and dropout."""
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
