"""Estimate of the memory of a run, from facts about the model; no engine is loaded."""

import math
from collections.abc import Sequence

from ..models.spec import ModelSpec
from .subvolumes import Subvolumes

# Python, NumPy and the engine once loaded, what it holds for compiled layers, and slabs.
_OPENVINO_GB = 0.25
_TENSORFLOW_GB = 0.95
# The conformed scan, labels, and what cleaning them up and bringing them back takes: bytes of each
# voxel.
_VOXEL_BYTES = 4
# Planes that are moved over while a volume is computed, and zeros around it; at most.
_PLANES = 56
# As one graph: input and output of a layer, and the copies that engines make in their own layout.
_TENSORFLOW_COPIES = 6.0
_OPENVINO_COPIES = 2.8
# The same where layers are held for later ones, as on a U-Net's way up: beyond what is held.
_MORE_COPIES = {'openvino': 0.8, 'tensorflow': 2.0}

# What the graph of the coarser grids takes, as a share of what the finest level holds.
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
        The conformed volume's shape, in voxels.
    engine : {'openvino', 'tensorflow'}
        What computes.
    tile : sequence of int, optional
        Shape of what is computed at once; by default the whole volume, or the model's cube.
    precision : {'f32', 'bf16'}
        Of features.
    subvolumes : Subvolumes, optional
        Cubes in place of tiles, and their sums.

    Returns
    -------
    float
        GB (10^9 bytes).
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
    # Chains alone go by slabs in bfloat16 too.
    if spec.slabs and spec.block is None and (spec.chain or precision == 'f32'):
        # Of the input, and of the layers.
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
