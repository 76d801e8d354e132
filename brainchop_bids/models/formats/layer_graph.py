"""The layers in Keras' model configurations, and which of them feed which.

Models within models are replaced by their layers, so that a network is one list of layers.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...system.errors import ModelError

# Limits of the number of layers and of models within models. The largest networks of the field
# have 500 layers.
_MOST_LAYERS = 4096
_MOST_MODELS = 8
_MODELS = ('Functional', 'Model', 'Sequential')

Layer = dict[str, Any]


def topology(config: Any, source: Path) -> tuple[list[Layer], str | None]:
    """Return the layers in a model's configuration, and the name of the output layer.

    Parameters
    ----------
    config : object
        Configuration with ``class_name`` and ``config``.
    source : Path
        The file, for messages.

    Returns
    -------
    layers : list of dict
        Configuration of each layer. Layers of models within the model have ``path``, the names
        of these models and their own, and ``operands``, see `operands`.
    output : str or None
        None if the last layer is the output.

    Raises
    ------
    ModelError
        If it is not a Functional or Sequential model.
    """
    try:
        kind = config['class_name']
        if kind not in _MODELS:
            raise ModelError(
                f'{source}: its topology cannot be read: a model of class {kind!r}, which may run '
                'any code; expected a Functional or Sequential Keras model, or export it to ONNX'
            )
        layers = list(_flat(config, (), _MOST_LAYERS))
        if not layers:
            raise ValueError('no layers')
        return layers, _output(config['config'])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f'no {error}' if isinstance(error, KeyError) else error
        raise ModelError(
            f'{source}: its topology cannot be read ({reason}); expected the configuration '
            'of a Functional or Sequential Keras model with one output'
        ) from error


def _flat(config: Any, path: tuple[str, ...], most: int) -> Iterator[Layer]:
    """Yield the layers of a model, and those of models within it."""
    inner = config['config']
    layers = inner if isinstance(inner, list) else inner['layers']
    if len(layers) > most or len(path) > _MOST_MODELS:
        raise ValueError(f'{len(layers):,} layers in {len(path)} models, over {most:,}')
    seen: Counter[str] = Counter()
    for layer in layers:
        # In Sequential models the name is in the configuration only.
        if 'name' not in layer:
            layer['name'] = layer['config']['name']
        if not isinstance(layer['class_name'], str):
            raise ValueError(f'layer {layer["name"]!r} without a class')
        group = _snake_case(layer['class_name'])
        number, seen[group] = seen[group], seen[group] + 1
        layer['stored'] = f'{config.get("stored", "")}layers/{group}{f"_{number}" * bool(number)}/'
        if layer['class_name'] in _MODELS:
            yield from _nested(layer, (*path, str(layer['name'])), most - len(layers))
            continue
        if not isinstance(layer['config'], dict):
            raise ValueError(f'layer {layer["name"]!r} without settings')
        yield layer


def _nested(model: Layer, path: tuple[str, ...], most: int) -> Iterator[Layer]:
    """Yield the layers of a model that is a layer of another one, between its input and output."""
    inner = model['config']
    given, prefix = _within(path[:-1], operands(model)), '/'.join(path)
    feeds = _names(inner.get('input_layers')) if isinstance(inner, dict) else []
    chained = model['class_name'] == 'Sequential'
    before: list[Any] = given
    for layer in _flat(model, path, most):
        if 'path' not in layer:
            name = str(layer['name'])
            if layer['class_name'] == 'InputLayer' or (chained and before is given):
                place = feeds.index(name) if name in feeds else 0
                layer['operands'] = [given[place]] if given else []
            elif chained:
                layer['operands'] = before
            else:
                layer['operands'] = _within(path, operands(layer))
            if layer['class_name'] == 'InputLayer' and given:
                layer['class_name'] = 'Identity'
            layer.update(name=f'{prefix}/{name}', path=(*path, name))
        before = [layer['name']]
        yield layer
    end = before if chained else [f'{prefix}/{_output(inner)}']
    yield {
        'class_name': 'Identity',
        'name': '/'.join(path),
        'config': {},
        'operands': end,
        'path': path,
    }


def _within(path: tuple[str, ...], given: list[str | float]) -> list[str | float]:
    """Return operands with the names that layers of a model within the model get."""
    return ['/'.join((*path, one)) if isinstance(one, str) else one for one in given]


def _output(inner: Any) -> str | None:
    """Return the name of a model's output layer; None for the last one."""
    outputs = [] if isinstance(inner, list) else _names(inner.get('output_layers'))
    if len(outputs) > 1:
        raise ValueError(f'{len(outputs)} outputs')
    return safe_name(outputs[0]) if outputs else None


def _names(ends: Any) -> list[str]:
    """Return the names of layers at a model's beginning or end."""
    ends = ends or []
    # Keras 3 writes a single one without a list around it.
    if ends and not isinstance(ends[0], list):
        ends = [ends]
    return [str(end[0]) for end in ends]


def safe_name(name: object) -> str:
    """Return a layer's name without slashes, which Keras reserves for paths of variables."""
    return str(name).replace('/', '_')


def _snake_case(name: str) -> str:
    """Return the name of the group of weights of a class of layers in ``.keras`` files.

    Examples
    --------
    >>> _snake_case('Conv3DTranspose'), _snake_case('PReLU')
    ('conv3d_transpose', 'p_re_lu')
    """
    name = re.sub(r'\W+', '', name.rpartition('>')[2])
    name = re.sub('(.)([A-Z][a-z]+)', r'\1_\2', name)
    return re.sub('([a-z])([A-Z])', r'\1_\2', name).lower()


def operands(layer: Mapping[str, Any]) -> list[str | float]:
    """Return what a layer is called with: names of layers, and numbers.

    Raises
    ------
    ValueError
        If the layer is called more than once.
    """
    if 'operands' in layer:
        return list(layer['operands'])
    nodes = layer.get('inbound_nodes') or []
    if not nodes:
        return []
    if len(nodes) > 1 and not isinstance(nodes[0], str):
        raise ValueError('the layer is used more than once')
    node = nodes[0]
    if isinstance(node, dict):
        # Keras 3: tensors anywhere among the arguments of the call.
        return list(_tensors([node.get('args', []), node.get('kwargs', {})]))
    # Functions of TensorFlow that are called as layers have no list around their only node.
    calls = [node] if node and isinstance(node[0], str) else node
    return [one for call in calls for one in _call(call)]


def _call(call: Sequence[Any]) -> Iterator[str | float]:
    """Yield the operands in a call as Keras 2 writes it: name, two indices, other arguments."""
    yield call[2] if call[0] == '_CONSTANT_VALUE' else str(call[0])
    for name, value in (call[3] if len(call) > 3 else {}).items():
        if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
            yield str(value[0])
        elif name in ('x', 'y') and type(value) in (int, float):
            yield value


def call_settings(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other arguments that a function of TensorFlow is called with as a layer."""
    nodes = layer.get('inbound_nodes') or [[]]
    calls = [nodes[0]] if nodes[0] and isinstance(nodes[0][0], str) else nodes[0]
    return {name: value for call in calls if len(call) > 3 for name, value in call[3].items()}


def _tensors(value: Any) -> Iterator[str | float]:
    if isinstance(value, dict):
        if 'keras_history' in value:
            yield str(value['keras_history'][0])
            return
        if value.get('class_name') in ('__tensor__', '__numpy__'):
            raise ValueError('the layer takes an array of constants')
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            if type(part) in (int, float):
                yield part
            else:
                yield from _tensors(part)


def owners(layers: Sequence[Mapping[str, Any]], within: str | None = None) -> dict[str, str]:
    """Return the names of layers by the names under which their weights are stored.

    Parameters
    ----------
    layers : sequence of dict
        From `topology`.
    within : str, optional
        Only layers of this model within the model.
    """
    found: dict[str, str] = {}
    for layer in layers:
        path = layer.get('path', (layer['name'],))
        if within is None or path[0] == within:
            found.setdefault(safe_name(path[-1]), safe_name(layer['name']))
    return found


def owner(names: Mapping[str, str], scope: str) -> str:
    """Return the layer that the scope of a weight, such as ``inner/conv3d``, ends with.

    Parameters
    ----------
    names : mapping of str to str
        From `owners`.
    scope : str
        Name of a weight without that of its variable.

    Examples
    --------
    >>> owner({'layer1_conv': 'layer1_conv', 'conv': 'inner_conv'}, 'net/layer1/conv')
    'layer1_conv'
    """
    parts = scope.split('/')
    ends = ['_'.join(parts[place:]) for place in range(len(parts))]
    return next((names[end] for end in ends if end in names), parts[-1])
