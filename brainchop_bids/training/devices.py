"""What a run computes on: precision, memory, and several GPUs that share each batch."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import keras

from ..system.errors import SettingsError

# Keras 3.15 has no such thing for PyTorch, and a prototype marked as not to be used for
# TensorFlow (keras/src/backend/*/distribution_lib.py).
DISTRIBUTED = ('jax',)


# Flags of /proc/cpuinfo. Without one of them bfloat16 is computed a hundred times slower than
# float32 (PyTorch 2.13, 0.9 instead of 118 GFLOP/s on an AMD EPYC that has AVX2 alone).
_BFLOAT16_FLAGS = ('avx512_bf16', 'amx_bf16')
# Of glibc's malloc.h: memory that is freed stays with the process, in one arena for all threads.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def prepare(precision: str) -> str:
    """Set what Keras computes with, and keep memory that was used once.

    Each step allocates and frees a few GB. Given back to the system they would be filled with
    zeros again before the next step.

    Parameters
    ----------
    precision : str
        A dtype policy of Keras, or ``'auto'``: mixed bfloat16 where the processor or the GPU has
        it and Keras runs on PyTorch, else float32.

    Returns
    -------
    str
        The policy.
    """
    policy = _quickest() if precision == 'auto' else precision
    keras.config.set_dtype_policy(policy)
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1)):
            libc.mallopt(option, value)
    return policy


def _quickest() -> str:
    if keras.backend.backend() != 'torch':
        return 'float32'
    import torch

    if torch.cuda.is_available():
        return 'mixed_bfloat16' if torch.cuda.is_bf16_supported() else 'float32'
    try:
        known = Path('/proc/cpuinfo').read_text(encoding='utf-8').split()
    except OSError:
        return 'float32'
    return 'mixed_bfloat16' if set(_BFLOAT16_FLAGS) & set(known) else 'float32'


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
