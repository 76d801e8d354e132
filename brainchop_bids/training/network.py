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
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ..models.keras_model import network_of
from ..models.meshnet import NearIdentity, build_meshnet, identity_kernel
from ..models.network import Network as Exported
from ..models.network import fold_batchnorm
from ..system.errors import SettingsError
from .architectures import build_network
from .losses.subvoxels import whole_network
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


def build_stage(network: Network, stage: Stage, classes: int, in_channels: int = 1) -> Any:
    """Build the network that a stage trains.

    Parameters
    ----------
    network : Network
        The whole one.
    stage : Stage
        Decides size, stride and normalisation.
    classes : int
        Number of classes.
    in_channels : int
        Channels of the images.

    Returns
    -------
    keras.Model
        ``(batch, N, N, N, in_channels)`` to logits ``(batch, N / stride, ..., classes)``.

    Raises
    ------
    SettingsError
        For an architecture or a stride that cannot be had, or a cube that does not fit it.
    """
    shape = (stage.cube,) * 3
    if stage.stride == 1:
        return build_network(
            network, norm=stage.norm, classes=classes, in_channels=in_channels, shape=shape
        )
    if network.space_to_depth > 1:
        raise SettingsError(
            f'model.space_to_depth is {network.space_to_depth}: it computes on places, not on '
            'every second voxel; set stride = 1'
        )
    if network.architecture != 'meshnet':
        raise SettingsError(
            f'model.architecture {network.architecture!r}: stages of stride 2 are for meshnet '
            'alone; set stride = 1'
        )
    if network.activation != 'relu':
        raise SettingsError(
            f'model.activation {network.activation!r}: stages of stride 2 need relu'
        )
    return build_meshnet(
        channels=network.channels,
        dilations=strided_dilations(network.dilations),
        classes=classes,
        activation=network.activation,
        norm=None if stage.norm == 'none' else stage.norm,
        dropout=network.dropout,
        in_channels=in_channels,
        input_shape=shape,
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
        Gets its weights, layer by layer of the same name; where names are Keras' own, which
        count on from one network to the next, in order. Where it has no batch normalisation,
        the other's is folded; layers of a MeshNet that the other lacks become identities.

    Raises
    ------
    SettingsError
        Where a layer has none to take over from, or one that differs in shape.
    """
    previous, model = whole_network(previous), whole_network(model)
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        known = {layer.name: weights for layer, weights in _weighted(previous)}
    else:
        folded = fold_batchnorm(network_of(previous))
        known = {op.name: list(op.weights.values()) for op in folded.ops if op.weights}
    wanted = _weighted(model)
    grows = model.name == previous.name == 'meshnet'
    if not grows and {layer.name for layer, _ in wanted} != set(known):
        names = [layer.name for layer, _ in wanted]
        known = dict(zip(names, known.values(), strict=False)) if len(names) == len(known) else {}
    for layer, weights in wanted:
        given = known.get(layer.name)
        if given is None and grows:
            given = [identity_kernel(weights[0].shape)]
            given += [np.zeros_like(values) for values in weights[1:]]
        if given is None or [v.shape for v in given] != [v.shape for v in weights]:
            raise SettingsError(
                f'layer {layer.name} cannot take over the weights of the stage before; keep '
                'norm as it is, or go from batch to none'
            )
        layer.set_weights(given)


def trained_network(network: Network, stage: Stage, model: Any) -> Exported:
    """Return what training has made, as data.

    Parameters
    ----------
    network : Network
        The whole one.
    stage : Stage
        The one that ``model`` is of.
    model : keras.Model
        The trained network.

    Returns
    -------
    brainchop_bids.models.network.Network
        Of stride 1, without dropout and batch normalisation; normalised channels stay so. Its
        ``input_shape`` is open.

    Raises
    ------
    ModelError
        Where batch normalisation cannot be folded.
    """
    model = whole_network(model)
    if stage.stride != 1:
        whole = build_stage(
            network, replace(stage, stride=1), model.output_shape[-1], model.input_shape[-1]
        )
        take_over(model, whole)
        model = whole
    return replace(fold_batchnorm(network_of(model)), input_shape=(None, None, None))


def _weighted(model: Any) -> list[tuple[Any, list[np.ndarray]]]:
    """Return layers with what they have learnt."""
    found = [(layer, layer.get_weights()) for layer in model.layers]
    return [(layer, weights) for layer, weights in found if weights]
