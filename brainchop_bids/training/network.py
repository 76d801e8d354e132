"""The network of each stage of training, and how it takes over what the one before learnt.

A dilated convolution with an even dilation never mixes even voxels with odd ones. A MeshNet whose
dilations are even but for the first layer can therefore be computed on every second voxel of each
axis alone: the first convolution with a stride of 2, all others with half their dilation, the
same kernels, an eighth of the work, and the same numbers at those voxels. Neighbouring voxels
teach much the same, so such a step teaches nearly as much as one over all. Layers of dilation 1
at the end do mix neighbours; they are left out until a stage without stride adds them as
identities, which change nothing behind a ReLU, and trains them.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..errors import SettingsError
from ..models.keras_model import network_of
from ..models.meshnet import NearIdentity, build_meshnet, identity_kernel
from ..models.network import fold_batchnorm
from .options import Network, Stage


def strided_dilations(dilations: Sequence[int]) -> tuple[int, ...]:
    """Return the layers, in halved dilations, that a stage of stride 2 computes.

    Parameters
    ----------
    dilations : sequence of int
        Of the whole network.

    Returns
    -------
    tuple of int
        One for each layer kept; the first layer has its stride instead.

    Raises
    ------
    SettingsError
        Where an odd dilation stands between even ones.

    Examples
    --------
    >>> strided_dilations((1, 2, 4, 8, 16, 8, 4, 2, 1))
    (1, 1, 2, 4, 8, 4, 2, 1)
    """
    kept = list(dilations)
    while len(kept) > 1 and kept[-1] == 1:
        kept.pop()
    if any(dilation % 2 for dilation in kept[1:]):
        raise SettingsError(
            f'model.dilations {list(dilations)}: stages of stride 2 need even dilations between '
            'the first layer and the last ones of 1; set stride = 1'
        )
    return (kept[0], *(dilation // 2 for dilation in kept[1:]))


def build_stage(network: Network, stage: Stage, classes: int) -> Any:
    """Build the network that a stage trains.

    Parameters
    ----------
    network : Network
        The whole one.
    stage : Stage
        Decides size, stride and normalisation.
    classes : int
        Number of classes.

    Returns
    -------
    keras.Model
        ``(batch, N, N, N, 1)`` to logits ``(batch, N / stride, ..., classes)``.
    """
    strided = stage.stride == 2
    if strided and network.activation != 'relu':
        raise SettingsError(
            f'model.activation {network.activation!r}: stages of stride 2 need relu'
        )
    return build_meshnet(
        channels=network.channels,
        dilations=strided_dilations(network.dilations) if strided else network.dilations,
        classes=classes,
        activation=network.activation,
        norm=None if stage.norm == 'none' else stage.norm,
        dropout=network.dropout,
        input_shape=(stage.cube,) * 3,
        first_stride=stage.stride,
        initializer=NearIdentity(),
    )


def take_over(previous: Any, model: Any) -> None:
    """Give a stage's network what the one before has learnt.

    Parameters
    ----------
    previous : keras.Model
        The trained one.
    model : keras.Model
        Gets its weights. Where it has no batch normalisation, the other's is folded; layers
        the other lacks become identities.

    Raises
    ------
    SettingsError
        Where a layer that both have differs in shape.
    """
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        known = {layer.name: layer.get_weights() for layer in previous.layers}
    else:
        folded = fold_batchnorm(network_of(previous))
        known = {op.name: list(op.weights.values()) for op in folded.ops}
    for layer in model.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        given = known.get(layer.name)
        if given is None:
            given = [identity_kernel(weights[0].shape)]
            given += [np.zeros_like(values) for values in weights[1:]]
        if [values.shape for values in given] != [values.shape for values in weights]:
            raise SettingsError(
                f'layer {layer.name} cannot take over the weights of the stage before; keep '
                'norm as it is, or go from batch to none'
            )
        layer.set_weights(given)
