"""Networks of other frameworks, written and computed by the Python that these are installed in.

    python format_networks.py KIND FOLDER [UPSTREAM]

See README.md in this folder. KIND is one of

nobrainer  networks of nobrainer 1.2.1, which needs Keras 2, as .h5
keras      networks of layers that are common, by Keras 2 or 3, as .h5 and .keras
tfjs       every .h5 and .keras that lies in FOLDER already, by the converter of tensorflowjs, some
           also quantised or in shards; and the models in UPSTREAM, which are in this format
torch      state dicts, as .pth, .pt and .safetensors; and the models in UPSTREAM

Weights are random, but for those of UPSTREAM. Each network gets a folder NAME, and NAME.npz beside
it: its logits in one cube and its labels in all.
"""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 32, 4
Compute = Callable[[np.ndarray], np.ndarray]


def expect(folder: Path, name: str, by: str, compute: Compute) -> None:
    """Store what a framework computes, cube by cube; `compute` returns (X, Y, Z, channels)."""
    given = np.load(folder / 'given.npz')
    data = given['volume']
    labels = np.zeros(data.shape, np.uint8)
    for corner in np.ndindex(*(n // SIDE for n in data.shape)):
        cube = tuple(slice(SIDE * i, SIDE * (i + 1)) for i in corner)
        logits = compute(data[cube])
        labels[cube] = logits.argmax(-1) if logits.shape[-1] > 1 else logits[..., 0] > 0
        if corner == tuple(given['corner']):
            kept = logits
    np.savez(folder / f'{name}.npz', logits=kept, labels=labels, by=by)
    print(name, by, flush=True)


def place(folder: Path, name: str) -> Path:
    """Make the folder of a network."""
    made = folder / name
    made.mkdir()
    return made


# Keras 2 and 3


def by_keras(model: Any) -> Compute:
    """Return a function that computes the logits: the last activation is taken off."""
    if hasattr(model.layers[-1], 'activation'):
        model.layers[-1].activation = lambda x: x
    return lambda cube: np.asarray(model(cube[None, ..., None], training=False))[0]


def version_of(keras: Any) -> str:
    """Return the version of Keras; that of Keras 2 is not in TensorFlow's part of it."""
    if hasattr(keras, '__version__'):
        return keras.__version__
    from importlib.metadata import version

    return version('keras')


def randomise(model: Any) -> None:
    """Give every weight a random value that keeps signals in size."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.name
        if 'kernel' in name:
            variable.assign(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
        elif 'seed' not in name:
            one = 'variance' in name or 'gamma' in name
            variable.assign(rng.uniform(0.5 if one else -0.3, 1.5 if one else 0.3, shape))


def nobrainer(folder: Path, _: Any) -> None:
    """Write nobrainer's networks."""
    import tensorflow as tf
    from nobrainer.models.attention_unet import attention_unet
    from nobrainer.models.highresnet import highresnet
    from nobrainer.models.meshnet import meshnet
    from nobrainer.models.unet import unet
    from nobrainer.models.vnet import vnet

    networks = {
        'unet': lambda shape: unet(CLASSES, shape, batchnorm=True),
        'meshnet': lambda shape: meshnet(CLASSES, shape, filters=21),
        'brain-meshnet': lambda shape: meshnet(1, shape, receptive_field=37, filters=21),
        'vnet': lambda shape: vnet(CLASSES, shape),
        'highresnet': lambda shape: highresnet(CLASSES, shape),
        'attention-unet': lambda shape: attention_unet(CLASSES, shape),
    }
    for name, make in networks.items():
        model = make((SIDE, SIDE, SIDE, 1))
        randomise(model)
        where = place(folder, f'nobrainer-{name}-h5')
        model.save(where / 'model.h5')
        # Dropout that nobrainer leaves active (vnet) makes each result another one.
        for layer in model.layers:
            if 'Dropout' in type(layer).__name__:
                layer.call = lambda inputs, training=None: inputs
        by = f'nobrainer 1.2.1, Keras {version_of(tf.keras)}'
        expect(folder, where.name, by, by_keras(model))


def keras_networks(keras: Any) -> dict[str, Any]:
    """Return networks of the layers that Keras 2 and 3 have in common."""
    layers, shape = keras.layers, (SIDE, SIDE, SIDE, 1)

    def conv(filters: int, size: int = 3, **more: Any) -> Any:
        return layers.Conv3D(filters, size, padding='same', **more)

    meshnet = [keras.Input(shape)]
    for dilation in (1, 2, 4, 8, 1):
        meshnet += [conv(8, dilation_rate=dilation), layers.BatchNormalization()]
        meshnet += [layers.ReLU(), layers.Dropout(0.1)]

    inputs = keras.Input(shape)
    x = skip = layers.Activation('elu')(layers.BatchNormalization()(conv(8)(inputs)))
    x = layers.LeakyReLU(0.2)(conv(12)(layers.MaxPooling3D(2)(x)))
    x = conv(16, strides=2, activation='swish')(x)
    x = layers.Conv3DTranspose(12, 3, strides=2, padding='same', activation='relu')(x)
    x = layers.Concatenate()([skip, layers.Conv3DTranspose(8, 2, strides=2)(x)])
    unet = keras.Model(inputs, conv(CLASSES, 1, activation='softmax')(conv(8)(x)))

    inputs = keras.Input(shape)
    x = skip = layers.GroupNormalization(2)(conv(8, activation='mish')(inputs))
    x = layers.LayerNormalization()(conv(8)(layers.AveragePooling3D(2)(x)))
    given = keras.Input((None, None, None, 8))
    nested = keras.Sequential([keras.Input((None, None, None, 8)), conv(8), layers.ReLU()])
    x = keras.Model(given, layers.Add()([nested(given), given]))(x)
    x = layers.UpSampling3D(2)(layers.SpatialDropout3D(0.2)(x))
    gate = layers.Activation('sigmoid')(conv(8, 1)(layers.Add()([x, skip])))
    x = layers.PReLU(shared_axes=[1, 2, 3])(layers.Multiply()([gate, skip]))
    gated = keras.Model(inputs, layers.Dense(CLASSES, activation='softmax')(x))
    return {
        'meshnet': keras.Sequential([*meshnet, conv(CLASSES, 1, activation='softmax')]),
        'unet': unet,
        'gated': gated,
    }


def keras(folder: Path, _: Any) -> None:
    """Write networks by the Keras that is installed, in both of its formats."""
    import tensorflow as tf

    version = version_of(tf.keras)
    for name, model in keras_networks(tf.keras).items():
        randomise(model)
        written = []
        for suffix in ('h5', 'keras'):
            written.append(place(folder, f'keras{version[0]}-{name}-{suffix}'))
            model.save(written[-1] / f'model.{suffix}')
        compute = by_keras(model)
        for where in written:
            expect(folder, where.name, f'Keras {version}, TensorFlow {tf.__version__}', compute)


# tensorflowjs


def tfjs(folder: Path, upstream: 'Path | None') -> None:
    """Convert what the other kinds have written, and compute brainchop's models."""
    import tensorflowjs
    from tensorflowjs.converters import converter, load_keras_model

    by = f'tensorflowjs {tensorflowjs.__version__}'
    ways = {
        'shards': ['--weight_shard_size_bytes', '20000'],
        'float16': ['--quantize_float16', '*'],
        'uint16': ['--quantize_uint16', '*'],
        'uint8': ['--quantize_uint8', '*'],
    }
    for file in sorted(folder.glob('*/model.*')):
        if file.suffix not in ('.h5', '.keras'):
            continue
        # The converter unpacks a .keras file beside it.
        source = folder / 'unpacked' / file.parent.name
        source.mkdir(parents=True)
        shutil.copy(file, source)
        form = 'keras' if file.suffix == '.h5' else 'keras_keras'
        common = [f'--input_format={form}', '--output_format=tfjs_layers_model']
        theirs = folder / f'{file.parent.name}.npz'
        name = f'{file.parent.name}-tfjs'
        converter.convert([*common, str(source / file.name), str(folder / name)])
        # Without quantisation it is the same network, so the same result is expected.
        content = dict(np.load(theirs))
        np.savez(folder / f'{name}.npz', **{**content, 'by': f'{content["by"]}, {by}'})
        if file.parent.name in ('keras2-unet-h5', 'keras2-meshnet-h5', 'nobrainer-meshnet-h5'):
            for way, options in ways.items():
                made = folder / f'{name}-{way}'
                converter.convert([*common, *options, str(source / file.name), str(made)])
                expect(folder, made.name, by, by_keras(load_keras_model(str(made / 'model.json'))))
    for file in sorted(upstream.glob('*/model.json')) if upstream else ():
        if 'conv3d_gn' in file.read_text() or '_gn"' in file.read_text():
            # mindgrab's normalisations are a mark that Keras does not know; see `torch`.
            continue
        name = f'brainchop-{file.parent.name}-tfjs'
        shutil.copytree(file.parent, folder / name, copy_function=shutil.copyfile)
        # A copy with open sizes is loaded, since the files are for 256^3 voxels.
        opened = folder / 'unpacked' / name
        shutil.copytree(file.parent, opened, copy_function=shutil.copyfile)
        topology = json.loads(file.read_text())
        for layer in topology['modelTopology']['model_config']['config']['layers']:
            if 'batch_input_shape' in layer['config']:
                layer['config']['batch_input_shape'] = [None, None, None, None, 1]
        (opened / 'model.json').chmod(0o644)
        (opened / 'model.json').write_text(json.dumps(topology))
        model = load_keras_model(str(opened / 'model.json'))
        expect(folder, name, f'{by} (load_keras_model)', by_keras(model))


# PyTorch


def by_torch(network: Any) -> Compute:
    """Return a function that computes a PyTorch network, in float64."""
    import torch

    network = network.double().eval()

    def compute(cube: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            made = network(torch.from_numpy(cube.astype(np.float64))[None, None])
        return made[0].numpy().transpose(1, 2, 3, 0)

    return compute


def chain(state: dict[str, Any], description: dict[str, Any]) -> Any:
    """Build the chain that brainchop's ``model.json`` describes, as brainchop does."""
    from torch import nn

    weights = [value for name, value in state.items() if value.ndim == 5]
    layers: list[Any] = []
    for number, (entry, weight) in enumerate(zip(description['layers'], weights, strict=True)):
        after, before, size = weight.shape[:3]
        bias = any(value.shape == (after,) for value in state.values())
        padding, dilation = entry['padding'], entry['dilation']
        layers.append(nn.Conv3d(before, after, size, 1, padding, dilation, bias=bias))
        if number < len(weights) - 1:
            if description.get('bnorm'):
                layers.append(nn.GroupNorm(after, after, affine=False))
            layers.append(nn.GELU('tanh') if description.get('gelu') else nn.ReLU())
    return nn.Sequential(*layers)


def autoencoder(state: dict[str, Any], description: None) -> Any:
    """Build robust_tissue or big_robust_tissue, whose files have no description."""
    from torch import nn

    weights = [value for value in state.values() if value.ndim == 5]
    dilations = [1, 2, 4, 6, 8, 0, 10, 12, 16, 12, 10, -1, 8, 6, 4, 2, 1]
    layers: list[Any] = []
    for dilation, weight in zip(dilations, weights, strict=False):
        after, before = weight.shape[:2]
        if dilation == -1:
            layers.append(nn.ConvTranspose3d(after, before, 2, 2))
            continue
        stride = 1 if dilation else 2
        layers += [nn.Conv3d(before, after, 3, stride, dilation or 1, dilation or 1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv3d(*weights[-1].shape[1::-1], 1))


def torch(folder: Path, upstream: 'Path | None') -> None:
    """Write state dicts, and compute brainchop's models."""
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn

    by = f'PyTorch {torch.__version__}'
    for suffix, norm, activation in (
        ('pth', lambda n: nn.BatchNorm3d(n), {'activation': 'silu'}),
        ('pt', lambda n: nn.GroupNorm(n, n, affine=False), {'gelu': True}),
        ('safetensors', None, {'elu': True}),
    ):
        torch.manual_seed(0)
        layers, entries, before = [], [], 1
        for dilation in (1, 2, 4, 8, 1):
            layers.append(nn.Conv3d(before, 8, 3, padding=dilation, dilation=dilation))
            layers += [norm(8)] if norm else []
            layers.append({'pth': nn.SiLU(), 'pt': nn.GELU('tanh')}.get(suffix, nn.ELU()))
            one = {'kernel_size': 3, 'padding': dilation, 'stride': 1, 'dilation': dilation}
            entries.append(one)
            before = 8
        network = nn.Sequential(*layers, nn.Conv3d(8, CLASSES, 1))
        entries.append({'kernel_size': 1, 'padding': 0, 'stride': 1, 'dilation': 1})
        for buffer in network.buffers():
            if buffer.dtype == torch.float32:
                buffer.uniform_(0.5, 1.5)
        where = place(folder, f'torch-meshnet-{suffix}')
        if suffix == 'safetensors':
            save_file(network.state_dict(), where / 'model.safetensors')
        else:
            torch.save(network.state_dict(), where / f'model.{suffix}')
        facts = {'layers': entries, 'bnorm': norm is not None, **activation}
        (where / 'model.json').write_text(json.dumps(facts))
        expect(folder, where.name, by, by_torch(network))
    for source in sorted(upstream.iterdir()) if upstream else ():
        where = place(folder, f'brainchop-{source.name}-pth')
        described = source / 'model.json'
        for file in (described, source / 'model.pth'):
            if file.exists():
                shutil.copyfile(file, where / file.name)
        # Some of brainchop's files of this name are safetensors.
        archive = (where / 'model.pth').read_bytes()[:2] == b'PK'
        read = load_file if not archive else partial(torch.load, map_location='cpu')
        state = read(where / 'model.pth')
        build = chain if described.exists() else autoencoder
        network = build(state, json.loads(described.read_text()) if described.exists() else None)
        ordered = list(state.values())
        network.load_state_dict(dict(zip(network.state_dict(), ordered, strict=True)))
        expect(folder, where.name, by, by_torch(network))


if __name__ == '__main__':
    kinds = {'nobrainer': nobrainer, 'keras': keras, 'tfjs': tfjs, 'torch': torch}
    more = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    kinds[sys.argv[1]](Path(sys.argv[2]), more)
