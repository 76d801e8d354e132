"""Grids of a network's operations: sizes of their voxels, numbers of them, receptive fields."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from .op import Op

# Kinds that make the grid coarser by their strides.
_STRIDED = ('conv', 'max_pool', 'avg_pool')
# Normalisations by the moments of a whole volume.
_WHOLE = ('group_norm', 'slab_norm', 'global_pool')


def densities(ops: Sequence[Op]) -> dict[str, float]:
    """Return the number of voxels of each operation's output, for each voxel of the input."""
    found: dict[str, float] = {}
    for op in ops:
        density = max((found[name] for name in op.inputs), default=1.0)
        if op.kind in _STRIDED:
            density /= math.prod(op.settings['strides'])
        elif op.kind == 'upsample':
            density *= math.prod(op.settings['size'])
        elif op.kind == 'conv_transpose':
            density *= math.prod(op.settings['strides'])
        elif op.kind == 'global_pool':
            density = 0.0
        found[op.name] = density
    return found


def scales(ops: Sequence[Op]) -> dict[str, Fraction]:
    """Return the size of a voxel of each operation's output along an axis, in input voxels."""
    found: dict[str, Fraction] = {}
    for op in ops:
        scale = max((found[name] for name in op.inputs), default=Fraction(1))
        if op.kind in _STRIDED:
            scale *= max(op.settings['strides'])
        elif op.kind == 'conv_transpose':
            scale /= max(op.settings['strides'])
        elif op.kind == 'upsample':
            scale /= max(op.settings['size'])
        found[op.name] = scale
    return found


def receptive_radius(ops: Sequence[Op]) -> int | None:
    """Return the largest distance, in input voxels, of voxels that an output depends on.

    Parameters
    ----------
    ops : sequence of Op
        The operations of a network.

    Returns
    -------
    int or None
        None if each output depends on the whole input.
    """
    sizes = scales(ops)
    # Radius of each operation, in voxels of the input.
    reaches: dict[str, Fraction] = {}
    for op in ops:
        if op.kind in _WHOLE:
            return None
        scale = max((sizes[name] for name in op.inputs), default=Fraction(1))
        reach = max((reaches[name] for name in op.inputs), default=Fraction(0))
        reaches[op.name] = reach + scale * _voxels_around(op)
        if op.kind in ('conv_transpose', 'upsample'):
            # All voxels with the same source.
            reaches[op.name] += scale - sizes[op.name]
    return math.ceil(reaches[ops[-1].name])


def _voxels_around(op: Op) -> int:
    """Return how many voxels of its input beside a voxel an operation takes."""
    if op.kind == 'conv':
        # With 'same' padding half of the span is on either side, unless there is a stride.
        stride = min(op.settings['strides'])
        return -(-op.span // 2) if op.is_plain else max(op.span + 1 - stride, 0)
    if op.kind == 'conv_transpose':
        stride = min(op.settings['strides'])
        return -(-max(op.span + 1 - stride, 0) // stride)
    if op.kind in ('max_pool', 'avg_pool'):
        pairs = zip(op.settings['size'], op.settings['strides'], strict=True)
        return max(0, *(size - stride for size, stride in pairs))
    if op.kind in ('zero_pad', 'crop'):
        return max(map(max, op.settings['padding']))
    return 0


def streams(ops: Sequence[Op]) -> bool:
    """Return whether operations are a chain that can be computed slab by slab.

    In addition to `Network.is_chain`, convolutions may have a stride if zero padding is explicit
    or the kernel is as wide as the stride, and the latter may be transposed. Normalisations
    directly follow convolutions.
    """
    if any(op.inputs != (before.name,) for before, op in pairwise(ops)):
        return False
    for before, op, after in zip(ops, ops[1:], [*ops[2:], None], strict=False):
        if op.is_plain or op.kind == 'activation' or _is_part(op, before):
            continue
        coarser = after if op.kind == 'zero_pad' else op
        if coarser is None or not _changes_grid(coarser, before if coarser is op else op):
            return False
    return True


def _is_part(norm: Op, before: Op) -> bool:
    """Return whether an operation is a normalisation that is computed with a convolution."""
    folded = ('conv', 'conv_transpose', 'batch_norm')
    alone = norm.kind == 'batch_norm' or norm.is_per_channel
    return alone and before.kind in folded


def _changes_grid(op: Op, before: Op) -> bool:
    """Return whether a convolution changes the grid in a way that `streams` allows."""
    padding = before.settings.get('padding') if before.kind == 'zero_pad' else None
    if op.by_cubes and (op.kind == 'conv_transpose' or padding is None):
        return True
    # Equal padding on all sides, so that slabs are aligned with the whole volume.
    if op.kind != 'conv' or padding is None or len({n for sides in padding for n in sides}) > 1:
        return False
    strides, zeros = set(op.settings['strides']), 2 * padding[0][0]
    if len(strides) > 1 or strides == {1} or set(op.settings['dilation']) != {1}:
        return False
    exact = all(n - min(strides) <= zeros < n for n in op.kernel_size)
    return op.settings['groups'] == 1 and op.settings['padding'] == 'valid' and exact
