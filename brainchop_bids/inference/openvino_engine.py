"""Networks run by OpenVINO: quicker than TensorFlow on a CPU, and loaded at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..image.normalise import Normalization
from ..models.formats.openvino_files import load_openvino
from ..models.spec import ModelSpec
from ..system.errors import BrainchopError
from .engine import Engine
from .openvino_graph import GraphBuilder, compiled
from .openvino_layers import OpenvinoLayers


class OpenvinoEngine(Engine):
    """Labels volumes with a network, by OpenVINO on a CPU.

    A plain chain of convolutions (every MeshNet) goes layer by layer over slabs, see
    `StreamedChain`, and so does the finest level of a U-Net that adds, see
    `brainchop_bids.models.levels`; other networks, and its coarser levels, run as one graph,
    compiled for the volume's shape. The last layer and the choice among classes follow slab by
    slab.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    threads : int, optional
        Threads; all by default.
    normalization : Normalization, optional
        Replaces the model's own.
    precision : {'f32', 'bf16'}
        Of features and products; bfloat16 is quicker on processors that have it, and less exact.

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
        precision: str = 'f32',
    ) -> None:
        super().__init__(spec, normalization)
        self._builder = GraphBuilder(load_openvino())
        self._threads = threads
        self._precision = precision
        source = str(spec.folder)
        self._layers = OpenvinoLayers(self._builder, source, threads, precision)
        self._graphs: dict[tuple[int, ...], Any] = {}
        self._plan_streams()

    @property
    def device(self) -> str:
        """``'cpu'``: GPUs are TensorFlow's."""
        return 'cpu'

    @property
    def versions(self) -> str:
        """What computes, e.g. ``openvino 2026.2.0``."""
        version = self._builder.openvino.__version__.partition('-')[0]
        return f'openvino {version}{" in bfloat16" * (self._precision == "bf16")}'

    def _whole(self, volume: np.ndarray) -> np.ndarray:
        request = self._graph(volume.shape).create_infer_request()
        request.infer({0: np.ascontiguousarray(volume)[None]}, share_inputs=True)
        features: np.ndarray = request.get_output_tensor(0).data[0]
        return features

    def _graph(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._graphs:
            # One at a time: each holds memory of its own.
            self._graphs.clear()
            given = self._builder.parameter((1, *shape))
            body = self._builder.body(self._network, self._builder.channels_first(given))
            self._graphs[shape] = compiled(
                self._builder,
                [self._builder.channels_last(body)],
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
            reason = (str(error).strip().splitlines() or ['memory ran out'])[-1]
            raise BrainchopError(
                f'{self.spec.name}: OpenVINO failed on {" x ".join(map(str, shape))} '
                f'voxels ({reason}); grant more memory, or use --engine tensorflow'
            ) from error
