"""How much memory a run will take, from the model's facts alone: no Keras here."""

import math
from collections.abc import Sequence

from ..models.spec import ModelSpec

# Python, NumPy, TensorFlow and Keras once loaded (0.71 measured, TensorFlow 2.21), and what the
# convolution of one slab takes.
_LOADED_GB = 0.9
# A volume moves by so many planes while it is computed: twice the widest dilation in use.
_PLANES = 32
# Float32 input, conformed volume, labels: bytes of each voxel.
_VOXEL_BYTES = 8
# As one graph: input and output of a layer, and the copies oneDNN makes in its own layout.
_COPIES = 6
# With more classes than this OpenVINO's last layer runs by itself.
FEW_CLASSES = 8
# OpenVINO once loaded; layers that a graph holds at once: of plain convolutions, with
# normalisations or branches, and where the features come out before the last layer.
_OPENVINO_GB = 0.4
_PLAIN, _NORMED, _FEATURES = 2.0, 2.8, 3.7


def estimate_peak_gb(
    spec: ModelSpec,
    shape: Sequence[int],
    engine: str = 'tensorflow',
    *,
    probabilities: bool = False,
) -> float:
    """Estimate the peak resident memory of segmenting one volume on a CPU.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    shape : sequence of int
        The conformed volume's shape, in voxels.
    engine : {'tensorflow', 'openvino'}
        What computes.
    probabilities : bool
        Whether they are wanted too; TensorFlow's go to the disk slab by slab.

    Returns
    -------
    float
        GB (10^9 bytes). Measured on 256^3, estimated in brackets: model5_gw_ae 1.23 (1.41),
        mindgrab 2.13 (2.17), model21_104class 2.47 (2.62), model30chan18cls 3.17 (3.30);
        by OpenVINO model5_gw_ae 1.06, tissue 2.47, mindgrab 3.25, model30chan18cls 7.86.
    """
    if engine == 'openvino':
        extra = 2.4 * 4 * spec.classes * math.prod(spec.block or shape) * probabilities
        return _openvino_gb(spec, shape) + extra / 1e9
    voxel = _VOXEL_BYTES + 5 * (spec.in_channels - 1)
    if spec.block is not None:
        held = 2 * math.prod(shape) * voxel
        held += math.prod(spec.block) * (_COPIES + 2) * 4 * spec.channels
        return _LOADED_GB + held / 1e9
    voxels = math.prod(shape)
    layer = 4 * spec.channels
    if spec.chain:
        held = voxels * voxel + shape[0] * shape[1] * (shape[2] + _PLANES) * layer
    else:
        held = voxels * (voxel + _COPIES * layer)
    return _LOADED_GB + held / 1e9


def _openvino_gb(spec: ModelSpec, shape: Sequence[int]) -> float:
    """Estimate for one graph of the whole volume: a layer's input and output at once."""
    voxels = math.prod(spec.block or shape)
    layers = _PLAIN if spec.chain and not spec.normed else _NORMED
    if spec.classes > FEW_CLASSES:
        layers = _FEATURES
    held = voxels * 4 * (layers * spec.channels + spec.in_channels)
    held += math.prod(shape) * _VOXEL_BYTES
    return _OPENVINO_GB + held / 1e9
