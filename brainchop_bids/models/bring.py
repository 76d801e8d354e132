"""A model of any readable format, in the form that our folders have."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..system.atomic import Staged, text_writer
from ..system.errors import OutputError, SettingsError
from .convert import write_network
from .formats import read_network
from .labelfiles import OVERRIDES
from .spec import MODEL_NAME, ModelSpec, load_spec


def import_model(folder: Path, into: Path, name: str | None = None) -> Path:
    """Make a folder of our form from a model's folder.

    Parameters
    ----------
    folder : Path
        Any folder that `read_network` reads, with or without labels and facts.
    into : Path
        Folder of model folders.
    name : str, optional
        The new folder's name; by default the old one's.

    Returns
    -------
    Path
        ``into/name``: ``model.json`` and weights in the tfjs layers format, and
        ``brainchop.json`` with all that is known of it.

    Raises
    ------
    SettingsError
        Where the name is no name for a folder, or taken.
    ModelError
        Where the model cannot be read.
    OutputError
        Where it cannot be written.
    """
    name = folder.resolve().name if name is None else name
    if not MODEL_NAME.fullmatch(name):
        raise SettingsError(f'{name}: is no name for a model; letters, digits, - and _ make one')
    target = into / name
    if target.exists():
        raise SettingsError(f'{target}: is there already; choose another --name')
    spec = load_spec(folder)
    write_network(read_network(folder)[0], 'tfjs', target)
    content = json.dumps(describe_model(replace(spec, name=name)), indent=2) + '\n'
    with Staged() as staged:
        text_writer(content)(staged.path(target / OVERRIDES))
    again = load_spec(target)
    if (again.weights_sha256, again.labels) != (spec.weights_sha256, spec.labels):
        raise OutputError(f'{target}: is not what was read from {folder}; is the disk sound?')
    return target


def describe_model(spec: ModelSpec) -> dict[str, Any]:
    """Return what ``brainchop.json`` says of a model.

    Parameters
    ----------
    spec : ModelSpec
        The model.

    Returns
    -------
    dict
        Ready for JSON.
    """
    facts: dict[str, Any] = {
        'name': spec.name,
        'normalization': str(spec.normalization),
        **({'inputs': list(spec.inputs)} if len(spec.inputs) > 1 else {}),
        'labels': [
            {
                'index': label.index,
                'name': label.name,
                'abbreviation': label.abbreviation,
                'color': label.hex_color,
                'mapping': label.mapping,
                'freesurfer': label.freesurfer,
            }
            for label in spec.labels
        ],
        'components': spec.cleanup,
        **({'smooth': spec.smoothing.to_dict()} if spec.smoothing.voxels else {}),
        'mask': spec.mask_rule.to_dict() if spec.covers_brain else None,
        **({'derived': {one.name: one.table for one in spec.derived}} if spec.derived else {}),
    }
    for key in ('status', 'license', 'citation', 'task'):
        if getattr(spec, key):
            facts[key] = getattr(spec, key)
    return facts
