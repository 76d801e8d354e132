"""Layers for PyTorch give what Keras' own give: outputs, gradients and moving statistics."""

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: Keras' backend is that of the first import. Prints, for each case, the
# largest difference from Keras' own layer as a share of the largest value.
SCRIPT = """
import json
import keras
import numpy as np
import torch
from brainchop_bids.training import torch_layers

rng = np.random.default_rng(0)

def differences(kind, shape, training, **settings):
    image = rng.normal(1, 2, shape).astype(np.float32)
    found = []
    weights = None
    for module in (keras.layers, torch_layers):
        layer = getattr(module, kind)(**settings)
        layer.build(shape)
        weights = weights or [np.abs(rng.normal(1, 1, v.shape)) for v in layer.weights]
        layer.set_weights(weights)
        inputs = torch.tensor(image, requires_grad=True)
        output = layer(inputs, training=training) if kind != 'Conv3D' else layer(inputs)
        factors = torch.tensor(np.random.default_rng(1).normal(size=tuple(output.shape)))
        (output * factors).sum().backward()
        # Of batch normalisation, the gradient for the input is a small difference of large terms.
        values = [output, inputs.grad, *(v.value.grad for v in layer.trainable_variables)]
        values += list(layer.non_trainable_variables)
        found.append([keras.ops.convert_to_numpy(v) for v in values])
    return max(
        float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*found, strict=True)
    )

made = {}
for dilation in (1, 2, 3, 5):
    for shape in ((1, 6, 6, 6, 2), (2, 7, 10, 5, 3)):
        for size in (3, (3, 1, 5)):
            made[f'convolution {dilation} {shape} {size}'] = differences(
                'Conv3D', shape, True, filters=4, kernel_size=size, padding='same',
                dilation_rate=dilation,
            )
for shape in ((1, 8, 8, 8, 2), (2, 7, 6, 5, 2)):
    for size in (1, 2, 3, (2, 3, 5)):
        made[f'strides {shape} {size}'] = differences(
            'Conv3D', shape, True, filters=3, kernel_size=size, strides=2, padding='same'
        )
made['even kernel'] = differences(
    'Conv3D', (1, 8, 7, 8, 2), True, filters=3, kernel_size=2, dilation_rate=3, padding='same'
)
made['groups'] = differences(
    'Conv3D', (1, 8, 8, 8, 4), True, filters=6, kernel_size=3, groups=2, dilation_rate=2,
    padding='same',
)
made['unequal dilations'] = differences(
    'Conv3D', (1, 8, 8, 8, 2), True, filters=3, kernel_size=3, dilation_rate=(1, 2, 2),
    padding='same',
)
for training in (True, False):
    for settings in ({}, {'scale': False}, {'center': False}):
        made[f'normalisation {training} {settings}'] = differences(
            'BatchNormalization', (2, 5, 6, 7, 3), training, epsilon=1e-5, momentum=0.7, **settings
        )
made['frames'] = differences('BatchNormalization', (4, 8, 8, 3), True, epsilon=1e-5)
print(json.dumps(made))
"""


def test_they_give_what_keras_gives() -> None:
    pytest.importorskip('torch')
    environment = {**os.environ, 'KERAS_BACKEND': 'torch'}
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert len(made) == 34
    wrong = {case: difference for case, difference in made.items() if not difference < 1e-5}
    assert not wrong
