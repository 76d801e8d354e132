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
    """A model, ready to label volumes.

    A plain chain of convolutions (every MeshNet) is computed layer by layer over slabs, which
    needs the memory of one layer and is faster than the whole graph at once, since the same
    memory stays in use; so is the finest level of a U-Net that adds, see
    `brainchop_bids.models.levels`. Networks of other forms, and any network on a GPU, run as one
    compiled graph at the volume's own static shape: with open shapes TensorFlow replaces dilated
    convolutions by a slower detour. Either way the last layer and the choice among classes follow
    slab by slab, so the volume of all classes never exists. Networks that were trained on cubes
    run on cubes.

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
    device : {'auto', 'cpu', 'gpu'}
        Where; by default on the GPU where TensorFlow sees one.

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
        device: str = 'auto',
    ) -> None:
        super().__init__(spec, normalization)
        self._tf = load_tensorflow(threads)
        seen = bool(self._tf.config.list_logical_devices('GPU'))
        if device == 'gpu' and not seen:
            raise SettingsError('--device gpu: TensorFlow finds no GPU that it can use')
        self._device = 'gpu' if seen and device != 'cpu' else 'cpu'
        # Cubes are small: one graph computes them at once.
        wanted = spec.block is None and self.device == 'cpu' if stream is None else stream
        self._body: Any = None
        self._layers = TensorflowLayers(self._tf)
        if wanted:
            self._plan_streams()
        if self._stream is None:
            # It imports Keras, which must find its backend chosen.
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
        """What computes, e.g. ``keras 3.15.1 on tensorflow 2.21.0``."""
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
