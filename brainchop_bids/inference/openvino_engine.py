"""Engine that runs a model with OpenVINO, which is faster than TensorFlow on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..image.normalise import Normalization
from ..models.formats.openvino_files import load_openvino
from ..models.spec import ModelSpec
from ..system.errors import BrainchopError
from ..system.processes import why_refused
from .engine import Engine
from .openvino_graph import GraphBuilder, compiled
from .openvino_layers import OpenvinoLayers
from .steps import identity_head


class OpenvinoEngine(Engine):
    """Engine that runs a model with OpenVINO on a CPU.

    Plain chains of convolutions (every MeshNet) are computed layer by layer and slab by slab, see
    `StreamedChain`, and so is the finest level of U-Nets with additive skip connections, see
    `brainchop_bids.models.levels`. Other networks, and the coarser levels, run as one graph that
    is compiled for the shape of the volume. The last layer and the choice of the class are
    computed slab by slab.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    threads : int, optional
        Number of threads; by default all.
    normalization : Normalization, optional
        Normalization that replaces the model's own.
    precision : {'f32', 'bf16'}
        Precision of features and products; bfloat16 is faster on processors that support it, and
        less exact.

    Raises
    ------
    ModelError
        If the network cannot be read or compiled.
    BrainchopError
        If OpenVINO is not installed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        threads: int | None = None,
        normalization: Normalization | None = None,
        precision: str = 'f32',
    ) -> None:
        super().__init__(spec, normalization)
        self._builder = GraphBuilder(load_openvino())
        self._threads = threads
        self._precision = precision
        source = str(spec.folder)
        self._layers = OpenvinoLayers(self._builder, source, threads, precision)
        self._graphs: dict[tuple[int, ...], Any] = {}
        if spec.graph is None:
            self._plan_streams()

    def _read(self) -> None:
        graph = self.spec.graph
        if graph is None:
            super()._read()
            return
        self._unit, self._factor = graph.unit, 1
        self._head = identity_head(graph.classes)

    @property
    def device(self) -> str:
        """``'cpu'``; only TensorFlow uses GPUs."""
        return 'cpu'

    @property
    def versions(self) -> str:
        """Library of the engine, e.g. ``openvino 2026.2.0``."""
        version = self._builder.openvino.__version__.partition('-')[0]
        return f'openvino {version}{" in bfloat16" * (self._precision == "bf16")}'

    def _whole(self, volume: np.ndarray) -> np.ndarray:
        request = self._graph(volume.shape).create_infer_request()
        request.infer({0: np.ascontiguousarray(volume)[None]}, share_inputs=True)
        features: np.ndarray = request.get_output_tensor(0).data[0]
        return features

    def _graph(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._graphs:
            # Only one graph is kept, since each has memory of its own.
            self._graphs.clear()
            if self.spec.graph is not None:
                body, given = self.spec.graph.prepared(self._builder, shape)
            else:
                given = self._builder.parameter((1, *shape))
                body = self._builder.body(self._network, self._builder.channels_first(given))
                body = self._builder.channels_last(body)
            self._graphs[shape] = compiled(
                self._builder,
                [body],
                [given],
                str(self.spec.folder),
                self._threads,
                self._precision,
            )
        return self._graphs[shape]

    @contextmanager
    def _memory_told(self, shape: tuple[int, ...]) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            size = ' x '.join(map(str, shape))
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            refused = why_refused(reason)
            other = '--subvolumes' if self.spec.graph is not None else '--engine tensorflow'
            raise BrainchopError(
                f'{self.spec.name}: {refused}'
                if refused
                else f'{self.spec.name}: OpenVINO failed on {size} voxels ({reason}); grant more '
                f'memory, or use {other}'
            ) from error
