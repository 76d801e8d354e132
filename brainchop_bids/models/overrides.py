"""The ``brainchop.json`` of a model folder; `brainchop_bids.models.spec` explains its keys."""

import re
from pathlib import Path
from typing import Any, TypeVar

from ..image.cleanup import Cleanup, MaskRule
from ..image.normalise import Normalization
from ..image.smooth import Smoothing
from ..system.errors import BrainchopError, ModelError
from ..system.text import printable
from .confidence_limit import ConfidenceLimit
from .formats.files import read_json
from .labelfiles import OVERRIDES

_KEYS = {
    'name', 'task', 'normalization', 'inputs', 'labels', 'components', 'smooth', 'mask',
    'intracranial', 'derived', 'localiser', 'confidence', 'status', 'license', 'citation',
}  # fmt: skip
_Rule = TypeVar('_Rule', Smoothing, MaskRule)


def read_overrides(folder: Path) -> dict[str, Any]:
    """Read the ``brainchop.json`` of a model folder.

    Parameters
    ----------
    folder : Path
        The model folder.

    Returns
    -------
    dict
        Empty if there is no such file.

    Raises
    ------
    ModelError
        If the file cannot be read or has unknown keys.
    """
    path = folder / OVERRIDES
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or set(content) - _KEYS:
        unknown = sorted(set(content) - _KEYS) if isinstance(content, dict) else content
        raise ModelError(f'{path}: has {unknown}; expected keys of {sorted(_KEYS)}')
    for key in ('name', 'task', 'status', 'license', 'citation'):
        if not isinstance(content.get(key, ''), str):
            raise ModelError(f'{path}: "{key}" is {content[key]!r}; expected text')
        if key in content:
            content[key] = printable(content[key])
    if type(content.get('intracranial', False)) is not bool:
        raise ModelError(
            f'{path}: "intracranial" is {content["intracranial"]!r}; expected true or false'
        )
    # A name alone, so that a folder cannot point elsewhere.
    name = content.get('localiser', 'none')
    if not (isinstance(name, str) and re.fullmatch(r'[A-Za-z0-9][\w.-]*', name)):
        raise ModelError(f'{path}: "localiser" is {name!r}; expected the name of a model')
    if not isinstance(content.get('labels', []), list):
        raise ModelError(f'{path}: "labels" is no list; expected an object for each class')
    return content


def processing_rules(folder: Path, facts: dict[str, Any], classes: int) -> dict[str, Any]:
    """Return the fields of `ModelSpec` on the processing of images and labels.

    Parameters
    ----------
    folder : Path
        The model folder, for messages.
    facts : dict
        Content of ``brainchop.json`` or of the registry.
    classes : int
        Number of classes.

    Returns
    -------
    dict
        ``normalization``, ``cleanup``, ``smoothing``, ``covers_brain``, ``mask_rule``, ``fluid``
        and ``confidence``.

    Raises
    ------
    ModelError
        If a rule is invalid, or has labels that the model does not have.
    """
    mask, confidence = facts.get('mask', {}), facts.get('confidence')
    if confidence is not None:
        confidence = ConfidenceLimit.from_dict(confidence, folder / OVERRIDES)
    return {
        'normalization': _normalization(folder, facts.get('normalization', 'minmax')),
        'cleanup': _cleanup(folder, facts.get('components', 'largest'), classes),
        'smoothing': _rule(folder, Smoothing, facts.get('smooth', {})),
        'covers_brain': mask is not None,
        'mask_rule': _mask_rule(folder, {} if mask is None else mask, classes),
        'fluid': facts.get('intracranial'),
        'confidence': confidence,
    }


def input_suffixes(folder: Path, suffixes: Any, channels: int) -> tuple[str, ...]:
    """Return the BIDS suffix of each channel.

    Parameters
    ----------
    folder : Path
        The model folder, for messages.
    suffixes : object
        ``inputs`` in ``brainchop.json``; None if it is missing.
    channels : int
        Number of channels.

    Returns
    -------
    tuple of str

    Raises
    ------
    ModelError
        If there is not one distinct suffix for each channel, or T1w is not the first.
    """
    if suffixes is None and channels == 1:
        return ('T1w',)
    if (
        not isinstance(suffixes, list)
        or len(suffixes) != channels
        or not all(
            isinstance(name, str) and re.fullmatch('[A-Za-z0-9]+', name) for name in suffixes
        )
        or suffixes[0] != 'T1w'
        or len(set(suffixes)) < channels
    ):
        raise ModelError(
            f'{folder}: takes {channels} channel{"s" * (channels > 1)}, "inputs" in its '
            f'{OVERRIDES} is {suffixes!r}; expected so many BIDS suffixes, T1w first'
        )
    return tuple(suffixes)


def _normalization(folder: Path, value: Any) -> Normalization:
    try:
        if isinstance(value, str):
            return Normalization.parse(value)
        numbers = [value.get(key, 0) for key in ('low', 'high')] if isinstance(value, dict) else []
        if (
            not isinstance(value, dict)
            or any(type(number) not in (int, float) for number in numbers)
            or type(value.get('clip', False)) is not bool
        ):
            raise TypeError(f'it is {value!r}; expected text, or low and high as numbers')
        return Normalization.from_dict(value)
    except (BrainchopError, TypeError) as error:
        raise ModelError(f'{folder / OVERRIDES}: its normalization: {error}') from error


def _cleanup(folder: Path, rule: Any, classes: int) -> str:
    try:
        if not isinstance(rule, str):
            raise ModelError(f'components is {rule!r}; expected text')
        cleanup = Cleanup.parse(rule)
    except BrainchopError as error:
        raise ModelError(f'{folder / OVERRIDES}: {error}') from error
    if max((label for group in cleanup.groups for label in group), default=0) >= classes:
        raise ModelError(
            f'{folder / OVERRIDES}: components {rule!r} names labels beyond {classes - 1}'
        )
    return str(cleanup)


def _rule(folder: Path, kind: type[_Rule], content: Any) -> _Rule:
    try:
        return kind.from_dict(content)
    except BrainchopError as error:
        raise ModelError(f'{folder / OVERRIDES}: {error}') from error


def _mask_rule(folder: Path, content: Any, classes: int) -> MaskRule:
    rule = _rule(folder, MaskRule, content)
    if max(rule.exclude, default=0) >= classes:
        raise ModelError(f'{folder / OVERRIDES}: mask exclude names labels beyond {classes - 1}')
    return rule
