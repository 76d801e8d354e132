"""The network of each training stage, and transfer of weights from stage to stage.

A dilated convolution with an even dilation never mixes even voxels with odd ones. A MeshNet whose
dilations are even but for the first layer can therefore be computed on every second voxel of each
axis alone: the first convolution with a stride of 2, all others with half their dilation, the
same kernels, an eighth of the work, and the same numbers at those voxels. Neighbouring voxels
are nearly redundant for training, so that such a step is nearly as useful as one over all voxels.
Layers of dilation 1 at the end do mix neighbours; they are omitted until a stage without stride
adds them as identities, which have no effect after a ReLU, and trains them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ..models.keras_model import network_of
from ..models.meshnet import NearIdentity, build_meshnet, identity_kernel
from ..models.network import Network, fold_batchnorm
from ..system.errors import SettingsError
from .architectures import ARCHITECTURES, build_network
from .losses.subvoxels import whole_network
from .options import NetworkOptions, Stage

if keras.backend.backend() == 'torch':
    from . import torch_layers as _layers
else:
    _layers = keras.layers


def strided_dilations(dilations: Sequence[int]) -> tuple[int, ...]:
    """Return the halved dilations of the layers that a stage of stride 2 computes.

    Parameters
    ----------
    dilations : sequence of int
        Dilations of the whole network.

    Returns
    -------
    tuple of int
        Dilations of the remaining layers; the first one has a stride.

    Raises
    ------
    SettingsError
        If there are odd dilations in between.

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


def build_stage(network: NetworkOptions, stage: Stage, classes: int, in_channels: int = 1) -> Any:
    """Build the network of a stage.

    Parameters
    ----------
    network : NetworkOptions
        The ``[model]`` table.
    stage : Stage
        Size, stride and normalisation.
    classes : int
        Number of classes.
    in_channels : int
        Channels of the images.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X / stride, ..., classes)``.

    Raises
    ------
    SettingsError
        If architecture and stride do not fit together, or the cube has the wrong size.
    """
    fixed = stage.norm == 'fixed'
    norm = 'batch' if fixed else stage.norm
    model = _build_stage(network, replace(stage, norm=norm), classes, in_channels)
    if fixed:
        return _with_layers(model, BatchNormalization)
    # Users' own networks may have layers that Keras cannot copy.
    if _layers is keras.layers or network.architecture not in ARCHITECTURES:
        return model
    return _with_layers(model, _layers.BatchNormalization)


def _build_stage(network: NetworkOptions, stage: Stage, classes: int, in_channels: int) -> Any:
    """Build the network of a stage of Keras' own layers."""
    shape = stage.shape
    if stage.stride == 1:
        return build_network(
            network, norm=stage.norm, classes=classes, in_channels=in_channels, shape=shape
        )
    if network.space_to_depth > 1:
        raise SettingsError(
            f'model.space_to_depth is {network.space_to_depth}: it cannot be combined with a '
            'stride; set stride = 1'
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


class BatchNormalization(_layers.BatchNormalization):
    """Batch normalisation by the moving statistics, in training too.

    Scale and shift remain trainable, which ``trainable = False`` of Keras' own layer would end.
    Networks are read by the names of their layers' classes, hence the same name.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise by the moving statistics, whatever ``training`` is."""
        return super().call(inputs, training=False, mask=mask)


def _with_layers(model: Any, normalization: Any) -> Any:
    """Return a copy of a model with other batch normalisation, and faster convolutions."""
    kinds: dict[type, Any] = {
        keras.layers.BatchNormalization: normalization,
        keras.layers.Conv3D: _layers.Conv3D,
    }

    def copied(layer: Any) -> Any:
        return kinds.get(type(layer), type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=copied)


def recompute_statistics(model: Any, batches: Iterable[Any]) -> None:
    """Replace moving statistics of batch normalisation by the means over batches.

    For averaged weights, as in stochastic weight averaging (Izmailov et al. 2018,
    https://arxiv.org/abs/1803.05407): moving statistics are those of earlier weights, and a next
    stage may keep them.

    Parameters
    ----------
    model : keras.Model
        Model with averaged weights. Layers whose statistics are fixed, or which are not trained,
        are left as they are.
    batches : iterable
        Inputs of the model.
    """
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and not isinstance(layer, BatchNormalization)
        and layer.trainable
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for count, inputs in enumerate(batches):
        for layer in layers:
            layer.momentum = count / (count + 1)
        model(inputs, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def inherit_weights(previous: Any, model: Any) -> None:
    """Set the weights of a stage's network to those of the previous stage.

    Parameters
    ----------
    previous : keras.Model
        Trained model of the previous stage.
    model : keras.Model
        Gets the weights of layers of the same name; if names were generated by Keras, which
        differ between networks, layers are matched in order. Batch normalisation that it does
        not have is folded; additional layers of a MeshNet become identities.

    Raises
    ------
    SettingsError
        If a layer has no counterpart, or one of another shape.
    """
    previous, model = whole_network(previous), whole_network(model)
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        trained = {layer.name: weights for layer, weights in _weighted(previous)}
    else:
        folded = fold_batchnorm(network_of(previous))
        trained = {op.name: list(op.weights.values()) for op in folded.ops if op.weights}
    layers = _weighted(model)
    grows = model.name == previous.name == 'meshnet'
    if not grows and {layer.name for layer, _ in layers} != set(trained):
        names = [layer.name for layer, _ in layers]
        same_number = len(names) == len(trained)
        trained = dict(zip(names, trained.values(), strict=True)) if same_number else {}
    for layer, weights in layers:
        values = trained.get(layer.name)
        if values is None and grows:
            zeros = [np.zeros_like(array) for array in weights[1:]]
            values = [identity_kernel(weights[0].shape), *zeros]
        if values is None or [v.shape for v in values] != [v.shape for v in weights]:
            raise SettingsError(
                f'layer {layer.name} cannot take over the weights of the stage before; keep '
                'norm as it is, or go from batch to fixed or none'
            )
        layer.set_weights(values)


def trained_network(network: NetworkOptions, stage: Stage, model: Any) -> Network:
    """Return a trained network as data, for export.

    Parameters
    ----------
    network : NetworkOptions
        The ``[model]`` table.
    stage : Stage
        Stage of the model.
    model : keras.Model
        Trained model.

    Returns
    -------
    Network
        Without stride, dropout and batch normalisation, but with group normalisation; its
        ``input_shape`` is open.

    Raises
    ------
    ModelError
        If batch normalisation cannot be folded.
    """
    model = whole_network(model)
    if stage.stride != 1:
        whole = build_stage(
            network, replace(stage, stride=1), model.output_shape[-1], model.input_shape[-1]
        )
        inherit_weights(model, whole)
        model = whole
    return replace(fold_batchnorm(network_of(model)), input_shape=(None, None, None))


def _weighted(model: Any) -> list[tuple[Any, list[np.ndarray]]]:
    """Return all layers that have weights, with these."""
    layers = [(layer, layer.get_weights()) for layer in model.layers]
    return [(layer, weights) for layer, weights in layers if weights]
