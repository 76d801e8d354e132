"""Precision, memory allocation, and data parallelism over several GPUs."""

from collections.abc import Sequence
from pathlib import Path

import keras

from ..system.errors import SettingsError
from ..system.resources import M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, set_malloc

# Backends with data parallelism. Keras 3.15 has none for PyTorch, and an unsupported prototype for
# TensorFlow (keras/src/backend/*/distribution_lib.py).
DISTRIBUTED = ('jax',)
# Flags in /proc/cpuinfo. Without one of them bfloat16 is a hundred times slower than float32
# (PyTorch 2.13, 0.9 instead of 118 GFLOP/s on an AMD EPYC that has AVX2 alone).
_BFLOAT16_FLAGS = ('avx512_bf16', 'amx_bf16')
# Freed memory stays with the process, in a single arena.
_KEEP_MEMORY = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}


def configure_keras(precision: str) -> str:
    """Set Keras' dtype policy, and let the process keep freed memory.

    Each step allocates and frees a few GB. Memory that is returned to the system must be zeroed
    again before the next step.

    Parameters
    ----------
    precision : str
        A dtype policy of Keras, or ``'auto'``: mixed bfloat16 with PyTorch on a CPU or GPU that
        has bfloat16 instructions, else float32.

    Returns
    -------
    str
        The dtype policy.
    """
    policy = _fastest_policy() if precision == 'auto' else precision
    keras.config.set_dtype_policy(policy)
    set_malloc(_KEEP_MEMORY)
    return policy


def _fastest_policy() -> str:
    if keras.backend.backend() != 'torch':
        return 'float32'
    import torch

    if torch.cuda.is_available():
        return 'mixed_bfloat16' if torch.cuda.is_bf16_supported() else 'float32'
    try:
        flags = Path('/proc/cpuinfo').read_text(encoding='utf-8').split()
    except OSError:
        return 'float32'
    return 'mixed_bfloat16' if set(_BFLOAT16_FLAGS) & set(flags) else 'float32'


def distribute(devices: int, batches: Sequence[int] = ()) -> None:
    """Train all models that are built afterwards on several devices by data parallelism.

    Every device has all weights and computes the gradients of its part of the batch; Keras
    averages these (`keras.distribution.DataParallel`), so that results are those of a single
    device up to rounding. Call this before building any Keras object.

    Parameters
    ----------
    devices : int
        Number of devices; 0 takes all GPUs, or all CPU devices of JAX if there are none. 1
        changes nothing.
    batches : sequence of int
        Batch size of each stage.

    Raises
    ------
    SettingsError
        If the backend does not support it, there are fewer devices, or a batch cannot be divided
        evenly.
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
    available = keras.distribution.list_devices()
    if devices > len(available):
        raise SettingsError(
            f'devices is {devices}, but {backend} finds {len(available)} only '
            f'({", ".join(available)})'
        )
    used = available[: devices or len(available)]
    for i, batch in enumerate(batches):
        if batch % len(used):
            raise SettingsError(
                f'stages[{i}].batch is {batch}; expected a multiple of {len(used)}, the number '
                'of devices that share it'
            )
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=used))
