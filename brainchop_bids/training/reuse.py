"""Which weights of a network are those of a pretrained model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.formats import read_network
from ..models.network import Network, fold_batchnorm
from ..models.zoo import find_model
from ..system.errors import SettingsError
from .layer_matching import Adapted, ConvUnit, adapt_weights, conv_units, match_layers
from .options import InitOptions


@dataclass(frozen=True, eq=False)
class Reuse:
    """What a network takes over from a model.

    Parameters
    ----------
    folder : Path
        Folder of the model.
    layers : dict of str to Adapted
        Weights of each layer that has any of the model's, by its name.
    sources : dict of str to str
        For each layer with weights the name of the model's layer, or the reason why there is
        none.
    """

    folder: Path
    layers: dict[str, Adapted]
    sources: dict[str, str]


def find_reuse(network: Network, init: InitOptions, models_dir: str | Path | None = None) -> Reuse:
    """Match the layers of a network with those of a model.

    Parameters
    ----------
    network : Network
        The network, with its initial weights and without stride.
    init : InitOptions
        See `brainchop_bids.training.transfer.load_pretrained`.
    models_dir : path, optional
        See `brainchop_bids.training.transfer.load_pretrained`.

    Returns
    -------
    Reuse

    Raises
    ------
    SettingsError, ModelError
        See `brainchop_bids.training.transfer.load_pretrained`.
    """
    folder = find_model(init.model, models_dir)
    reuse = Reuse(folder, {}, {})
    for unit, counterpart, reason in _counterparts(read_network(folder)[0], network, init, folder):
        layers = [op for op in (unit.conv, unit.batch) if op is not None]
        if counterpart is None:
            reuse.sources.update({op.name: reason for op in layers})
            continue
        if counterpart.group and not unit.group:
            raise SettingsError(
                f'init.model {folder}: normalises each channel behind {counterpart.conv.name}; '
                "set norm = 'group' in all stages"
            )
        for adapted in adapt_weights(unit, counterpart):
            reuse.layers[adapted.op.name] = adapted
            conv = adapted.op is unit.conv
            reuse.sources[adapted.op.name] = counterpart.conv.name if conv else ''
    return reuse


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
