"""Several GPUs: each takes its part of every batch."""

from collections.abc import Sequence

import keras

from ..errors import SettingsError

# Keras 3.15 has no such thing for PyTorch, and a prototype marked as not to be used for
# TensorFlow (keras/src/backend/*/distribution_lib.py).
DISTRIBUTED = ('jax',)


def distribute(devices: int, batches: Sequence[int] = ()) -> None:
    """Let several devices share the batches of all models that are built from now on.

    Every device holds all weights and computes the gradients of its part of the batch; Keras
    averages these (`keras.distribution.DataParallel`), so that the weights come out as with one
    device, but for rounding. Call it before anything of Keras is built.

    Parameters
    ----------
    devices : int
        How many; 0 takes all GPUs (of a machine without any, what JAX sees as its processors).
        1 changes nothing.
    batches : sequence of int
        Cubes in a batch, for each stage.

    Raises
    ------
    SettingsError
        Where Keras cannot do so with its backend, there are fewer devices, or a batch cannot be
        parted evenly.
    """
    if devices == 1:
        return
    if devices < 0:
        raise SettingsError(f'devices is {devices}; expected 1, more, or 0 for all')
    backend = keras.backend.backend()
    if backend not in DISTRIBUTED:
        raise SettingsError(
            f'devices is {devices}: with {backend}, Keras trains on one device only; choose '
            f'--backend {" or ".join(DISTRIBUTED)}, or set devices = 1'
        )
    found = keras.distribution.list_devices()
    if devices > len(found):
        raise SettingsError(
            f'devices is {devices}, but {backend} finds {len(found)} only ({", ".join(found)})'
        )
    used = found[: devices or len(found)]
    for i, batch in enumerate(batches):
        if batch % len(used):
            raise SettingsError(
                f'stages[{i}].batch is {batch}; expected a multiple of {len(used)}, the number '
                'of devices that share it'
            )
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=used))
