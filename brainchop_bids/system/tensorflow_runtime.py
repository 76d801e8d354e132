"""Import and configuration of TensorFlow."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import BrainchopError


def load_tensorflow(threads: int | None = None) -> Any:
    """Import TensorFlow as the backend of Keras, and configure it.

    Parameters
    ----------
    threads : int, optional
        Number of threads of one operation; by default TensorFlow's choice. It cannot be changed
        after the first operation of a process.

    Returns
    -------
    module
        ``tensorflow``.

    Raises
    ------
    BrainchopError
        If Keras already uses another backend in this process, or TensorFlow cannot be imported.
    """
    if 'keras' not in sys.modules:
        os.environ['KERAS_BACKEND'] = 'tensorflow'
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # On a CPU only oneDNN has dilated convolutions, and TensorFlow 2.21 does not enable it on
    # processors that have AVX2 but not AVX-512.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
    try:
        with quiet():
            import keras
            import tensorflow as tf
    except ImportError as error:
        raise BrainchopError(
            f'TensorFlow cannot be imported ({error}); pip install tensorflow'
        ) from error
    if keras.backend.backend() != 'tensorflow':
        raise BrainchopError(
            f'Keras runs on {keras.backend.backend()} in this process; inference needs '
            'KERAS_BACKEND=tensorflow, set before Keras is imported'
        )
    # Hide messages that are meant for programmers.
    tf.get_logger().setLevel('ERROR')
    try:
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            # Operations follow each other; running two in parallel would only take memory.
            tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices('GPU'):
            # Otherwise it allocates all memory of the GPU, even if other processes use it.
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # TensorFlow has been used in this process before: its configuration is fixed.
        pass
    # Otherwise recent GPUs round factors to 10 bits, and labels differ from those of a CPU.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return tf


def engine_versions() -> str:
    """Return the library and its version, e.g. ``keras 3.15.1 on tensorflow 2.21.0``."""
    import keras
    import tensorflow as tf

    return f'keras {keras.version()} on tensorflow {tf.__version__}'


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what C++ code writes to standard error; exceptions are not affected.

    TensorFlow reports its build options and a missing GPU before it reads its own log level.
    """
    try:
        sys.stderr.flush()
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (OSError, AttributeError):
        # There is no standard error, as in a daemon.
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
