"""Run a model on a volume: Keras on TensorFlow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import BrainchopError
from ..image.normalise import Normalization
from ..models.spec import ModelSpec
from .base import Engine
from .memory import estimate_peak_gb
from .plan import streamable_steps
from .runtime import engine_versions, load_tensorflow
from .stream import StreamedChain, share, slabs


class KerasEngine(Engine):
    """A model, ready to label volumes.

    A plain chain of convolutions (every MeshNet) is computed layer by layer over slabs, which
    needs the memory of one layer and is faster than the whole graph at once, since the same
    memory stays in use. Networks of other forms, and any network on a GPU, run as one compiled
    graph at the volume's own static shape: with open shapes TensorFlow replaces dilated
    convolutions by a slower detour. Either way the last 1x1x1 convolution and the choice among
    classes follow slab by slab, so the volume of all classes never exists. Networks that were
    trained on cubes run on cubes.

    A chain runs on the transposed volume, with transposed kernels: NIfTI's arrays have x as the
    fastest axis in memory, so that nothing needs to be turned around on the way in or out, and
    a slab of probabilities is one piece of its file for each class.

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
        self._stream = None
        if steps is not None:
            self._stream = StreamedChain(self._tf, tuple(step.transposed() for step in steps))
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

    def _compute(self, channels: list[np.ndarray], outputs: dict[str, Any]) -> None:
        tf = self._tf
        kernel, bias = tf.constant(self._head.kernel), tf.constant(self._head.bias)
        if self.spec.block is not None:
            size = self.spec.block

            def cube(volume: np.ndarray) -> dict[str, np.ndarray]:
                features = self._graph(size)(tf.constant(volume[None]))[0]
                self._check_grid(features.shape[:3], size)
                last = {kind: self._last(kind, features.shape) for kind in outputs}
                return {kind: run(features, kernel, bias).numpy() for kind, run in last.items()}

            with self._memory_told(size):
                self._fill_blocks(self._normalised(channels), size, outputs, cube)
            return
        axes = (0, 1, 2, 3) if self._stream is None else (2, 1, 0, 3)
        with self._memory_told(channels[0].shape):
            features = self._features(channels)
            # A head holds its features, logits and softmax at once.
            width = features.shape[-1] + 2 * self._head.classes
            for rows in slabs(features.shape[:3], width):
                block = features[rows]
                block = share(tf, block) if isinstance(block, np.ndarray) else block
                for kind, out in outputs.items():
                    values = self._last(kind, block.shape)(block, kernel, bias).numpy()
                    out.transpose(axes[: out.ndim])[rows] = values

    def _features(self, channels: list[np.ndarray]) -> Any:
        """Return what the network's body gives, channels last; transposed for a stream."""
        if self._stream is not None:
            # Transposed as bytes, where the volume is not in Fortran order.
            turned = [np.ascontiguousarray(channel.T) for channel in channels]
            return self._stream.features(self._normalised(turned))
        volume = self._normalised(channels)
        features = self._graph(volume.shape[:3])(self._tf.constant(volume[None]))[0]
        self._check_grid(features.shape[:3], volume.shape[:3])
        return features

    def _graph(self, shape: tuple[int, ...]) -> Callable[..., Any]:
        if shape not in self._compiled:
            signature = self._tf.TensorSpec((1, *shape, self.spec.in_channels), self._tf.float32)
            function = self._tf.function(
                lambda volume: self._body(volume, training=False),
                input_signature=[signature],
                autograph=False,
            )
            self._compiled[shape] = function
        return self._compiled[shape]

    def _last(self, kind: str, shape: Any) -> Callable[..., Any]:
        """Return the compiled last layer: features to logits, labels or probabilities."""
        key = (kind, *shape)
        if key not in self._compiled:
            tf = self._tf

            def head(block: Any, kernel: Any, bias: Any) -> Any:
                rows = tf.reshape(block, (-1, block.shape[-1]))
                values = tf.nn.bias_add(tf.matmul(rows, kernel), bias)
                if kind == 'labels':
                    return tf.reshape(
                        tf.argmax(values, -1, output_type=tf.int32), block.shape[:-1]
                    )
                if kind == 'probabilities':
                    values = tf.nn.softmax(values)
                return tf.reshape(values, (*block.shape[:-1], -1))

            self._compiled[key] = tf.function(head, autograph=False)
        return self._compiled[key]

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
