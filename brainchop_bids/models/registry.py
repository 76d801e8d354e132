"""The registry of published models, by the checksum of their weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any

from .labels import Label, parse_color


@dataclass(frozen=True)
class Published:
    """A model that others have published.

    Parameters
    ----------
    name : str
        Name of the model and of its folder.
    alias : str
        Name in brainchop's command line, empty if it is the same.
    task : str
        Task, such as ``tissue``.
    classes : int
        Number of classes, background included.
    license : str
        Licence of the weights.
    url : str
        URL of the folder of its files.
    files : mapping of str to mapping
        ``bytes`` and ``sha256`` of each file.
    """

    name: str
    alias: str
    task: str
    classes: int
    license: str
    url: str
    files: Mapping[str, Mapping[str, Any]]


def published_models() -> dict[str, Published]:
    """Return all published models by name."""
    registry = _registry()
    return {
        entry['name']: Published(
            entry['name'],
            entry.get('alias', ''),
            entry['task'],
            len(registry['tables'][entry['labels']]),
            entry['license'],
            entry['source']['url'],
            entry['source']['files'],
        )
        for entry in registry['models'].values()
    }


def published_name(name: str) -> str:
    """Return the name of a model that may be given as in brainchop's command line.

    Examples
    --------
    >>> published_name('tissue_fast'), published_name('DKatlas'), published_name('mindgrab')
    ('model5_gw_ae', 'model21_104class', 'mindgrab')
    """
    aliases = {model.alias: model.name for model in published_models().values() if model.alias}
    return aliases.get(name, name)


def known_facts(weights_sha256: str) -> dict[str, Any]:
    """Return the facts on a model in the registry.

    Parameters
    ----------
    weights_sha256 : str
        From `Network.weights_sha256`, which does not depend on file format and folder.

    Returns
    -------
    dict
        Keys of ``brainchop.json``, with ``labels`` as a tuple of `Label`, and ``network``, the
        description for `network_of_state` if no file has it; empty for unknown weights.
    """
    entry = _registry()['models'].get(weights_sha256)
    return {} if entry is None else _facts(entry)


def facts_by_shapes(shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Return the facts on a model in the registry whose kernels have certain shapes.

    Weights alone, such as those of a model that was trained further, do not say their network.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Shapes of all kernels in order, (D, H, W, Cin, Cout), if transposed (D, H, W, Cout, Cin).

    Returns
    -------
    dict
        As `known_facts`; empty if there is no such model with a ``network``.
    """
    for entry in _registry()['models'].values():
        if 'widths' in entry and list(shapes) == _shapes(entry):
            return _facts(entry)
    return {}


def _shapes(entry: dict[str, Any]) -> list[tuple[int, ...]]:
    layers = _registry()['networks'][entry['network']]['layers']
    return [
        (*[layer['kernel_size']] * 3, *(pair[::-1] if layer.get('transposed') else pair))
        for layer, pair in zip(layers, pairwise(entry['widths']), strict=True)
    ]


def _facts(entry: dict[str, Any]) -> dict[str, Any]:
    registry = _registry()
    labels = tuple(
        Label(
            index,
            row['name'],
            row['abbreviation'],
            parse_color(row['color']),
            row['mapping'],
            row['freesurfer'],
        )
        for index, row in enumerate(registry['tables'][entry['labels']])
    )
    facts = {**entry, 'labels': labels}
    if 'network' in entry:
        facts['network'] = registry['networks'][entry['network']]
    return facts


@cache
def _registry() -> dict[str, Any]:
    text = resources.files('brainchop_bids.data').joinpath('known_models.json').read_text('utf-8')
    content: dict[str, Any] = json.loads(text)
    return content
