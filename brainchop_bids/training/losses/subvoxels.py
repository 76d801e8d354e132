"""Loss on a random subset of the voxels that a network with ``space_to_depth`` labels.

The last layer of such a network (`brainchop_bids.models.space_to_depth`) gives logits for the
2x2x2 voxels of each block. Neighbouring voxels are nearly redundant for training, and their logits
and loss cost more memory and time than all layers before. Each step therefore computes a few of
the eight only, drawn anew.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from ...models.space_to_depth import OUTPUT_LAYER


@keras.saving.register_keras_serializable('brainchop')
class SubvoxelLogits(keras.layers.Layer):
    """Output of a transposed convolution for some of the voxels of each block.

    Parameters
    ----------
    head : keras.layers.Conv3DTranspose
        Built last layer of the network, with a kernel as wide as its stride.
    """

    def __init__(self, head: Any, **options: Any) -> None:
        super().__init__(**options)
        self.head = head

    def call(self, inputs: Any) -> Any:
        """Return ``(batch, X, Y, Z, voxels, classes)``.

        Parameters
        ----------
        inputs : tuple
            Features ``(batch, X, Y, Z, C)``, and indices of voxels in a block in C order,
            ``(batch, voxels)`` integers with equal rows.
        """
        features, indices = inputs
        # (voxels of a block, classes, C), in the precision of the features.
        kernel = ops.cast(self.head.kernel, features.dtype)
        classes, channels = kernel.shape[-2:]
        kernel = ops.take(ops.reshape(kernel, (-1, classes, channels)), indices[0], axis=0)
        count = indices.shape[-1]
        matrix = ops.transpose(ops.reshape(kernel, (count * classes, channels)))
        logits = ops.matmul(features, matrix)
        shape = (*ops.shape(features)[:-1], count, classes)
        return ops.reshape(logits, shape) + ops.cast(self.head.bias, features.dtype)

    def compute_output_shape(self, shapes: Any) -> tuple[int | None, ...]:
        """Return the shape of the output of `call`."""
        features, indices = shapes
        return (*features[:-1], indices[-1], self.head.filters)


def with_subvoxels(model: Any, count: int) -> Any:
    """Return a network that computes only some of the voxels of each block.

    Parameters
    ----------
    model : keras.Model
        Network that ends with `brainchop_bids.models.space_to_depth.class_logits`.
    count : int
        Number of voxels of each block.

    Returns
    -------
    keras.Model
        Takes ``[images, indices]`` and shares all weights; its logits have the shape ``(batch,
        X / 2, Y / 2, Z / 2, count, classes)``.
    """
    head = model.get_layer(OUTPUT_LAYER)
    indices = keras.Input((count,), dtype='int32', name='subvoxel_indices')
    logits = SubvoxelLogits(head, name='subvoxels')([head.input, indices])
    return keras.Model([model.input, indices], logits, name=model.name)


def whole_network(model: Any) -> Any:
    """Return the network for all voxels that shares the weights of a stage's model.

    Parameters
    ----------
    model : keras.Model
        Result of `with_subvoxels`, or any other model.

    Returns
    -------
    keras.Model
        The given model if it computes all voxels already.
    """
    for layer in model.layers:
        if isinstance(layer, SubvoxelLogits):
            return keras.Model(model.inputs[0], layer.head(layer.input[0]), name=model.name)
    return model


def logits_of(model: Any, image: np.ndarray) -> np.ndarray:
    """Return the logits of a network that shares its variables with a model in training.

    Keras' ``predict`` cannot be used with JAX: it donates the memory of variables that the model
    in training still holds.

    Parameters
    ----------
    model : keras.Model
        Result of `whole_network`.
    image : (batch, X, Y, Z, C) float32
        Input.

    Returns
    -------
    (batch, X, Y, Z, classes) array
    """
    no_gradients: AbstractContextManager[Any] = nullcontext()
    if keras.backend.backend() == 'torch':
        import torch

        no_gradients = torch.no_grad()
    with no_gradients:
        return np.asarray(ops.convert_to_numpy(ops.cast(model(image, training=False), 'float32')))
