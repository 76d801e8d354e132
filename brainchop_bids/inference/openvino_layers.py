"""Single layers computed by OpenVINO."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..system.errors import BrainchopError
from .layers import Layers, Moments, by_place
from .openvino_graph import GraphBuilder, compiled, step_weights
from .steps import Head, Step

# OpenVINO's names of array types; NumPy has no bfloat16, so an integer type stands for it.
_TYPES: dict[np.dtype[Any], str] = {
    np.dtype(np.float32): 'f32',
    np.dtype(np.uint16): 'bf16',
}
# Types of what a head computes, if it is not float32; these have no axis of classes.
_HEAD_TYPES = {'labels': np.int32, 'confidences': np.uint8}


class OpenvinoLayers(Layers):
    """Computes layers with OpenVINO's operations.

    Its convolutions read and write arrays with channels last, so that slabs are computed directly
    from one part of the memory into another.

    Parameters
    ----------
    builder : GraphBuilder
        Builder of the graphs.
    source : str
        Name of the model, for messages.
    threads : int, optional
        Number of threads; by default all.
    precision : {'f32', 'bf16'}
        Precision of features and products. Bfloat16 has eight bits of mantissa, and features take
        half the memory. Sums, normalisations and the last layer are computed in float32.
    """

    # Input and output of a slab fit into the cache of most processors.
    slab_bytes = 12 << 20

    def __init__(
        self, builder: GraphBuilder, source: str, threads: int | None, precision: str = 'f32'
    ) -> None:
        self._builder = builder
        self._source = source
        self._threads = threads
        self._precision = precision
        self.dtype = next(dtype for dtype, name in _TYPES.items() if name == precision)
        self._requests: dict[Any, Any] = {}

    def convolve(
        self,
        step: Step,
        blocks: Sequence[np.ndarray],
        dilation: int,
        padding: Sequence[tuple[int, int]],
        out: np.ndarray,
    ) -> Moments | None:
        """Compute a convolution; see `Layers`."""
        (planes,) = blocks
        builder, pads = self._builder, tuple(padding)
        if step.epsilon is None:
            self._into(out, (step, pads), [planes], lambda x: builder.step(step, x, pads))
            return None
        # Layers of one shape share a graph, with their weights as inputs.
        given, key = [planes, *step_weights(step)], ('convolve', step.dilation, pads)
        self._into(out, key, given, lambda x, *weights: builder.step(step, x, pads, *weights))
        shape = (1, *out.shape)
        moments = [np.dtype(np.float32)] * 2
        request = self._request(
            'moments', [out], moments, lambda values: builder.moments(values, shape)
        )
        self._infer(request)
        mean, variance = (request.get_output_tensor(i).data.ravel() for i in (0, 1))
        return mean.astype(np.float64), variance.astype(np.float64)

    def normalise(
        self, step: Step, block: np.ndarray, factor: np.ndarray, term: np.ndarray
    ) -> None:
        """Normalise and activate in place; see `Layers`."""
        ops = self._builder.ops

        def graph(values: Any, factor: Any, term: Any) -> Any:
            return self._builder.activated(step, ops.add(ops.multiply(values, factor), term))

        # Computed element by element, so the input may be overwritten.
        self._into(block, ('normalise', step.activations), [block, factor, term], graph)

    def forget(self) -> None:
        """Release compiled graphs."""
        self._requests.clear()

    def head(self, head: Head, block: np.ndarray, kinds: tuple[str, ...]) -> list[np.ndarray]:
        """Compute labels, confidences, probabilities or logits of features; see `Layers`."""
        rows = block.reshape(-1, block.shape[-1])

        def graph(values: Any) -> list[Any]:
            # Remove the first axis, which is the batch.
            flat = self._builder.ops.squeeze(values, self._builder.ops.constant(np.int64(0)))
            return self._builder.head(head, flat, kinds)

        types = [np.dtype(_HEAD_TYPES.get(kind, np.float32)) for kind in kinds]
        request = self._request((head, kinds), [rows], types, graph)
        self._infer(request)
        found = [request.get_output_tensor(i).data for i in range(len(kinds))]
        return [
            by_place(values, head.up, block.shape[:3], first=kind in _HEAD_TYPES)
            for kind, values in zip(kinds, found, strict=True)
        ]

    def _request(
        self,
        what: Any,
        given: Sequence[np.ndarray],
        types: Sequence[np.dtype],
        graph: Callable[..., list[Any]],
    ) -> Any:
        """Return the inference request of a graph, with its inputs set."""
        key = (what, *((array.shape, array.dtype) for array in given))
        if key not in self._requests:
            self._requests[key] = self._compile(given, types, graph).create_infer_request()
        request = self._requests[key]
        for place, array in enumerate(given):
            request.set_input_tensor(place, self._tensor(array))
        return request

    def _compile(
        self,
        given: Sequence[np.ndarray],
        types: Sequence[np.dtype],
        graph: Callable[..., list[Any]],
    ) -> Any:
        openvino, ops = self._builder.openvino, self._builder.ops
        inputs = [
            ops.parameter(
                openvino.PartialShape([1, *array.shape]),
                getattr(openvino.Type, _TYPES[array.dtype]),
            )
            for array in given
        ]
        nodes = [
            ops.convert(node, 'f32') if array.dtype == np.uint16 else node
            for node, array in zip(inputs, given, strict=True)
        ]
        made = graph(*nodes)
        for place, dtype in enumerate(types):
            if dtype == np.uint16:
                made[place] = ops.convert(made[place], 'bf16')
        return compiled(self._builder, made, inputs, self._source, self._threads, self._precision)

    def _tensor(self, array: np.ndarray) -> Any:
        """Return a tensor that shares the memory of an array, with one more axis."""
        openvino, whole = self._builder.openvino, array[None]
        if array.dtype == np.uint16:
            return openvino.Tensor(whole, list(whole.shape), openvino.Type.bf16)
        return openvino.Tensor(whole, shared_memory=True)

    def _into(
        self, out: np.ndarray, what: Any, given: Sequence[np.ndarray], graph: Callable[..., Any]
    ) -> None:
        """Compute a graph with one output directly into an array."""
        request = self._request(what, given, [out.dtype], lambda *nodes: [graph(*nodes)])
        request.set_output_tensor(0, self._tensor(out))
        self._infer(request)

    def _infer(self, request: Any) -> None:
        try:
            request.infer()
        except (RuntimeError, MemoryError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise BrainchopError(f'{self._source}: OpenVINO failed ({reason})') from error
