"""Batch normalisation taken into the convolution before it: the same function, fewer steps.

At inference batch normalisation is one multiplication and one addition per channel,
``y = (x - mean) * gamma / sqrt(variance + epsilon) + beta``. After a convolution both go into its
kernel and bias (Jacob et al., https://arxiv.org/abs/1712.05877, section 3.2).
"""

from typing import Any

import keras
import numpy as np

from ..errors import ModelError

_CONVOLUTIONS = (keras.layers.Conv3D, keras.layers.Conv3DTranspose)


def fold_batchnorm(model: Any) -> Any:
    """Return a model without batch normalisation that computes the same at inference.

    Parameters
    ----------
    model : keras.Model
        Any functional or Sequential model of 3-D convolutions, MeshNets among them. Each
        `BatchNormalization` must be the only layer that takes the output of a `Conv3D` or
        `Conv3DTranspose` without activation of its own, or of another one that does.

    Returns
    -------
    keras.Model
        A functional model with its own copy of the weights; convolutions that took in a
        normalisation have a bias. The model itself where there is nothing to fold.

    Raises
    ------
    ModelError
        Naming the layer that cannot be folded.
    """
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        return model
    if not model.built:
        raise ModelError(f'model {model.name!r} has no weights yet; build it before folding')
    # A Sequential model's layers can only be skipped in its functional form.
    functional = keras.Model(_alone(model.inputs), _alone(model.outputs), name=model.name)
    targets = _targets(functional)
    folded_names = {norm.name for norm in targets}

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer in targets.values():
            config['use_bias'] = True
        return type(layer).from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        # By name: `layer` is the clone here, and clones keep their names.
        return args[0] if layer.name in folded_names else layer(*args, **kwargs)

    result = keras.models.clone_model(functional, clone_function=clone, call_function=call)
    _copy_weights(functional, result, targets)
    return result


def _alone(tensors: list[Any]) -> Any:
    # Keras complains of a tensor given where a list of one was said.
    return tensors[0] if len(tensors) == 1 else tensors


def _targets(model: Any) -> dict[Any, Any]:
    """Return, for each batch normalisation in order, the convolution that takes it in."""
    targets: dict[Any, Any] = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        source = _producer(model, layer)
        target = targets.get(source, source)
        reason = _obstacle(model, layer, source, target)
        if reason:
            raise ModelError(
                f'model {model.name!r}: batch normalisation {layer.name!r} cannot be folded: '
                f'{reason}; expected it alone behind a Conv3D without activation'
            )
        targets[layer] = target
    return targets


def _producer(model: Any, layer: Any) -> Any:
    try:
        return next((other for other in model.layers if other.output is layer.input), None)
    except (AttributeError, ValueError) as error:
        raise ModelError(f'model {model.name!r} uses a layer more than once: {error}') from error


def _obstacle(model: Any, norm: Any, source: Any, target: Any) -> str:
    if not isinstance(target, _CONVOLUTIONS):
        return f'it follows {getattr(target, "name", "nothing")!r}, no convolution'
    if target.activation is not keras.activations.linear:
        return f'{target.name!r} has an activation of its own'
    if norm.axis not in (-1, len(norm.input.shape) - 1):
        return f'it normalises axis {norm.axis}, not the channels'
    takers = [
        layer.name
        for layer in model.layers
        if any(tensor is source.output for tensor in keras.tree.flatten(layer.input))
        and layer is not source
    ]
    if len(takers) > 1 or any(tensor is source.output for tensor in model.outputs):
        return f'{source.name!r} feeds other layers too'
    return ''


def _copy_weights(model: Any, result: Any, targets: dict[Any, Any]) -> None:
    folded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for norm, target in targets.items():
        kernel, bias = folded.get(target.name) or _parameters(target)
        scale, shift = _scale_and_shift(norm)
        # The output channel is the last axis of a kernel, but the last but one when transposed.
        last = not isinstance(target, keras.layers.Conv3DTranspose)
        kernel = kernel * (scale if last else scale[:, None])
        folded[target.name] = kernel, bias * scale + shift
    for layer in model.layers:
        if layer in targets:
            continue
        weights = folded.get(layer.name) or layer.get_weights()
        if weights:
            result.get_layer(layer.name).set_weights(list(weights))


def _parameters(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    # In double precision: a tiny variance makes a huge factor.
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float64)
    if layer.use_bias:
        return kernel, np.asarray(keras.ops.convert_to_numpy(layer.bias), np.float64)
    return kernel, np.zeros(layer.filters)


def _scale_and_shift(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    def value(variable: Any) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)

    scale = 1 / np.sqrt(value(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * value(norm.gamma)
    shift = -value(norm.moving_mean) * scale
    return scale, shift + value(norm.beta) if norm.center else shift
