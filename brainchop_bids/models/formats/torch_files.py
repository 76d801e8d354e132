"""Networks with PyTorch's weights, read and written without PyTorch.

Brainchop's command line describes the layers in ``model.json``::

    {
      "bnorm": false,                  normalise each channel after hidden convolutions
      "gelu": false, "elu": false,     GELU in its tanh form, or ELU, else ReLU
      "activation": "silu",            or any other one
      "layers": [                      convolutions in order; widths come from the weights
        {"kernel_size": 3, "padding": 1, "stride": 1, "dilation": 1},
        {"kernel_size": 2, "padding": 0, "stride": 2, "transposed": true, "activation": "linear"}
      ]
    }

``activation`` and ``transposed`` are extensions. The last layer has no activation. Other networks
are described by Keras' layer configurations in the header of the safetensors file.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...system.atomic import Writer, publish, text_writer
from ...system.errors import ModelError
from ..network import Network, Op, fold_batchnorm
from .files import check_file, parse_json
from .layer_graph import topology
from .layer_reader import NORM_MARK, network_from_layers
from .layer_settings import whole
from .layer_writer import described, mark_normalised
from .torch_state import read_state

_KEY = 'brainchop_network'


def save_safetensors(network: Network, folder: Path) -> list[Path]:
    """Write a network as safetensors, in PyTorch's order of axes.

    Parameters
    ----------
    network : Network
        The network; its batch normalisation is folded.
    folder : Path
        Gets ``model.safetensors``, and for a chain ``model.json``. Names of weights are those of
        a ``torch.nn.Sequential`` called ``model`` for a chain, and those of layers otherwise.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ModelError
        If the network cannot be described.
    OutputError
        If it cannot be written.
    """
    from safetensors.numpy import save

    network = mark_normalised(fold_batchnorm(network))
    description = _describe(network)
    numbers = {op.name: f'model.{number}' for number, op in enumerate(network.ops[1:])}
    layers, arrays = described(network, depthwise=False)
    state = {}
    for key, values in arrays.items():
        layer, _, variable = key.rpartition('/')
        array = np.moveaxis(values, (-1, -2), (0, 1)) if variable == 'kernel' else values
        name = 'weight' if variable == 'kernel' else variable
        state[f'{numbers[layer] if description else layer}.{name}'] = np.ascontiguousarray(array)
    header = {'format': 'pt'}
    if not description:
        header[_KEY] = json.dumps(layers, separators=(',', ':'))
    content = save(state, header)
    weights, file = folder / 'model.safetensors', folder / 'model.json'
    files: list[tuple[Path, Writer]] = [(weights, lambda path: path.write_bytes(content))]
    if description:
        files.append((file, text_writer(json.dumps(description, indent=2) + '\n')))
    publish(files)
    return [path for path, _ in files]


def _describe(network: Network) -> dict[str, Any] | None:
    """Return the ``model.json`` of a chain; None for other networks."""
    if not network.is_chain or network.of_images:
        return None
    convolutions = [op for op in network.ops if op.kind == 'conv']
    between = _between(network)
    kinds = {tuple(op.kind for op in group) for group in between[:-1]}
    functions = {
        op.settings['function'] for group in between for op in group if op.is_activation()
    }
    odd = any(n % 2 == 0 or n != op.kernel_size[0] for op in convolutions for n in op.kernel_size)
    uneven = any(len(set(op.settings['dilation'])) > 1 for op in convolutions)
    names = [op.name for op in network.ops if op.kind == 'group_norm']
    unmarked = any(not name.endswith(f'{NORM_MARK}_norm') for name in names)
    alphas = any(op.settings['alpha'] != 1 for op in network.ops if op.is_activation())
    if (
        between[-1]
        or len(functions) > 1
        or kinds - {('activation',), ('group_norm', 'activation')}
        or len(kinds) > 1
        or odd
        or uneven
        or alphas
        or unmarked
    ):
        return None
    layers = []
    for op in convolutions:
        size, dilation = op.kernel_size[0], op.settings['dilation'][0]
        channels = op.weights['kernel'].shape[3:]
        layers.append(
            {
                'in_channels': channels[0],
                'out_channels': channels[1],
                'kernel_size': size,
                'padding': dilation * (size - 1) // 2,
                'stride': 1,
                'dilation': dilation,
            }
        )
    function = functions.pop() if functions else 'relu'
    return {
        'header': 'written by brainchop-bids',
        'bnorm': ('group_norm', 'activation') in kinds,
        'gelu': function == 'gelu_tanh',
        'elu': function == 'elu',
        'dropout_p': 0,
        'bias': any('bias' in op.weights for op in convolutions),
        'activation': function,
        'layers': layers,
    }


def _between(network: Network) -> list[list[Op]]:
    """Return the operations after each convolution of a chain."""
    groups: list[list[Op]] = []
    for op in network.ops[1:]:
        if op.kind == 'conv':
            groups.append([])
        elif groups:
            groups[-1].append(op)
    return groups


def network_of_header(path: Path) -> Network | None:
    """Read a safetensors file with layer configurations in its header; None without these.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ModelError
        If header and weights do not match.
    """
    from safetensors import safe_open

    check_file(path)
    try:
        with safe_open(path, 'numpy') as file:
            header = (file.metadata() or {}).get(_KEY)
    except Exception:
        # `read_state` raises an error with the reason.
        return None
    if header is None:
        return None
    layers, _ = topology({'class_name': 'Functional', 'config': parse_json(header, path)}, path)
    weights = {}
    for name, array in read_state(path).items():
        layer, _, variable = name.rpartition('.')
        weights[f'{layer}/{"kernel" if variable == "weight" else variable}'] = array
    return network_from_layers(path, layers, weights, files=(path,))


def network_of_state(
    source: Path, description: Any, state: dict[str, np.ndarray], files: tuple[Path, ...]
) -> Network:
    """Build a network from a state dict and the content of brainchop's ``model.json``.

    Parameters
    ----------
    source : Path
        The file with the description, for messages.
    description : object
        See the docstring of this module.
    state : dict of str to array
        From `read_state`.
    files : tuple of Path
        All files of the model.

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        If description and weights do not match.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, array in state.items():
        module, _, variable = name.rpartition('.')
        modules.setdefault(module, {})[variable] = array
    convolutions = [m for m in modules.values() if m.get('weight', np.empty(0)).ndim == 5]
    norms = [module for module in modules.values() if 'running_mean' in module]
    if len(convolutions) + len(norms) < len(modules):
        raise ModelError(
            f'{source}: has weights of layers other than convolutions and batch normalisations'
        )
    try:
        layers = list(description['layers'])
        if len(layers) != len(convolutions):
            raise ValueError(f'{len(layers)} layers for {len(convolutions)} convolutions')
        builder = _LayerBuilder(description, norms, int(convolutions[0]['weight'].shape[3]))
        for i, layer in enumerate(layers):
            builder.add(i, layer, convolutions[i], last=i == len(layers) - 1)
        if builder.norms:
            raise ValueError(f'{len(builder.norms)} more batch normalisations than layers')
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f'{source}: does not match its weights ({error})') from error
    return network_from_layers(source, builder.layers, builder.weights, files=files)


class _LayerBuilder:
    """Builds Keras' layer configurations."""

    def __init__(
        self, description: Any, norms: list[dict[str, np.ndarray]], channels: int
    ) -> None:
        self.normed = bool(description.get('bnorm'))
        self.norms = list(norms)
        upstream = 'gelu_tanh' if description.get('gelu') else 'relu'
        if description.get('elu'):
            upstream = 'elu'
        self.activation = description.get('activation', upstream)
        shape = [None, None, None, None, channels]
        self.layers: list[dict[str, Any]] = []
        self.weights: dict[str, np.ndarray] = {}
        self._append('InputLayer', 'input', batch_input_shape=shape)

    def add(self, i: int, layer: Any, module: dict[str, np.ndarray], *, last: bool) -> None:
        kernel = module['weight']
        transposed = bool(layer.get('transposed'))
        size = list(kernel.shape[:3])
        stride, dilation = whole(layer.get('stride', 1)), whole(layer.get('dilation', 1))
        normed = self.normed and not last
        # Without stored statistics each volume is normalised by its own.
        name = f'conv3d_{i}' + (NORM_MARK if normed and not self.norms else '')
        config = {
            'filters': kernel.shape[3 if transposed else 4],
            'kernel_size': size,
            'strides': [stride] * 3,
            'dilation_rate': [dilation] * 3,
            'padding': self._padding(i, layer, size, transposed),
            'use_bias': 'bias' in module,
        }
        self._append('Conv3DTranspose' if transposed else 'Conv3D', name, **config)
        self.weights[f'{name}/kernel'] = kernel
        if 'bias' in module:
            self.weights[f'{name}/bias'] = module['bias']
        if normed and self.norms:
            self._batch_norm(f'norm_{i}', self.norms.pop(0))
        if not last:
            activation = layer.get('activation', self.activation)
            self._append('Activation', f'activation_{i}', activation=activation)

    def _padding(self, i: int, layer: Any, size: list[int], transposed: bool) -> str:
        padding, dilation = whole(layer.get('padding', 0), 0), whole(layer.get('dilation', 1))
        same = [dilation * (n - 1) for n in size] == [2 * padding] * 3
        if transposed or padding == 0:
            if padding:
                raise ValueError(f'layer {i} is transposed and padded')
            return 'valid'
        if same and layer.get('stride', 1) == 1:
            return 'same'
        # Keras pads strided layers on one side only.
        self._append('ZeroPadding3D', f'padding_{i}', padding=[[padding] * 2] * 3)
        return 'valid'

    def _batch_norm(self, name: str, module: dict[str, np.ndarray]) -> None:
        affine = 'weight' in module
        config = {'epsilon': 1e-5, 'scale': affine, 'center': affine}
        self._append('BatchNormalization', name, **config)
        names = {'gamma': 'weight', 'beta': 'bias'} if affine else {}
        names |= {'moving_mean': 'running_mean', 'moving_variance': 'running_var'}
        for ours, theirs in names.items():
            self.weights[f'{name}/{ours}'] = module[theirs]

    def _append(self, kind: str, name: str, **config: Any) -> None:
        self.layers.append({'class_name': kind, 'name': name, 'config': {'name': name, **config}})
