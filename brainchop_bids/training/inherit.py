"""What a training config takes over from the model that it begins with. No Keras here."""

from pathlib import Path
from typing import Any

from ..models.formats import read_network
from ..models.labels import Label
from ..models.mapping import packaged_tables, read_mapping
from ..models.overrides import read_overrides
from ..models.registry import known_facts
from ..models.spec import ModelSpec, load_spec
from ..models.zoo import find_model
from ..system.errors import BrainchopError, SettingsError
from ..system.toml import read_toml

# Config of its training in the folder of an exported model.
RECIPE = 'training.toml'
# Prefix of the architecture that is the network of a model.
LIKE = 'like:'
# Architectures of this package, which run no code of others.
PACKAGED = ('meshnet', 'light_unet', 'locator', 'unet', 'nobrainer_unet', 'vnet')
_RULES = ('task', 'components', 'smooth', 'mask', 'derived')


def inherit(content: dict[str, Any]) -> dict[str, Any]:
    """Complete a config by what it does not give and the pretrained model has.

    Parameters
    ----------
    content : dict
        A training config, as read from TOML. With ``init.model``, a ``[model]`` that is missing
        becomes the architecture of that model, ``data.normalization`` that of its images,
        ``data.mapping`` the packaged table that it was trained with, and ``norm`` of the stages
        ``'group'`` if it normalises groups of channels. ``card.labels``, and the rules for their
        processing, are those of the model if the table makes the same labels.

    Returns
    -------
    dict
        The same content if there is nothing to complete.

    Raises
    ------
    ModelError
        If the model is not found or cannot be read.
    """
    name = _table(content, 'init').get('model')
    data, card = _table(content, 'data'), _table(content, 'card')
    given = 'model' in content, 'normalization' in data, 'labels' in card
    if not isinstance(name, str) or not name or all(given):
        return content
    folder = find_model(name)
    spec, recipe = load_spec(folder), _read_recipe(folder)
    content = dict(content)
    if 'model' not in content:
        model = _table(recipe, 'model')
        known = recipe and model.get('architecture', PACKAGED[0]) in PACKAGED
        content['model'] = model if known else {'architecture': f'{LIKE}{name}'}
        if any(op.kind == 'group_norm' for op in read_network(folder)[0].ops):
            stages = content.get('stages', [{}])
            if isinstance(stages, list) and all(isinstance(stage, dict) for stage in stages):
                content['stages'] = [{'norm': 'group', **stage} for stage in stages]
    data = {'normalization': str(spec.normalization), **data}
    mapping = _table(recipe, 'data').get('mapping')
    if mapping in packaged_tables():
        data = {'mapping': mapping, **data}
    content['data'] = data
    if 'labels' not in card and _same_labels(spec, data.get('mapping')):
        facts = {**known_facts(spec.weights_sha256), **read_overrides(folder)}
        rules = {key: facts[key] for key in _RULES if facts.get(key) is not None}
        labels = [_entry(label) for label in spec.labels]
        content['card'] = {**rules, **card, 'labels': labels}
    return content


def _table(content: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table of a config; an empty one if it is none, of which others tell."""
    table = content.get(key, {})
    return table if isinstance(table, dict) else {}


def _read_recipe(folder: Path) -> dict[str, Any]:
    """Return the config that a model was trained with, or an empty one."""
    path = folder / RECIPE
    try:
        return read_toml(path) if path.resolve().parent == folder.resolve() else {}
    except SettingsError:
        return {}


def _same_labels(spec: ModelSpec, mapping: Any) -> bool:
    """Return whether a table makes the labels of a model, by their number and names."""
    try:
        table = read_mapping('aseg_to_tissue' if mapping is None else str(mapping))
    except BrainchopError:
        return False
    names = {label.index: {label.name, label.abbreviation} for label in spec.labels}
    return table.classes == spec.classes and all(
        name in names[index] for index, name in table.labels.items()
    )


def _entry(label: Label) -> dict[str, Any]:
    """Return a label as in ``brainchop.json``; TOML has no null."""
    entry = {
        'name': label.name,
        'abbreviation': label.abbreviation,
        'color': label.hex_color,
        'mapping': label.mapping,
        'freesurfer': label.freesurfer,
    }
    return {key: value for key, value in entry.items() if value is not None}
