"""Transfer learning: initial weights from another network, and layers that stay frozen."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..image.normalise import Normalization
from ..models.formats import read_network
from ..models.keras_model import network_of
from ..models.network import Network, fold_batchnorm
from ..models.spec import load_spec
from ..models.zoo import find_model
from ..system.errors import SettingsError
from .layer_matching import CONVOLUTIONS, ConvUnit, adapt_weights, conv_units, match_layers
from .options import DataOptions, InitOptions


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
        Whether all, some or none of its weights are those of the other network.
    frozen : bool
        Whether training leaves it unchanged.
    weights : int
        Number of its weights.
    source : str
        Name of the other network's layer, or the reason why there is none.
    """

    layer: str
    shape: tuple[int, ...]
    state: str
    frozen: bool
    weights: int
    source: str = ''


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
        If no layer fits, the model normalises each channel and the network does not, or
        ``init.freeze`` matches no layer or all of them.
    ModelError
        If the model is not found or cannot be read.
    """
    if not init.model:
        raise SettingsError('init.model is empty; give the name or the folder of a model')
    folder = find_model(init.model, models_dir)
    if model.input_shape[1:4] != model.output_shape[1:4]:
        raise SettingsError(
            'init.model with stages[0].stride = 2: its last layers would be lost; set stride = 1'
        )
    network = network_of(model)
    origins = _set_weights(model, network, read_network(folder)[0], init, folder)
    freeze(model, init.freeze)
    return [
        LayerTransfer(
            layer=op.name,
            shape=op.weights['kernel'].shape if op.kind in CONVOLUTIONS else (op.channels,),
            state=origins[op.name][0],
            frozen=not model.get_layer(op.name).trainable,
            weights=sum(values.size for values in op.weights.values()),
            source=origins[op.name][1],
        )
        for op in network.ops
        if op.name in origins
    ]


def _set_weights(
    model: Any, network: Network, source: Network, init: InitOptions, folder: Path
) -> dict[str, tuple[str, str]]:
    """Set all weights that can be reused; return state and source of each layer by its name."""
    origins: dict[str, tuple[str, str]] = {}
    for unit, counterpart, reason in _counterparts(source, network, init, folder):
        if counterpart is None:
            layers = [op for op in (unit.conv, unit.batch) if op is not None]
            origins.update({op.name: ('new', reason) for op in layers})
            continue
        if counterpart.group and not unit.group:
            raise SettingsError(
                f'init.model {folder}: normalises each channel behind {counterpart.conv.name}; '
                "set norm = 'group' in all stages"
            )
        for op, weights, state in adapt_weights(unit, counterpart):
            model.get_layer(op.name).set_weights([weights[name] for name in op.weights])
            origins[op.name] = state, counterpart.conv.name if op is unit.conv else ''
    return origins


def freeze(model: Any, patterns: Sequence[str]) -> list[str]:
    """Exclude layers from training; a normalisation follows the convolution before it.

    Parameters
    ----------
    model : keras.Model
        The network, not compiled yet.
    patterns : sequence of str
        Shell-style patterns (`fnmatch`) of names of layers, or numbers of convolutions from 0:
        ``0-3``, ``5``.

    Returns
    -------
    list of str
        Names of the frozen layers.

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
    for name in frozen:
        model.get_layer(name).trainable = False
    return [name for name in names if name in frozen]


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
    >>> head = LayerTransfer('output', (1, 1, 1, 5, 2), 'new', False, 12, 'other classes')
    >>> print(transfer_table([head]))
    layer   shape      weights  state  training  from
    output  1x1x1x5x2       12  new    trained   (other classes)
    12 weights: 12 in layers new, 0 frozen
    """
    rows = list(rows)
    cells = [('layer', 'shape', 'weights', 'state', 'training', 'from')]
    for row in rows:
        source = f'({row.source})' if row.state == 'new' and row.source else row.source
        shape = 'x'.join(map(str, row.shape))
        training = 'frozen' if row.frozen else 'trained'
        cells.append((row.layer, shape, f'{row.weights:,}', row.state, training, source))
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
    frozen = sum(row.weights for row in rows if row.frozen)
    lines.append(f'{sum(sums.values()):,} weights: {parts}, {frozen:,} frozen')
    return '\n'.join(lines)


def _counterparts(
    source: Network, target: Network, init: InitOptions, folder: Path
) -> Iterator[tuple[ConvUnit, ConvUnit | None, str]]:
    """Give each convolution, its counterpart, and why where it has none."""
    units, sources = conv_units(target), conv_units(source)
    folded = conv_units(fold_batchnorm(source))
    last, head = len(units) - 1, sources[-1]
    pairs = match_layers(units[:-1], sources[:-1])
    if not pairs and last:
        raise SettingsError(
            f'init.model {folder}: none of its convolutions ({_described(sources)}) fits the '
            f'network ({_described(units)}); choose an architecture and dilations like its own'
        )
    if not init.new_head and units[-1].takes(head) and target.classes == source.classes:
        pairs[last] = len(sources) - 1
    for i, unit in enumerate(units):
        if i in pairs:
            yield unit, (folded if unit.batch is None else sources)[pairs[i]], ''
        else:
            yield unit, None, _reason(i, units, sources, init)


def _reason(
    i: int, units: Sequence[ConvUnit], sources: Sequence[ConvUnit], init: InitOptions
) -> str:
    """Return why a convolution is initialised anew."""
    if i == len(units) - 1:
        if init.new_head:
            return 'new head'
        same = units[i].conv.channels == sources[-1].conv.channels
        return 'another kind of head' if same else 'other classes'
    if i < len(sources) - 1:
        (*ours, dilation, _), (*theirs, other, _) = units[i].form, sources[i].form
        if ours == theirs and dilation != other:
            return f'dilation {max(dilation)}, trained at {max(other)}'
    return 'no layer like it'


def _described(units: Sequence[ConvUnit]) -> str:
    first = units[0]
    size = 'x'.join(map(str, first.conv.kernel_size))
    dilations = '-'.join(str(max(unit.conv.settings['dilation'])) for unit in units)
    return f'{len(units)}, {size} at first, dilations {dilations}'


def _functions(network: Network) -> list[str]:
    """Return the distinct hidden activations of a network, sorted."""
    names = [op.settings['function'] for op in network.ops[:-1] if op.kind == 'activation']
    return sorted({*names} - {'linear'})
