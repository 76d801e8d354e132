"""What is known of published models, by the checksum of their weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from .labels import Label, parse_color


@dataclass(frozen=True)
class Published:
    """A model that others have published, and where.

    Parameters
    ----------
    name : str
        Its name, and its folder's.
    alias : str
        What brainchop's command line calls it, empty for the same.
    task : str
        What it is for.
    classes : int
        Number of classes, background included.
    license : str
        Of the weights.
    url : str
        Address of the folder of its files.
    files : mapping of str to mapping
        For each file its ``bytes`` and ``sha256``.
    """

    name: str
    alias: str
    task: str
    classes: int
    license: str
    url: str
    files: Mapping[str, Mapping[str, Any]]


def published_models() -> dict[str, Published]:
    """Return all published models that are known, by name."""
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
    """Return what a model is called here that brainchop's command line calls otherwise.

    Examples
    --------
    >>> published_name('tissue_fast'), published_name('mindgrab')
    ('model5_gw_ae', 'mindgrab')
    """
    aliases = {model.alias: model.name for model in published_models().values() if model.alias}
    return aliases.get(name, name)


def known_facts(weights_sha256: str) -> dict[str, Any]:
    """Return what is known of a model.

    Parameters
    ----------
    weights_sha256 : str
        `Network.weights_sha256`, which is the same whatever format the weights came in and
        whatever their folder is called.

    Returns
    -------
    dict
        As ``brainchop.json`` has it, with ``labels`` as a tuple of `Label`, and ``network``,
        what `network_of_state` needs, where no file says it; empty for weights unknown.
    """
    registry = _registry()
    entry = registry['models'].get(weights_sha256)
    if entry is None:
        return {}
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
    return {**entry, 'labels': labels}


@cache
def _registry() -> dict[str, Any]:
    text = resources.files('brainchop_bids.data').joinpath('known_models.json').read_text('utf-8')
    content: dict[str, Any] = json.loads(text)
    return content
