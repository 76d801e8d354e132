"""Networks run by OpenVINO: quicker than TensorFlow on a CPU, and loaded at once."""

from typing import Any

import numpy as np

from ..errors import BrainchopError
from ..image.normalise import Normalization
from ..models.formats.openvino_files import load_openvino
from ..models.spec import ModelSpec
from .base import Engine
from .memory import FEW_CLASSES
from .openvino_graph import GraphBuilder, compiled
from .stream import slabs


class OpenvinoEngine(Engine):
    """Labels volumes with a network, by OpenVINO on a CPU, in float32.

    The whole volume goes through one graph, compiled for its shape, that ends with the choice
    among classes where these are few. Of many, the last layer runs slab by slab: all logits at
    once would be too large.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    threads : int, optional
        Threads; all by default.
    normalization : Normalization, optional
        Replaces the model's own.

    Raises
    ------
    ModelError
        Where the network cannot be read or compiled.
    BrainchopError
        Where OpenVINO is not installed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        threads: int | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(spec, normalization)
        self._builder = GraphBuilder(load_openvino())
        self._threads = threads
        self._compiled: dict[Any, Any] = {}
        self._request: Any = None

    @property
    def device(self) -> str:
        """``'cpu'``: GPUs are TensorFlow's."""
        return 'cpu'

    @property
    def versions(self) -> str:
        """What computes, e.g. ``openvino 2026.2.0``."""
        return f'openvino {self._builder.openvino.__version__.partition("-")[0]}'

    def _compute(self, channels: list[np.ndarray], outputs: dict[str, Any]) -> None:
        volume = self._normalised([np.ascontiguousarray(channel) for channel in channels])
        if self.spec.block is not None:
            kinds, size = tuple(outputs), self.spec.block
            self._fill_blocks(volume, size, outputs, lambda cube: self._whole(cube, kinds))
        elif self._head.classes <= FEW_CLASSES:
            for kind, values in self._whole(volume, tuple(outputs)).items():
                outputs[kind][...] = values
        else:
            self._by_slabs(volume, outputs)

    def _whole(self, volume: np.ndarray, kinds: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Return all outputs of a volume, channels last."""
        shape = volume.shape[:3]
        key = (shape, kinds)
        if key not in self._compiled:
            given = self._builder.parameter((1, self.spec.in_channels, *shape))
            features = self._builder.body(self._network, given)
            self._compiled[key] = self._compile([self._last(features, k) for k in kinds], given)
        # Outputs lie in the request's memory until the next call.
        self._request, found = self._run(self._compiled[key], volume)
        for values in found:
            self._check_grid(values.shape[-3:], shape)
        return {
            kind: values if kind == 'labels' else np.moveaxis(values, 0, -1)
            for kind, values in zip(kinds, found, strict=True)
        }

    def _by_slabs(self, volume: np.ndarray, outputs: dict[str, Any]) -> None:
        """Compute features at once, and the last layer slab by slab."""
        shape, kinds = volume.shape[:3], tuple(outputs)
        if (shape, 'features') not in self._compiled:
            given = self._builder.parameter((1, self.spec.in_channels, *shape))
            features = self._builder.body(self._network, given)
            self._compiled[shape, 'features'] = self._compile([features], given)
        kept, (features,) = self._run(self._compiled[shape, 'features'], volume)
        self._check_grid(features.shape[-3:], shape)
        width = features.shape[1] + 2 * self._head.classes
        for rows in slabs(shape, width):
            slab = np.ascontiguousarray(features[:, :, rows])
            key = (slab.shape, kinds)
            if key not in self._compiled:
                given = self._builder.parameter(slab.shape)
                self._compiled[key] = self._compile([self._last(given, k) for k in kinds], given)
            _, found = self._infer(self._compiled[key], slab)
            for kind, values in zip(kinds, found, strict=True):
                outputs[kind][rows] = values if kind == 'labels' else np.moveaxis(values, 0, -1)
        del kept

    def _last(self, features: Any, kind: str) -> Any:
        return self._builder.head(features, self._head.kernel, self._head.bias, kind)

    def _compile(self, outputs: list[Any], given: Any) -> Any:
        return compiled(self._builder, outputs, given, str(self.spec.folder), self._threads)

    def _run(self, model: Any, volume: np.ndarray) -> tuple[Any, list[np.ndarray]]:
        # Of one channel this is no copy.
        return self._infer(model, np.ascontiguousarray(np.moveaxis(volume, -1, 0))[None])

    def _infer(self, model: Any, given: np.ndarray) -> tuple[Any, list[np.ndarray]]:
        """Return what holds the outputs' memory, and the outputs."""
        request = model.create_infer_request()
        try:
            request.infer({0: given}, share_inputs=True)
        except (RuntimeError, MemoryError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise BrainchopError(
                f'{self.spec.name}: OpenVINO failed on {" x ".join(map(str, given.shape[2:]))} '
                f'voxels ({reason}); grant more memory, or use --engine tensorflow'
            ) from error
        found = [request.get_output_tensor(i).data for i in range(len(model.outputs))]
        return request, found
