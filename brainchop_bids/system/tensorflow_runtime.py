"""TensorFlow, loaded quietly and set up once."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import BrainchopError


def load_tensorflow(threads: int | None = None) -> Any:
    """Import TensorFlow, as Keras' backend, with so many threads.

    Parameters
    ----------
    threads : int, optional
        Threads of one operation; TensorFlow's choice by default. It counts from the first use
        in a process on; TensorFlow cannot change it later.

    Returns
    -------
    module
        ``tensorflow``.

    Raises
    ------
    BrainchopError
        Where Keras already runs on another backend in this process, or TensorFlow cannot be
        imported.
    """
    if 'keras' not in sys.modules:
        os.environ['KERAS_BACKEND'] = 'tensorflow'
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # Only oneDNN has dilated convolutions on a CPU, and on processors with AVX2 alone TensorFlow
    # 2.21 does not use it unasked.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
    try:
        with quiet():
            import keras
            import tensorflow as tf
    except ImportError as error:
        raise BrainchopError(
            f'TensorFlow cannot be imported ({error}); install brainchop-bids again'
        ) from error
    if keras.backend.backend() != 'tensorflow':
        raise BrainchopError(
            f'Keras runs on {keras.backend.backend()} in this process; inference needs '
            'KERAS_BACKEND=tensorflow, set before Keras is imported'
        )
    # Advice to programmers is of no use to those who run a model.
    tf.get_logger().setLevel('ERROR')
    try:
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            # One operation follows another here: a second one in parallel only costs memory.
            tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices('GPU'):
            # Otherwise it takes all of the card's memory, whatever the others do there.
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        # The process has computed before: threads and memory stay as they are.
        pass
    # Otherwise recent cards round every factor to 10 bits, and labels differ from a CPU's.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return tf


def engine_versions() -> str:
    """Return what computes, e.g. ``keras 3.15.1 on tensorflow 2.21.0``."""
    import keras
    import tensorflow as tf

    return f'keras {keras.version()} on tensorflow {tf.__version__}'


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what C++ code writes to standard error while it loads; exceptions still tell.

    TensorFlow reports its build options and a missing GPU before it reads its own log level.
    """
    try:
        sys.stderr.flush()
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (OSError, AttributeError):
        # No standard error at all (a daemon): nothing to hold back.
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
