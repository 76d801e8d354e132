"""Estimates of the memory that a scan and a network take, before either is read."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..image.conform import ConformOptions, conformed_grid
from ..image.headers import Header
from ..models.spec import ModelSpec
from ..system.errors import MemoryLimitError
from ..system.resources import Granted
from .subvolumes import Subvolumes

# Memory of Python, NumPy, the engine, its compiled layers and slabs, GB.
_OPENVINO_GB = 0.25
_TENSORFLOW_GB = 0.95
# Bytes per voxel of the conformed scan, of labels, and of their clean-up and resampling.
_VOXEL_BYTES = 4
# Memory of Python, NumPy and SciPy, GB.
_NUMPY_GB = 0.1
# Relative size of a decompressed volume, which is enlarged piece by piece.
_INFLATED = 1.125
# Types that are kept as they are stored; values of others become 4 bytes.
_KEPT = tuple(map(np.dtype, (np.uint8, np.int16, np.uint16, np.int32, np.float32)))
# Bytes per voxel of floats without NaN, and where they are.
_MENDED_BYTES = 6
# Bytes per voxel of the scaled scan and of its copy with ordered axes, or cubic coefficients.
_SCALED_BYTES, _CUBIC_BYTES = 2, 7
# Most planes by which a volume is shifted while it is computed, including zeros around it.
_PLANES = 56
# Copies of a layer in one graph: its input and output, and those in the engine's own layout.
_TENSORFLOW_COPIES = 6.0
_OPENVINO_COPIES = 2.8
# Copies of a layer beyond the layers that are held for later ones, as in U-Nets.
_MORE_COPIES = {'openvino': 0.8, 'tensorflow': 2.0}
# The engine's own copies of arrays of an ONNX graph.
_GRAPH_COPIES = 1.75

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
    if spec.graph is not None:
        held = _GRAPH_COPIES * spec.graph.held_bytes(tile)
    elif spec.slabs and spec.block is None and (spec.chain or precision == 'f32'):
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


def estimate_conform_gb(header: Header, options: ConformOptions) -> float:
    """Estimate the peak resident memory of reading and conforming a scan.

    Parameters
    ----------
    header : Header
        Header of the scan.
    options : ConformOptions
        Target grid and interpolation.

    Returns
    -------
    float
        Peak memory, GB (10^9 bytes).
    """
    grid, _ = conformed_grid(header.geometry, options)
    size = header.dtype.itemsize
    scaled = (header.slope, header.inter) != (1.0, 0.0)
    converted = 4 if scaled or header.dtype not in _KEPT else 0
    mended = _MENDED_BYTES if header.dtype.kind == 'f' else 0
    voxel = max(
        size * (_INFLATED if header.compressed else 1) + converted + mended,
        (converted or size)
        + (_CUBIC_BYTES if options.interpolation == 'cubic' else _SCALED_BYTES),
    )
    voxels = math.prod(header.geometry.shape)
    return _NUMPY_GB + (voxels * voxel + math.prod(grid.shape)) / 1e9


def check_conform_memory(
    path: Path | str, header: Header, options: ConformOptions, memory: Granted
) -> None:
    """Check that a scan can be read and conformed in the memory that is granted.

    Parameters
    ----------
    path : Path or str
        Name of the scan, for messages.
    header, options
        As for `estimate_conform_gb`.
    memory : Granted
        Memory that may be used, GB.

    Raises
    ------
    MemoryLimitError
        If it cannot.
    """
    need = estimate_conform_gb(header, options)
    if need > memory.amount:
        raise MemoryLimitError(
            f'{path}: needs {need:.1f} GB of memory to be read and conformed '
            f'({header.geometry}), granted are {memory.amount:.1f} GB ({memory.source}); '
            'grant more, or resample the scan'
        )
