"""Engine that runs a model with Keras on TensorFlow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..image.normalise import Normalization
from ..models.spec import ModelSpec
from ..system.errors import BrainchopError, DeviceMemoryError, MemoryLimitError, SettingsError
from ..system.tensorflow_runtime import engine_versions, load_tensorflow
from .engine import Engine
from .memory import estimate_peak_gb
from .tensorflow_layers import TensorflowLayers


class KerasEngine(Engine):
    """Engine that runs a model with Keras on TensorFlow.

    Plain chains of convolutions (every MeshNet) are computed layer by layer and slab by slab,
    which takes the memory of one layer and is faster than the whole graph, because the same
    memory is used throughout. The same holds for the finest level of U-Nets with additive skip
    connections, see `brainchop_bids.models.levels`. Other networks, and all networks on a GPU,
    run as one graph that is compiled for the shape of the volume: with unknown shapes TensorFlow
    computes dilated convolutions more slowly. The last layer and the choice of the class are
    always computed slab by slab, so that the logits of a whole volume are never in memory.
    Networks that were trained on cubes run on cubes.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    threads : int, optional
        Number of threads of one operation; by default TensorFlow's choice.
    normalization : Normalization, optional
        Normalization that replaces the model's own.
    stream : bool, optional
        Compute slab by slab; by default if the network allows it, except on a GPU.
    device : {'auto', 'cpu', 'gpu'}
        Processor; by default the GPU if TensorFlow finds one.

    Raises
    ------
    ModelError
        If the model's files do not contain a network that labels a volume.

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
        device: str = 'auto',
    ) -> None:
        super().__init__(spec, normalization)
        self._tf = load_tensorflow(threads)
        seen = bool(self._tf.config.list_logical_devices('GPU'))
        if device == 'gpu' and not seen:
            raise SettingsError('--device gpu: TensorFlow finds no GPU that it can use')
        self._device = 'gpu' if seen and device != 'cpu' else 'cpu'
        # Cubes are small enough for one graph.
        wanted = spec.block is None and self.device == 'cpu' if stream is None else stream
        self._body: Any = None
        self._layers = TensorflowLayers(self._tf)
        if wanted:
            self._plan_streams()
        if self._stream is None:
            # This imports Keras, whose backend must be set before.
            from ..models.keras_model import avoid_false_fusion, build_model

            avoid_false_fusion(self._network)
            self._body = build_model(self._network)
        self._compiled: dict[Any, Callable[..., Any]] = {}

    @property
    def device(self) -> str:
        """``'gpu'`` or ``'cpu'``."""
        return self._device

    @property
    def versions(self) -> str:
        """Libraries of the engine, e.g. ``keras 3.15.1 on tensorflow 2.21.0``."""
        return engine_versions()

    def _whole(self, volume: np.ndarray) -> Any:
        shape = volume.shape
        if shape not in self._compiled:
            signature = self._tf.TensorSpec((1, *shape), self._tf.float32)
            self._compiled[shape] = self._tf.function(
                lambda given: self._body(given, training=False),
                input_signature=[signature],
                autograph=False,
            )
        return self._compiled[shape](self._tf.constant(volume[None]))[0]

    @contextmanager
    def _memory_told(self, shape: tuple[int, ...]) -> Iterator[None]:
        errors = self._tf.errors
        try:
            with self._tf.device(f'/{self._device.upper()}:0'):
                yield
        except (MemoryError, errors.ResourceExhaustedError, errors.AbortedError) as error:
            size = ' x '.join(map(str, shape))
            if self._device == 'gpu':
                raise DeviceMemoryError(
                    f'{self.spec.name}: the memory of the GPU ran out on {size} voxels; use '
                    '--device cpu, or a smaller model'
                ) from error
            need = estimate_peak_gb(self.spec, shape, 'tensorflow')
            raise MemoryLimitError(
                f'{self.spec.name}: memory ran out on a volume of {size} voxels; it needs about '
                f'{need:.1f} GB: grant more, run fewer scans at once, or use a smaller model'
            ) from error
        except errors.OpError as error:
            raise BrainchopError(f'{self.spec.name}: TensorFlow failed: {error}') from error
