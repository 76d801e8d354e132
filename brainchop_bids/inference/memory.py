"""Estimate of the memory that a network takes, without loading an engine."""

import math
from collections.abc import Sequence

from ..models.spec import ModelSpec
from .subvolumes import Subvolumes

# Memory of Python, NumPy, the engine, its compiled layers and slabs, GB.
_OPENVINO_GB = 0.25
_TENSORFLOW_GB = 0.95
# Bytes per voxel of the conformed scan, of labels, and of their clean-up and resampling.
_VOXEL_BYTES = 4
# Most planes by which a volume is shifted while it is computed, including zeros around it.
_PLANES = 56
# Copies of a layer in one graph: its input and output, and those in the engine's own layout.
_TENSORFLOW_COPIES = 6.0
_OPENVINO_COPIES = 2.8
# Copies of a layer beyond the layers that are held for later ones, as in U-Nets.
_MORE_COPIES = {'openvino': 0.8, 'tensorflow': 2.0}

# Memory of the graph of the coarser grids, relative to that of the finest level.
_BELOW = {'openvino': 0.0, 'tensorflow': 0.4}


def estimate_peak_gb(
    spec: ModelSpec,
    shape: Sequence[int],
    engine: str = 'openvino',
    *,
    tile: Sequence[int] | None = None,
    precision: str = 'f32',
    subvolumes: Subvolumes | None = None,
) -> float:
    """Estimate the peak resident memory of segmenting one volume on a CPU.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    shape : sequence of int
        Shape of the conformed volume, in voxels.
    engine : {'openvino', 'tensorflow'}
        Library that runs the network.
    tile : sequence of int, optional
        Shape of the part that is computed at once; by default the whole volume, or the cube that
        the model was trained on.
    precision : {'f32', 'bf16'}
        Precision of features.
    subvolumes : Subvolumes, optional
        Cubes that are computed in place of tiles.

    Returns
    -------
    float
        Peak memory, GB (10^9 bytes).
    """
    sums = 0
    if subvolumes is not None:
        tile = subvolumes.shape
        if subvolumes.overlapping:
            sums = 4 * (spec.classes + 1) * shape[0] * shape[1] * min(tile[2], shape[2])
            sums += 8 * spec.classes * math.prod(tile)
    elif tile is None:
        tile = spec.block or shape
    voxels = math.prod(tile)
    value = 2 if precision == 'bf16' else 4
    # In bfloat16 only chains are computed slab by slab.
    if spec.slabs and spec.block is None and (spec.chain or precision == 'f32'):
        # The larger of the input and of the layers.
        held = 4.0 * voxels * spec.in_channels
        held = max(held, tile[0] * tile[1] * (tile[2] + _PLANES) * value * spec.slabs)
        held *= 1 if spec.chain else 1 + _BELOW[engine]
    else:
        layer = value * spec.values
        copies = _OPENVINO_COPIES if engine == 'openvino' else _TENSORFLOW_COPIES
        layers = max(copies * layer, value * spec.held + _MORE_COPIES[engine] * layer)
        held = voxels * (layers + 4 * spec.in_channels)
    base = _OPENVINO_GB if engine == 'openvino' else _TENSORFLOW_GB
    held += sums
    return base + (math.prod(shape) * (_VOXEL_BYTES + spec.in_channels - 1) + held) / 1e9
