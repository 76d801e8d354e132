"""Transfer learning: initial weights from another network, and layers that stay frozen."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..image.normalise import Normalization
from ..models.formats import read_network
from ..models.keras_model import network_of
from ..models.network import Network, Op
from ..models.spec import load_spec
from ..models.zoo import find_model
from ..system.errors import SettingsError
from .layer_matching import (
    CONVOLUTIONS,
    conv_units,
)
from .options import DataOptions, InitOptions
from .reuse import Reuse, find_reuse


@dataclass(frozen=True)
class LayerTransfer:
    """Origin of the initial weights of a layer.

    Parameters
    ----------
    layer : str
        Name of the layer.
    shape : tuple of int
        Shape of its kernel in Keras' order of axes; for a normalisation, number of channels.
    state : {'reused', 'in part', 'new'}
        Whether all, some or none of its weights are those of the other network. A layer that is
        narrower than the other network's, and so computes something else, is reused in part.
    frozen : bool
        Whether training leaves those of its weights unchanged that are the other network's.
    weights : int
        Number of its weights.
    reused : int
        Number of those that are the other network's.
    source : str
        Name of the other network's layer, or the reason why there is none.
    left_out : int
        Number of weights of the other network's kernel that a narrower one has no place for.
    """

    layer: str
    shape: tuple[int, ...]
    state: str
    frozen: bool
    weights: int
    reused: int
    source: str = ''
    left_out: int = 0

    @property
    def training(self) -> str:
        """Which of its weights are trained, for the table."""
        if not self.frozen:
            return 'trained'
        return 'frozen' if self.reused == self.weights else 'new part'


class KeepPart(keras.constraints.Constraint):
    """Constraint that sets some of the values of a variable back to what they were.

    Parameters
    ----------
    values : array
        Values of the variable.
    kept : bool array
        Which of them are kept.
    """

    def __init__(self, values: np.ndarray, kept: np.ndarray) -> None:
        self.values, self.kept = values, kept

    def __call__(self, weights: Any) -> Any:
        """Return the weights with the kept values."""
        kept = keras.ops.convert_to_tensor(self.kept)
        return keras.ops.where(kept, keras.ops.cast(self.values, weights.dtype), weights)


def load_pretrained(
    model: Any, init: InitOptions, models_dir: str | Path | None = None
) -> list[LayerTransfer]:
    """Initialise a network with the weights of a model, and freeze layers.

    As many convolutions as possible of equal kernel size, stride and dilation are matched in
    order, preferably of equal width. Kernels of different widths share their common part: new
    channels of the image start at zero, so that the output is at first that of the known
    channels alone, and weights from new hidden channels to reused ones start small. Batch
    normalisation that only the model has is folded; batch normalisation that only the network
    has starts as the identity. The last convolution is initialised anew on request, or if the
    classes differ.

    Parameters
    ----------
    model : keras.Model
        A freshly built network without stride. Compile it afterwards, since Keras then collects
        the trainable weights.
    init : InitOptions
        Name of the model, layers to freeze, and whether to keep the last layer.
    models_dir : path, optional
        As for `brainchop_bids.models.zoo.find_model`.

    Returns
    -------
    list of LayerTransfer
        One for each layer with weights, in order.

    Raises
    ------
    SettingsError
        If no layer fits, less than half of the weights are the model's or less than half of its
        layers' weights have a place and ``init.allow_partial`` is not set, the model normalises
        each channel and the network does not, or ``init.freeze`` matches no layer or all of them.
    ModelError
        If the model is not found or cannot be read.
    """
    if not init.model:
        raise SettingsError('init.model is empty; give the name or the folder of a model')
    if model.input_shape[1:4] != model.output_shape[1:4]:
        raise SettingsError(
            'init.model with stages[0].stride = 2: its last layers would be lost; set stride = 1'
        )
    network = network_of(model)
    reuse = find_reuse(network, init, models_dir)
    for name, adapted in reuse.layers.items():
        values = [adapted.weights[weight] for weight in adapted.op.weights]
        model.get_layer(name).set_weights(values)
    frozen = freeze(model, init.freeze, reuse)
    rows = [_row(op, reuse, op.name in frozen) for op in network.ops if op.name in reuse.sources]
    _require_half(rows, reuse.folder, init)
    return rows


def _row(op: Op, reuse: Reuse, frozen: bool) -> LayerTransfer:
    adapted = reuse.layers.get(op.name)
    return LayerTransfer(
        layer=op.name,
        shape=op.weights['kernel'].shape if op.kind in CONVOLUTIONS else (op.channels,),
        state='new' if adapted is None else adapted.state,
        frozen=frozen,
        weights=sum(values.size for values in op.weights.values()),
        reused=0 if adapted is None else adapted.count,
        source=reuse.sources[op.name],
        left_out=0 if adapted is None else adapted.left_out,
    )


def _require_half(rows: Sequence[LayerTransfer], folder: Path, init: InitOptions) -> None:
    """Raise if most of a network is new, or most of the model's layers is cut off."""
    whole, reused = sum(row.weights for row in rows), sum(row.reused for row in rows)
    theirs = reused + sum(row.left_out for row in rows)
    if 2 * reused < whole:
        fault = f'only {reused:,} of the {whole:,} weights of the network'
        fault += f' ({100 * reused / whole:.0f} %) are its own'
    elif 2 * reused < theirs:
        fault = 'its layers are wider than those of the network, which have a place for only '
        fault += f'{reused:,} of their {theirs:,} weights ({100 * reused / theirs:.0f} %)'
    else:
        return
    if not init.allow_partial:
        raise SettingsError(
            f'init.model {folder}: {fault}; leave [model] out to take over its '
            'architecture, or allow this by --allow-partial (init.allow_partial = true)'
        )


def freeze(model: Any, patterns: Sequence[str], reuse: Reuse | None = None) -> list[str]:
    """Exclude layers from training; a normalisation follows the convolution before it.

    Weights that are new, such as those of a second channel of the image, are trained in frozen
    layers too, since they would otherwise stay what they are at random or zero.

    Parameters
    ----------
    model : keras.Model
        The network, not compiled yet.
    patterns : sequence of str
        Shell-style patterns (`fnmatch`) of names of layers, or numbers of convolutions from 0:
        ``0-3``, ``5``.
    reuse : Reuse, optional
        Which weights are not new; by default all of them.

    Returns
    -------
    list of str
        Names of the layers that are frozen, wholly or in part.

    Raises
    ------
    SettingsError
        If a pattern matches no layer, or no layer is left to train.
    """
    if not patterns:
        return []
    units = conv_units(network_of(model))
    convolutions = [unit.conv.name for unit in units]
    names = [layer.name for layer in model.layers if layer.weights]
    frozen: set[str] = set()
    for pattern in patterns:
        if numbers := re.fullmatch(r'(\d+)(?:-(\d+))?', pattern):
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            matching = convolutions[first : last + 1]
        else:
            matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise SettingsError(
                f'init.freeze {pattern!r} fits no layer; there are {", ".join(names)}, and '
                f'numbers of convolutions from 0 to {len(convolutions) - 1}'
            )
        frozen.update(matching)
    frozen.update(
        unit.batch.name for unit in units if unit.batch is not None and unit.conv.name in frozen
    )
    if frozen >= set(names):
        raise SettingsError(
            f'init.freeze {", ".join(map(repr, patterns))} leaves nothing to train; leave out '
            f'the last layer at least, {names[-1]}'
        )
    known = frozen if reuse is None else frozen & reuse.layers.keys()
    for name in known:
        layer = model.get_layer(name)
        adapted = None if reuse is None else reuse.layers[name]
        # Batch normalisation without training also keeps its statistics.
        if adapted is None or adapted.state == 'reused' or adapted.op.kind not in CONVOLUTIONS:
            layer.trainable = False
            continue
        for weight, reused in adapted.reused.items():
            variable = getattr(layer, weight)
            if reused.all():
                variable.trainable = False
            elif reused.any():
                variable.constraint = KeepPart(adapted.weights[weight], reused)
    return [name for name in names if name in known]


def compatibility_warnings(
    model: Any, init: InitOptions, data: DataOptions, models_dir: str | Path | None = None
) -> list[str]:
    """Return warnings on differences from the images and the network of the pretrained model.

    Parameters
    ----------
    model : keras.Model
        The network to be trained.
    init : InitOptions
        The pretrained model.
    data : DataOptions
        Channels of the images and their normalisation.
    models_dir : path, optional
        As for `load_pretrained`.

    Returns
    -------
    list of str
        One line each.

    Raises
    ------
    ModelError
        If the model is not found or cannot be read.
    """
    folder = find_model(init.model, models_dir)
    spec = load_spec(folder)
    warnings = []
    if str(Normalization.parse(data.normalization)) != str(spec.normalization):
        warnings.append(
            f'{folder}: trained on images normalised by {spec.normalization}, data.normalization '
            f'is {data.normalization}; its weights fit its own best'
        )
    if data.channels[0] != spec.inputs[0]:
        warnings.append(
            f'{folder}: trained on {spec.inputs[0]}, data.channels has {data.channels}'
        )
    theirs, ours = (
        _functions(network) for network in (read_network(folder)[0], network_of(model))
    )
    if theirs != ours:
        warnings.append(
            f'{folder}: its activation is {", ".join(theirs) or "none"}, that of the network '
            f'{", ".join(ours) or "none"}'
        )
    return warnings


def transfer_table(rows: Iterable[LayerTransfer]) -> str:
    """Return a table of the origin of each layer's weights.

    Parameters
    ----------
    rows : iterable of LayerTransfer
        From `load_pretrained`.

    Returns
    -------
    str
        The table, and a line with totals.

    Examples
    --------
    >>> head = LayerTransfer('output', (1, 1, 1, 5, 2), 'new', False, 12, 0, 'other classes')
    >>> print(transfer_table([head]))
    layer   shape      weights  state  training  from
    output  1x1x1x5x2       12  new    trained   (other classes)
    12 weights: 12 in layers new; 0 reused (0 %), 0 frozen
    """
    rows = list(rows)
    cells = [('layer', 'shape', 'weights', 'state', 'training', 'from')]
    for row in rows:
        source = f'({row.source})' if row.state == 'new' and row.source else row.source
        shape = 'x'.join(map(str, row.shape))
        cells.append((row.layer, shape, f'{row.weights:,}', row.state, row.training, source))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        sides = [
            cell.rjust(n) if place == 2 else cell.ljust(n)
            for place, (cell, n) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append('  '.join(sides).rstrip())
    sums = {row.state: 0 for row in rows}
    for row in rows:
        sums[row.state] += row.weights
    parts = ', '.join(f'{n:,} in layers {state}' for state, n in sums.items())
    whole, reused = sum(sums.values()), sum(row.reused for row in rows)
    frozen = sum(row.reused for row in rows if row.frozen)
    share = f'{reused:,} reused ({100 * reused / whole:.0f} %)'
    lines.append(f'{whole:,} weights: {parts}; {share}, {frozen:,} frozen')
    if left_out := sum(row.left_out for row in rows):
        lines.append(f'left out: {left_out:,} weights of layers that are wider in the model')
    if any(row.training == 'new part' for row in rows):
        lines.append(
            "new part: only weights that are the model's are frozen, new ones are trained"
        )
    return '\n'.join(lines)


def _functions(network: Network) -> list[str]:
    """Return the distinct hidden activations of a network, sorted."""
    names = [op.settings['function'] for op in network.ops[:-1] if op.kind == 'activation']
    return sorted({*names} - {'linear'})
