"""Transfer learning: a network begins with what another one has learnt."""

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
from .layer_matching import CONVOLUTIONS, Unit, align, reuse, units_of
from .options import Data, Init


@dataclass(frozen=True)
class Row:
    """What became of a layer.

    Parameters
    ----------
    layer : str
        Its name.
    shape : tuple of int
        Of its kernel, as Keras has it; of a normalisation, its channels.
    state : {'reused', 'in part', 'new'}
        Whether its weights are the other network's, all or some of them.
    frozen : bool
        Whether training leaves it as it is.
    weights : int
        Number of its weights.
    source : str
        The other network's layer, or why there is none.
    """

    layer: str
    shape: tuple[int, ...]
    state: str
    frozen: bool
    weights: int
    source: str = ''


def begin_from(model: Any, init: Init, models_dir: str | Path | None = None) -> list[Row]:
    """Give a freshly built network the weights of a model, and freeze what shall stay.

    Convolutions are matched in order: as many as can be, of the same kernel size, stride and
    dilation, those of the same channels first. A kernel learnt at another dilation looks at
    other places and is not reused. Of kernels of other widths the common part is reused: new
    channels of the image start at zero, so that the network computes what it did of the first
    ones, and what new hidden channels add to reused ones starts small. Where the model has batch
    normalisation and the network none it is folded; where only the network has it, it begins
    without effect. The last convolution begins anew if asked for, or where classes differ.

    Parameters
    ----------
    model : keras.Model
        The network of a stage without stride. Compile it after this: Keras looks then at what is
        frozen.
    init : Init
        Which model, and what of it.
    models_dir : path, optional
        As for `brainchop_bids.models.zoo.find_model`.

    Returns
    -------
    list of Row
        One for each layer with weights, in order.

    Raises
    ------
    SettingsError
        Where nothing fits, the model normalises its channels and the network does not, or
        ``init.freeze`` names no layer or all of them.
    ModelError
        Where the model is not found or not understood.
    """
    if not init.model:
        raise SettingsError('init.model is empty; give the name or the folder of a model')
    folder = find_model(init.model, models_dir)
    source, target = read_network(folder)[0], network_of(model)
    if model.input_shape[1:4] != model.output_shape[1:4]:
        raise SettingsError(
            'init.model with stages[0].stride = 2: its last layers would be lost; set stride = 1'
        )
    found: dict[str, tuple[str, str]] = {}
    for unit, given, why in _counterparts(source, target, init, folder):
        if given is None:
            layers = [op for op in (unit.conv, unit.batch) if op is not None]
            found.update({op.name: ('new', why) for op in layers})
            continue
        if given.group and not unit.group:
            raise SettingsError(
                f'init.model {folder}: normalises each channel behind {given.conv.name}; set '
                "norm = 'group' in all stages"
            )
        for op, weights, state in reuse(unit, given):
            model.get_layer(op.name).set_weights([weights[name] for name in op.weights])
            found[op.name] = state, given.conv.name if op is unit.conv else ''
    frozen = freeze(model, init.freeze)
    return [
        Row(
            op.name,
            (op.weights['kernel'].shape if op.kind in CONVOLUTIONS else (op.channels,)),
            *(found[op.name][0], op.name in frozen or not model.get_layer(op.name).trainable),
            sum(values.size for values in op.weights.values()),
            found[op.name][1],
        )
        for op in target.ops
        if op.name in found
    ]


def freeze(model: Any, patterns: Sequence[str]) -> list[str]:
    """Take layers out of training; a normalisation goes with the convolution before it.

    Parameters
    ----------
    model : keras.Model
        The network; to be compiled after this, in every stage and when a run goes on.
    patterns : sequence of str
        Of names of layers, as `fnmatch` has them, or numbers of convolutions: ``0-3``, ``5``.

    Returns
    -------
    list of str
        The layers' names.

    Raises
    ------
    SettingsError
        Where a pattern fits no layer, or nothing is left to train.
    """
    if not patterns:
        return []
    units = units_of(network_of(model))
    convolutions = [unit.conv.name for unit in units]
    names = [layer.name for layer in model.layers if layer.weights]
    frozen: set[str] = set()
    for pattern in patterns:
        if numbers := re.fullmatch(r'(\d+)(?:-(\d+))?', pattern):
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            fitting = convolutions[first : last + 1]
        else:
            fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise SettingsError(
                f'init.freeze {pattern!r} fits no layer; there are {", ".join(names)}, and '
                f'numbers of convolutions from 0 to {len(convolutions) - 1}'
            )
        frozen.update(fitting)
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


def differences(
    model: Any, init: Init, data: Data, models_dir: str | Path | None = None
) -> list[str]:
    """Return in what the images and the network differ from those that a model has learnt with.

    Parameters
    ----------
    model : keras.Model
        The network.
    init : Init
        Names the model.
    data : Data
        Names the channels and their normalisation.
    models_dir : path, optional
        As for `begin_from`.

    Returns
    -------
    list of str
        Warnings, one line each.

    Raises
    ------
    ModelError
        Where the model is not found or not understood.
    """
    folder = find_model(init.model, models_dir)
    spec = load_spec(folder)
    said = []
    if str(Normalization.parse(data.normalization)) != str(spec.normalization):
        said.append(
            f'{folder}: learnt from images normalised by {spec.normalization}, data.normalization '
            f'is {data.normalization}; its weights fit its own best'
        )
    if data.channels[0] != spec.inputs[0]:
        said.append(f'{folder}: learnt from {spec.inputs[0]}, data.channels has {data.channels}')
    theirs, ours = (
        _functions(network) for network in (read_network(folder)[0], network_of(model))
    )
    if theirs != ours:
        said.append(
            f'{folder}: its activation is {", ".join(theirs) or "none"}, that of the network '
            f'{", ".join(ours) or "none"}'
        )
    return said


def transfer_table(rows: Iterable[Row]) -> str:
    """Write down what became of each layer.

    Parameters
    ----------
    rows : iterable of Row
        As `begin_from` gives them.

    Returns
    -------
    str
        A table, and a line with sums.

    Examples
    --------
    >>> print(transfer_table([Row('output', (1, 1, 1, 5, 2), 'new', False, 12, 'other classes')]))
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
    still = sum(row.weights for row in rows if row.frozen)
    lines.append(f'{sum(sums.values()):,} weights: {parts}, {still:,} frozen')
    return '\n'.join(lines)


def _counterparts(
    source: Network, target: Network, init: Init, folder: Path
) -> Iterator[tuple[Unit, Unit | None, str]]:
    """Give each convolution, its counterpart, and why where it has none."""
    units, learnt = units_of(target), units_of(source)
    folded = units_of(fold_batchnorm(source))
    last, head = len(units) - 1, learnt[-1]
    pairs = align(units[:-1], learnt[:-1])
    if not pairs and last:
        raise SettingsError(
            f'init.model {folder}: none of its convolutions ({_described(learnt)}) fits the '
            f'network ({_described(units)}); choose an architecture and dilations like its own'
        )
    if not init.new_head and units[-1].takes(head) and target.classes == source.classes:
        pairs[last] = len(learnt) - 1
    for i, unit in enumerate(units):
        if i in pairs:
            yield unit, (folded if unit.batch is None else learnt)[pairs[i]], ''
        else:
            yield unit, None, _reason(i, units, learnt, init)


def _reason(i: int, units: Sequence[Unit], learnt: Sequence[Unit], init: Init) -> str:
    """Say why a convolution begins anew."""
    if i == len(units) - 1:
        if init.new_head:
            return 'new head'
        same = units[i].conv.channels == learnt[-1].conv.channels
        return 'another kind of head' if same else 'other classes'
    if i < len(learnt) - 1:
        (*ours, dilation, _), (*theirs, other, _) = units[i].form, learnt[i].form
        if ours == theirs and dilation != other:
            return f'dilation {max(dilation)}, learnt at {max(other)}'
    return 'no layer like it'


def _described(units: Sequence[Unit]) -> str:
    first = units[0]
    size = 'x'.join(map(str, first.conv.kernel_size))
    dilations = '-'.join(str(max(unit.conv.settings['dilation'])) for unit in units)
    return f'{len(units)}, {size} at first, dilations {dilations}'


def _functions(network: Network) -> list[str]:
    """Return a network's hidden activations, each once."""
    names = [op.settings['function'] for op in network.ops[:-1] if op.kind == 'activation']
    return sorted({*names} - {'linear'})
