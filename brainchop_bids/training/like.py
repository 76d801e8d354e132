"""Networks with the architecture of any model: its layers, freshly initialised."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..models.formats import read_network
from ..models.keras_model import build_model
from ..models.network import Network, Op, fold_batchnorm
from ..models.zoo import find_model
from ..system.errors import SettingsError


def build_like(
    model: str | Path,
    *,
    norm: str,
    classes: int,
    in_channels: int,
    shape: tuple[int | None, ...],
) -> Any:
    """Build a network with the layers of a model, of any file format.

    Parameters
    ----------
    model : str or Path
        Folder or name of the model. Its batch normalisation is folded, unless ``norm`` is
        ``'batch'``; normalisation of groups is kept.
    norm, classes, in_channels, shape
        See `brainchop_bids.training.architectures.Builder`. The first layers and the last one
        get these channels, and keep their other settings.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.

    Raises
    ------
    SettingsError
        If the network does not end with a convolution, takes the image elsewhere than in
        convolutions, has no normalisation as asked for, or does not fit the shape.
    ModelError
        If the model is not found or cannot be read.
    """
    prefix = f'model.architecture like:{model}'
    network = read_network(find_model(model))[0]
    kinds = {op.kind for op in network.ops}
    if norm in ('batch', 'group') and f'{norm}_norm' not in kinds:
        raise SettingsError(f"{prefix}: has no {norm} normalisation; set norm = 'none'")
    if norm != 'batch':
        network = fold_batchnorm(network)
    ops = list(network.ops)
    if ops[-1].is_activation('softmax', 'sigmoid', 'linear'):
        ops.pop()
    if ops[-1].kind not in ('conv', 'conv_transpose'):
        raise SettingsError(f'{prefix}: ends with {ops[-1].kind}; expected a convolution')
    image = ops[0].name
    others = in_channels != network.in_channels
    resized = [
        _resized(
            op,
            in_channels if others and image in op.inputs else None,
            classes if op is ops[-1] else None,
            prefix,
        )
        for op in ops
        if op.kind != 'input'
    ]
    first = replace(ops[0], channels=in_channels)
    try:
        built = build_model(Network(network.source, (first, *resized)), shape)
    except ValueError as error:
        reason = (str(error).strip().splitlines() or [''])[0]
        raise SettingsError(
            f'{prefix}: cannot be built for cubes of {shape} ({reason}); choose another '
            'stages.cube'
        ) from error
    if built.output_shape[1:4] != built.input_shape[1:4]:
        raise SettingsError(
            f'{prefix}: makes {built.output_shape[1:4]} of cubes of {shape}; choose another '
            'stages.cube, such as a multiple of 32'
        )
    return built


def _resized(op: Op, inputs: int | None, outputs: int | None, prefix: str) -> Op:
    """Return an operation with fresh weights, and with other channels where they are given."""
    if 'kernel' not in op.weights:
        if inputs is not None and op.kind in ('add', 'concatenate'):
            raise SettingsError(
                f'{prefix}: adds or appends the image at {op.name}, which other channels or '
                'labels cannot; choose an architecture of this package'
            )
        fresh = {'gamma': 1.0, 'moving_variance': 1.0}
        weights = {
            name: np.full_like(array, fresh.get(name, 0.0)) for name, array in op.weights.items()
        }
        channels = inputs if inputs is not None else op.channels
        return replace(op, weights=weights, channels=channels)
    channels = op.channels if outputs is None else outputs
    kernel = op.weights['kernel']
    # Transposed convolutions have their outputs before their inputs.
    axes = (3, 4) if op.kind == 'conv' else (4, 3)
    sizes = list(kernel.shape)
    if inputs is not None and op.settings['groups'] == 1:
        sizes[axes[0]] = inputs
    sizes[axes[1]] = channels
    initial = np.asarray(
        keras.ops.convert_to_numpy(keras.initializers.GlorotUniform()(sizes)), np.float32
    )
    weights = {'kernel': initial}
    if 'bias' in op.weights:
        weights['bias'] = np.zeros(channels, np.float32)
    return replace(op, channels=channels, weights=weights)
