"""Tiny models in the tfjs layers format, layer by layer."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Layer = dict[str, Any]


def layer(kind: str, name: str, **config: Any) -> Layer:
    return {'class_name': kind, 'name': name, 'config': {'name': name, **config}}


def conv(name: str, filters: int, size: int = 3, **config: Any) -> Layer:
    settings = {
        'filters': filters,
        'kernel_size': [size] * 3,
        'strides': [1, 1, 1],
        'padding': 'same',
        'dilation_rate': [1, 1, 1],
        'activation': 'linear',
        'use_bias': True,
    }
    return layer('Conv3D', name, **{**settings, **config})


def activation(name: str, kind: str) -> Layer:
    return layer('Activation', name, activation=kind)


def random_weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return arrays for names such as ``a__kernel``, which stands for ``a/kernel``."""
    rng = np.random.default_rng(seed)
    return {
        name.replace('__', '/'): rng.normal(0, 0.5, shape).astype('<f4')
        for name, shape in shapes.items()
    }


def write_tfjs(
    folder: Path,
    layers: Sequence[Layer],
    weights: dict[str, np.ndarray],
    *,
    shards: int = 1,
    sequential: bool = False,
    channels: int = 1,
    size: int = 256,
    quantization: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write a folder; each layer follows the one before it unless it has `inbound_nodes`."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = [None, size, size, size, channels]
    layers = [json.loads(json.dumps(entry)) for entry in layers]
    if sequential:
        layers[0]['config']['batch_input_shape'] = shape
        for entry in layers:
            del entry['name']
    else:
        layers.insert(0, layer('InputLayer', 'input', batch_input_shape=shape))
        for before, entry in pairwise(layers):
            entry.setdefault('inbound_nodes', [[[before['name'], 0, 0, {}]]])
    blob = b''.join(array.tobytes() for array in weights.values())
    size = -(-len(blob) // shards)
    paths = [f'group1-shard{i + 1}of{shards}.bin' for i in range(shards)]
    for i, path in enumerate(paths):
        (folder / path).write_bytes(blob[i * size : (i + 1) * size])
    entries = []
    for name, array in weights.items():
        entry: dict[str, Any] = {'name': name, 'shape': list(array.shape), 'dtype': 'float32'}
        if quantization and name in quantization:
            entry['quantization'] = quantization[name]
        entries.append(entry)
    kind = 'Sequential' if sequential else 'Functional'
    model = {
        'format': 'layers-model',
        'modelTopology': {
            'model_config': {'class_name': kind, 'config': {'name': 'm', 'layers': layers}}
        },
        'weightsManifest': [{'paths': paths, 'weights': entries}],
    }
    (folder / 'model.json').write_text(json.dumps(model))
    return folder


def two_layers(folder: Path, classes: int = 3, **options: Any) -> Path:
    """Write a conv of two channels, ReLU, and a 1x1x1 conv to classes; no labels."""
    weights = random_weights(
        a__kernel=(3, 3, 3, options.get('channels', 1), 2),
        a__bias=(2,),
        out__kernel=(1, 1, 1, 2, classes),
        out__bias=(classes,),
    )
    layers = [conv('a', 2), activation('relu', 'relu'), conv('out', classes, 1)]
    return write_tfjs(folder, layers, weights, **options)


def write_colormap(path: Path, names: Sequence[str]) -> None:
    parts = {key: [(17 * i + j) % 256 for i in range(len(names))] for j, key in enumerate('RGB')}
    path.write_text(json.dumps({**parts, 'labels': list(names)}))
