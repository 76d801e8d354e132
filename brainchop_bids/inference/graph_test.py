"""Self-test of an ONNX graph: OpenVINO's result compared with that of ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from ..image.normalise import normalise
from ..models.formats.onnx_graph import OnnxGraph
from ..models.spec import ModelSpec
from ..system.errors import ModelError
from .openvino_engine import OpenvinoEngine

# Side of the test volume in voxels, if the network takes any.
_SIZE = 32
_TOLERANCE = 1e-3
_LAST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    '': lambda x: x,
    'sigmoid': expit,
    'softmax': lambda x: softmax(x, -1),
}


def graph_test(spec: ModelSpec, graph: OnnxGraph) -> str:
    """Compute a small random volume with OpenVINO and, if it is installed, ONNX Runtime.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    graph : OnnxGraph
        Its graph.

    Returns
    -------
    str
        What was checked.

    Raises
    ------
    ModelError
        If the results differ by more than rounding errors, or are not finite.
    """
    side = -(-_SIZE // graph.unit) * graph.unit
    shape = [n or side for n in graph.input_shape]
    data = np.random.default_rng(0).integers(0, 256, (*shape, graph.in_channels)).astype(np.uint8)
    found = OpenvinoEngine(spec).logits(data[..., 0] if graph.in_channels == 1 else data)
    if not np.isfinite(found).all():
        raise ModelError(f'{graph.source}: computes no finite numbers out of a test volume')
    try:
        import onnxruntime
    except ImportError:
        return 'OpenVINO computes a test volume (install onnxruntime to compare with it)'
    channels = [normalise(channel, spec.normalization) for channel in np.moveaxis(data, -1, 0)]
    expected = _computed(onnxruntime, graph, np.stack(channels, -1))
    # A single logit has become that of the second class.
    found = _LAST[graph.last](found[..., -graph.classes :])
    off = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not off < _TOLERANCE:
        raise ModelError(
            f'{graph.source}: OpenVINO computes a test volume {off:.2g} off what ONNX Runtime '
            'computes; export it again with another opset_version'
        )
    return f'OpenVINO and ONNX Runtime compute a test volume to {off:.1g}'


def _computed(onnxruntime: Any, graph: OnnxGraph, given: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime computes of a volume; both are (X, Y, Z, channels)."""
    session = onnxruntime.InferenceSession(graph.source, providers=['CPUExecutionProvider'])
    entry = session.get_inputs()[0]
    kind = {'tensor(float16)': np.float16, 'tensor(double)': np.float64}.get(
        entry.type, np.float32
    )
    volume = given[None].astype(kind)
    volume = np.moveaxis(volume, -1, 1) if graph.channels_first else volume
    (made,) = session.run(None, {entry.name: np.ascontiguousarray(volume)})
    return np.moveaxis(made, 1, -1)[0] if graph.channels_first else made[0]
