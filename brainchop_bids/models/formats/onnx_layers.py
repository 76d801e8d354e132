"""Normalisations, poolings and merges in ONNX, for `onnx_files`."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..network import MERGES, Op


class Graph(Protocol):
    """Nodes and weights of a graph in construction."""

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add a node."""

    def weight(self, name: str, values: np.ndarray) -> str:
        """Add a constant, and return its name."""


def _affine(graph: Graph, op: Op, source: str, sides: Sequence[int], result: str) -> None:
    """Write a source times ``gamma`` plus ``beta``.

    The weights are stored as they are, for `read_onnx`, and reshaped to ``sides``.
    """
    shape = graph.weight(f'{op.name}:sides', np.array(sides, np.int64)) if op.weights else ''
    for name, kind in (('gamma', 'Mul'), ('beta', 'Add')):
        if name in op.weights:
            stored = graph.weight(f'{op.name}/{name}', op.weights[name])
            graph.node('Reshape', [stored, shape], f'{op.name}:{name}')
            graph.node(kind, [source, f'{op.name}:{name}'], f'{op.name}:{kind}')
            source = f'{op.name}:{kind}'
    graph.node('Identity', [source], result)


def _normalised(graph: Graph, op: Op, source: str, count: int) -> str:
    """Write runs, ``[batch, runs, ...]``, each normalised alone."""
    one = graph.weight(f'{op.name}:one', np.ones(count, np.float32))
    zero = graph.weight(f'{op.name}:zero', np.zeros(count, np.float32))
    epsilon = op.settings['epsilon']
    graph.node('InstanceNormalization', [source, one, zero], f'{op.name}:normed', epsilon=epsilon)
    return f'{op.name}:normed'


def _in_runs(graph: Graph, op: Op, source: str, count: int) -> str:
    """Write a volume that is divided into runs, which are normalised, and put together again."""
    runs = graph.weight(f'{op.name}:runs', np.array([0, count, -1], np.int64))
    graph.node('Shape', [source], f'{op.name}:shape')
    graph.node('Reshape', [source, runs], f'{op.name}:cut')
    normed = _normalised(graph, op, f'{op.name}:cut', count)
    graph.node('Reshape', [normed, f'{op.name}:shape'], f'{op.name}:whole')
    return f'{op.name}:whole'


def group_norm(graph: Graph, op: Op) -> None:
    """Write a normalisation of channels in groups."""
    if op.is_per_channel:
        normed = _normalised(graph, op, op.inputs[0], op.channels)
    else:
        normed = _in_runs(graph, op, op.inputs[0], op.settings['groups'])
    _affine(graph, op, normed, (1, -1, 1, 1, 1), op.name)


def layer_norm(graph: Graph, op: Op) -> None:
    """Write a normalisation of each voxel over its channels."""
    epsilon = graph.weight(f'{op.name}:epsilon', np.float32(op.settings['epsilon']))
    axes = graph.weight(f'{op.name}:axes', np.array([1], np.int64))
    (source,), name = op.inputs, op.name
    graph.node('ReduceMean', [source, axes], f'{name}:mean')
    graph.node('Sub', [source, f'{name}:mean'], f'{name}:rest')
    graph.node('Mul', [f'{name}:rest', f'{name}:rest'], f'{name}:squares')
    graph.node('ReduceMean', [f'{name}:squares', axes], f'{name}:variance')
    graph.node('Add', [f'{name}:variance', epsilon], f'{name}:sum')
    graph.node('Sqrt', [f'{name}:sum'], f'{name}:deviation')
    graph.node('Div', [f'{name}:rest', f'{name}:deviation'], f'{name}:normed')
    _affine(graph, op, f'{name}:normed', (1, -1, 1, 1, 1), name)


def slab_norm(graph: Graph, op: Op) -> None:
    """Write a normalisation as by `SlabNormalization`."""
    groups, name = op.settings['groups'], op.name
    axes = [0, *(axis + 2 for axis in op.settings['order']), 1]
    width = op.channels // groups
    graph.node('Transpose', op.inputs, f'{name}:turned', perm=axes)
    whole = _in_runs(graph, op, f'{name}:turned', groups)
    slabs = graph.weight(f'{name}:slabs', np.array([0, groups, -1, width], np.int64))
    graph.node('Reshape', [whole, slabs], f'{name}:parts')
    _affine(graph, op, f'{name}:parts', (1, groups, 1, width), f'{name}:made')
    graph.node('Reshape', [f'{name}:made', f'{name}:shape'], f'{name}:again')
    graph.node('Transpose', [f'{name}:again'], name, perm=np.argsort(axes).tolist())


def global_pool(graph: Graph, op: Op) -> None:
    """Write the mean or the maximum of each channel."""
    kinds = {'average': 'GlobalAveragePool', 'max': 'GlobalMaxPool'}
    graph.node(kinds[op.settings['function']], op.inputs, op.name)


def crop(graph: Graph, op: Op) -> None:
    """Write a volume without voxels at its sides."""
    before, after = zip(*op.settings['padding'], strict=True)
    pads = [0, 0, *(-n for n in before), 0, 0, *(-n for n in after)]
    graph.node('Pad', [*op.inputs, graph.weight(f'{op.name}:pads', np.array(pads))], op.name)


def prelu(graph: Graph, op: Op) -> None:
    """Write a leaky ReLU with a slope for each channel."""
    stored = graph.weight(f'{op.name}/alpha', op.weights['alpha'])
    sides = graph.weight(f'{op.name}:sides', np.array([1, -1, 1, 1, 1], np.int64))
    graph.node('Reshape', [stored, sides], f'{op.name}:slope')
    graph.node('PRelu', [*op.inputs, f'{op.name}:slope'], op.name)


def merge(graph: Graph, op: Op) -> None:
    """Write the sum, product, mean or the like of several volumes."""
    kinds = {'add': 'Sum', 'average': 'Mean', 'maximum': 'Max', 'minimum': 'Min'}
    if op.kind in kinds:
        graph.node(kinds[op.kind], op.inputs, op.name)
        return
    source = op.inputs[0]
    for place, other in enumerate(op.inputs[1:], 2):
        made = op.name if place == len(op.inputs) else f'{op.name}:{place}'
        graph.node({'subtract': 'Sub', 'multiply': 'Mul'}[op.kind], [source, other], made)
        source = made


WRITERS: dict[str, Callable[[Any, Op], None]] = {
    'group_norm': group_norm,
    'layer_norm': layer_norm,
    'slab_norm': slab_norm,
    'global_pool': global_pool,
    'crop': crop,
    'prelu': prelu,
    **{kind: merge for kind in MERGES},
}
