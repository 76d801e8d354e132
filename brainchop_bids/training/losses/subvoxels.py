"""Loss on some of the voxels of each place: networks on 2 mm places, trained for less.

The last layer of such a network, see `brainchop_bids.models.regroup`, gives logits for each of the
eight voxels of a place. Neighbouring voxels teach much the same, and their logits and the loss
cost more memory and time than the layers before. A step therefore computes a few of the eight,
others each time.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from ...models.regroup import HEAD


@keras.saving.register_keras_serializable('brainchop')
class SubvoxelLogits(keras.layers.Layer):
    """What a transposed convolution gives for some of the voxels of each place.

    Parameters
    ----------
    head : keras.layers.Conv3DTranspose
        The network's last layer, built; its kernel is as wide as its stride.
    """

    def __init__(self, head: Any, **options: Any) -> None:
        super().__init__(**options)
        self.head = head

    def call(self, inputs: Any) -> Any:
        """Return ``(batch, X, Y, Z, voxels, classes)``.

        Parameters
        ----------
        inputs : tuple
            Features ``(batch, X, Y, Z, C)``, and ``(batch, voxels)`` integers: which voxels of a
            place in C order, the same in each row.
        """
        features, places = inputs
        # (voxels of a place, classes, C), whatever the precision is that weights are kept in.
        kernel = ops.cast(self.head.kernel, features.dtype)
        classes, channels = kernel.shape[-2:]
        kernel = ops.take(ops.reshape(kernel, (-1, classes, channels)), places[0], axis=0)
        count = places.shape[-1]
        matrix = ops.transpose(ops.reshape(kernel, (count * classes, channels)))
        logits = ops.matmul(features, matrix)
        shape = (*ops.shape(features)[:-1], count, classes)
        return ops.reshape(logits, shape) + ops.cast(self.head.bias, features.dtype)

    def compute_output_shape(self, shapes: Any) -> tuple[int | None, ...]:
        """Return the shape of what `call` returns."""
        features, places = shapes
        return (*features[:-1], places[-1], self.head.filters)


def with_subvoxels(model: Any, count: int) -> Any:
    """Return a network that computes some of the voxels of each place.

    Parameters
    ----------
    model : keras.Model
        A network whose last layer is that of `brainchop_bids.models.regroup.class_logits`.
    count : int
        How many voxels of each place.

    Returns
    -------
    keras.Model
        Of ``[images, places]``, with the same weights; its logits are ``(batch, X / 2, Y / 2,
        Z / 2, count, classes)``.
    """
    head = model.get_layer(HEAD)
    places = keras.Input((count,), dtype='int32', name='places')
    logits = SubvoxelLogits(head, name='subvoxels')([head.input, places])
    return keras.Model([model.input, places], logits, name=model.name)


def whole_network(model: Any) -> Any:
    """Return the network of images to logits of all voxels that a stage's model trains.

    Parameters
    ----------
    model : keras.Model
        What `with_subvoxels` returned, or any other.

    Returns
    -------
    keras.Model
        With the same variables; the same model where it computes all voxels already.
    """
    for layer in model.layers:
        if isinstance(layer, SubvoxelLogits):
            return keras.Model(model.inputs[0], layer.head(layer.input[0]), name=model.name)
    return model


def logits_of(model: Any, image: np.ndarray) -> np.ndarray:
    """Return the logits of a network that shares its variables with one that is being fitted.

    Keras' own ``predict`` would do but on JAX, where it hands the variables' memory on, which the
    fitted model still holds.

    Parameters
    ----------
    model : keras.Model
        What `whole_network` returned.
    image : (batch, X, Y, Z, C) float32
        Its input.

    Returns
    -------
    (batch, X, Y, Z, classes) array
    """
    quietly: AbstractContextManager[Any] = nullcontext()
    if keras.backend.backend() == 'torch':
        import torch

        quietly = torch.no_grad()
    with quietly:
        return np.asarray(ops.convert_to_numpy(ops.cast(model(image, training=False), 'float32')))


def draw_places(seed: tuple[int, ...], count: int, factor: int) -> np.ndarray:
    """Choose voxels of a place.

    Parameters
    ----------
    seed : tuple of int
        Decides: a step has the same ones whenever it is done.
    count : int
        How many.
    factor : int
        Voxels of a place along each axis.

    Returns
    -------
    (count,) int32
        Their numbers in C order, no two the same.
    """
    return np.random.default_rng(seed).permutation(factor**3)[:count].astype(np.int32)


def labels_at(labels: np.ndarray, places: np.ndarray, factor: int) -> np.ndarray:
    """Return the labels of some of the voxels of each place.

    Parameters
    ----------
    labels : (batch, X, Y, Z) array
        Of all voxels.
    places : (voxels,) array
        Which ones, as `draw_places` gives them.
    factor : int
        Voxels of a place along each axis.

    Returns
    -------
    (batch, X / factor, Y / factor, Z / factor, voxels) array
    """
    offsets = np.stack(np.unravel_index(places, (factor,) * 3), -1)
    parts = [labels[:, x::factor, y::factor, z::factor] for x, y, z in offsets]
    return np.stack(parts, -1)
