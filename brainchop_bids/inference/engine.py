"""Run a model on a volume: Keras on TensorFlow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import BrainchopError
from ..image.normalise import Normalization
from ..models.spec import ModelSpec
from .base import Engine, streamed
from .memory import estimate_peak_gb
from .plan import streamable_steps
from .runtime import engine_versions, load_tensorflow
from .stream import StreamedChain
from .tensorflow_layers import TensorflowLayers


class KerasEngine(Engine):
    """A model, ready to label volumes.

    A plain chain of convolutions (every MeshNet) is computed layer by layer over slabs, which
    needs the memory of one layer and is faster than the whole graph at once, since the same
    memory stays in use. Networks of other forms, and any network on a GPU, run as one compiled
    graph at the volume's own static shape: with open shapes TensorFlow replaces dilated
    convolutions by a slower detour. Either way the last 1x1x1 convolution and the choice among
    classes follow slab by slab, so the volume of all classes never exists. Networks that were
    trained on cubes run on cubes.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    threads : int, optional
        Threads of one operation; TensorFlow's choice by default.
    normalization : Normalization, optional
        Replaces the model's own.
    stream : bool, optional
        Whether to go by slabs; by default wherever it can be done, except on a GPU.

    Raises
    ------
    ModelError
        Where the model's files do not make a network that labels one volume.

    Examples
    --------
    >>> engine = KerasEngine(load_spec('model5_gw_ae'))  # doctest: +SKIP
    >>> labels = engine.segment(conformed.data)  # doctest: +SKIP
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        threads: int | None = None,
        normalization: Normalization | None = None,
        stream: bool | None = None,
    ) -> None:
        super().__init__(spec, normalization)
        self._tf = load_tensorflow(threads)
        # Cubes are small: one graph computes them at once.
        wanted = spec.block is None and self.device == 'cpu' if stream is None else stream
        steps = streamable_steps(self._network) if wanted else None
        self._body: Any = None
        self._layers = TensorflowLayers(self._tf)
        self._stream = None
        if steps is not None:
            self._stream = StreamedChain(self._layers, [step.transposed() for step in steps])
        else:
            # It imports Keras, which must find its backend chosen.
            from ..models.keras_model import build_model

            self._body = build_model(self._network)
        self._compiled: dict[Any, Callable[..., Any]] = {}

    @property
    def device(self) -> str:
        """``'gpu'`` where TensorFlow sees one, else ``'cpu'``."""
        return 'gpu' if self._tf.config.list_logical_devices('GPU') else 'cpu'

    @property
    def versions(self) -> str:
        """What computes, e.g. ``keras 3.15.1 on tensorflow 2.21.0``."""
        return engine_versions()

    def _features(self, volume: np.ndarray) -> tuple[Any, tuple[int, int, int]]:
        if self._stream is not None:
            return streamed(self._stream, volume)
        shape = volume.shape[:3]
        if shape not in self._compiled:
            signature = self._tf.TensorSpec((1, *volume.shape), self._tf.float32)
            self._compiled[shape] = self._tf.function(
                lambda given: self._body(given, training=False),
                input_signature=[signature],
                autograph=False,
            )
        return self._compiled[shape](self._tf.constant(volume[None]))[0], (0, 1, 2)

    @contextmanager
    def _memory_told(self, shape: tuple[int, ...]) -> Iterator[None]:
        errors = self._tf.errors
        try:
            yield
        except (MemoryError, errors.ResourceExhaustedError, errors.AbortedError) as error:
            raise BrainchopError(
                f'{self.spec.name}: memory ran out on a volume of '
                f'{" x ".join(map(str, shape))} voxels; it needs about '
                f'{estimate_peak_gb(self.spec, shape):.1f} GB on a CPU: grant more, '
                'run fewer scans at once, or use a smaller model'
            ) from error
        except errors.OpError as error:
            raise BrainchopError(f'{self.spec.name}: TensorFlow failed: {error}') from error
