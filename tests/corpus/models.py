"""Model folders that are hostile or damaged; each function writes one and returns what is said."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.builders import write_model
from tests.tfjs_folder import activation, conv, layer, random_weights, two_layers, write_tfjs

CASES: dict[str, Callable[[Path], str]] = {}
DESCRIPTION = {'layers': [{'kernel_size': 1, 'padding': 0, 'stride': 1, 'dilation': 1}]}


def case(write: Callable[[Path], str]) -> Callable[[Path], str]:
    CASES[write.__name__] = write
    return write


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def tensor(size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """Return a pickle, as of torch.save, of ``{'0.weight': tensor}`` with one number stored."""
    numbers = [
        b'(' + b''.join(b'J' + struct.pack('<i', n) for n in t) + b't' for t in (size, stride)
    ]
    storage = (
        b'(' + text('storage') + b'ctorch\nFloatStorage\n' + text('0') + text('cpu') + b'K\x01tQ'
    )
    made = b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + b'K\x00' + b''.join(numbers)
    return b'\x80\x02}' + text('0.weight') + made + b'\x89ccollections\nOrderedDict\n)RtRs.'


def archive(folder: Path, pickled: bytes, **members: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / 'model.pth', 'w') as file:
        file.writestr('m/data.pkl', pickled)
        file.writestr('m/data/0', bytes(4))
        for name, content in members.items():
            file.writestr(f'm/{name}', content)
    (folder / 'model.json').write_text(json.dumps(DESCRIPTION))


@case
def zero_strides(folder: Path) -> str:
    archive(folder, tensor((1 << 12, 1 << 12, 8, 8, 8), (0,) * 5))
    return 'model.pth: its content would take over 32,768 MB of memory, but the file has'


@case
def zero_strides_beyond_any_memory(folder: Path) -> str:
    archive(folder, tensor((1 << 30,) * 5, (0,) * 5))
    return 'model.pth: is not a valid archive of torch.save'


@case
def pickle_of_512_mb(folder: Path) -> str:
    archive(folder, b'\x80\x04\x8e' + struct.pack('<Q', 1 << 29) + b'abc.')
    return 'model.pth: is not a valid archive of torch.save'


@case
def pickle_with_a_memo_of_gigabytes(folder: Path) -> str:
    archive(folder, b'\x80\x02}r' + struct.pack('<I', 1 << 31) + b'.')
    return 'model.pth: has no weights'


@case
def pickle_whose_keys_double(folder: Path) -> str:
    archive(folder, b'\x80\x02})' + b'2\x86' * 100 + b'K\x01s.')
    return 'the instruction DUP, which torch.save does not write'


@case
def pickle_with_tuples_as_keys(folder: Path) -> str:
    doubling = b''.join(b'q%ch%c\x86' % (i, i) for i in range(100))
    archive(folder, b'\x80\x02})' + doubling + b'K\x01s.')
    return 'a tuple as a key'


def keras_file(folder: Path, layers: list[Any], weights: bytes, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {'class_name': 'Sequential', 'config': {'layers': layers}}
    with zipfile.ZipFile(folder / 'model.keras', 'w', **options) as file:
        file.writestr('config.json', json.dumps(config))
        file.writestr('model.weights.h5', weights)


@case
def keras_of_unallocated_datasets(folder: Path) -> str:
    entry = layer('InputLayer', 'input', batch_shape=[None, 64, 64, 64, 2048])
    layers = [entry, *(conv(f'c{i}', 2048, 4, use_bias=False) for i in range(12))]
    stored = io.BytesIO()
    with h5py.File(stored, 'w') as file:
        for i in range(12):
            name = f'layers/conv3d_{i}/vars/0' if i else 'layers/conv3d/vars/0'
            file.create_dataset(name, (4, 4, 4, 2048, 2048), 'f4', chunks=(1, 1, 1, 2048, 64))
    keras_file(folder, layers, stored.getvalue())
    return 'model.keras: its content would take over 1,024 MB of memory, but the file has'


@case
def keras_with_a_huge_chunk(folder: Path) -> str:
    layers = [layer('InputLayer', 'input', batch_shape=[None, 8, 8, 8, 1]), conv('c', 2, 1)]
    stored = io.BytesIO()
    with h5py.File(stored, 'w') as file:
        options = {'maxshape': (None,) * 5, 'chunks': (64, 64, 64, 64, 32), 'compression': 'gzip'}
        file.create_dataset('layers/conv3d/vars/0', (1, 1, 1, 1, 2), 'f4', **options)
        file['layers/conv3d/vars/1'] = np.zeros(2, np.float32)
    keras_file(folder, layers, stored.getvalue())
    return 'model.keras: its content would take over 2,048 MB of memory, but the file has'


@case
def keras_as_a_zip_bomb(folder: Path) -> str:
    keras_file(folder, [], bytes(1 << 26), compression=zipfile.ZIP_DEFLATED)
    return 'MB of memory, but the file has'


@case
def keras_compressed_otherwise(folder: Path) -> str:
    keras_file(folder, [], b'', compression=zipfile.ZIP_LZMA)
    return 'config.json has compression 14, which Keras never uses'


@case
def keras_with_infinity(folder: Path) -> str:
    layers = [layer('InputLayer', 'input', batch_shape=[None, 8, 8, 8, 1])]
    keras_file(folder, [*layers, layer('LeakyReLU', 'x', negative_slope=float('nan'))], b'')
    return 'model.keras: is not JSON (NaN is no number)'


@case
def damaged_hdf5(folder: Path) -> str:
    folder.mkdir(parents=True)
    stored = io.BytesIO()
    with h5py.File(stored, 'w') as file:
        file['model_weights/a/x'] = np.zeros(999, np.float32)
        file.attrs['model_config'] = json.dumps({'class_name': 'Sequential'})
    (folder / 'model.h5').write_bytes(stored.getvalue()[:1500])
    return 'model.h5: is not a valid HDF5 file'


def safetensors(folder: Path, header: Any, data: bytes = b'', size: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(header).encode()
    length = struct.pack('<Q', len(content) if size is None else size)
    (folder / 'model.safetensors').write_bytes(length + content + data)


@case
def safetensors_of_a_long_header(folder: Path) -> str:
    safetensors(folder, {}, size=1 << 40)
    return 'model.safetensors: is not a safetensors file'


@case
def safetensors_of_a_large_tensor(folder: Path) -> str:
    safetensors(folder, {'w': {'dtype': 'F32', 'shape': [1 << 30], 'data_offsets': [0, 1 << 32]}})
    return 'model.safetensors: is not a safetensors file'


@case
def safetensors_with_layers_that_are_none(folder: Path) -> str:
    safetensors(folder, {'__metadata__': {'brainchop_network': '{"a": 1}'}})
    return 'model.safetensors: its topology cannot be read'


@case
def doubling_concatenates(folder: Path) -> str:
    layers = [conv('a', 2)]
    for i in range(60):
        before = layers[-1]['name']
        layers.append(layer('Concatenate', f'x{i}'))
        layers[-1]['inbound_nodes'] = [[[before, 0, 0, {}], [before, 0, 0, {}]]]
    write_tfjs(folder, layers, random_weights(a__kernel=(3, 3, 3, 1, 2), a__bias=(2,)))
    return '32,768 channels, over 16,384'


@case
def upsampling_without_end(folder: Path) -> str:
    layers = [conv('a', 2), *(layer('UpSampling3D', f'x{i}', size=[9] * 3) for i in range(60))]
    write_tfjs(folder, layers, random_weights(a__kernel=(3, 3, 3, 1, 2), a__bias=(2,)))
    return 'values of each voxel, over 1,048,576; such a network is refused'


def edited(folder: Path, edit: Callable[[Any], object]) -> None:
    two_layers(folder)
    path = folder / 'model.json'
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def first_layers(content: Any) -> Any:
    return content['modelTopology']['model_config']['config']['layers']


@case
def number_beyond_floats(folder: Path) -> str:
    two_layers(folder)
    path = folder / 'model.json'
    path.write_text(path.read_text().replace('"filters": 2', '"filters": 1e400'))
    return 'model.json: is not JSON (the number 1e400 is too large)'


@case
def deep_json(folder: Path) -> str:
    two_layers(folder)
    (folder / 'model.json').write_text('{"a":' + '[' * 100_000 + ']' * 100_000 + '}')
    return 'model.json: is not JSON (it has over 50 levels)'


@case
def deep_nodes(folder: Path) -> str:
    node: Any = 'a'
    for _ in range(60):
        node = [node]
    edited(folder, lambda content: first_layers(content)[1].update(inbound_nodes=node))
    return 'model.json: is not JSON (it has over 50 levels)'


@case
def text_as_a_shape(folder: Path) -> str:
    edited(
        folder, lambda content: content['weightsManifest'][0]['weights'][0].update(shape='33312')
    )
    return "weight 'a/kernel' of shape '33312'"


@case
def negative_shape(folder: Path) -> str:
    shape = [-3, -3, 3, 1, 2]
    edited(folder, lambda content: content['weightsManifest'][0]['weights'][0].update(shape=shape))
    return "weight 'a/kernel' of shape [-3, -3, 3, 1, 2]"


@case
def shape_that_wraps(folder: Path) -> str:
    shape = [1 << 32, 1 << 32]
    edited(folder, lambda content: content['weightsManifest'][0]['weights'][0].update(shape=shape))
    return 'weight file has'


@case
def negative_kernel(folder: Path) -> str:
    edited(folder, lambda content: first_layers(content)[1]['config'].update(kernel_size=[-3] * 3))
    return "layer 'a' cannot be read (-3 where a whole number of 1 to 4096 is expected)"


@case
def text_as_a_slope(folder: Path) -> str:
    change = layer('LeakyReLU', 'relu', alpha='nan')
    edited(folder, lambda content: first_layers(content)[2].update(change))
    return "layer 'relu' cannot be read ('nan' where a number of 0 to 1000 is expected)"


@case
def settings_that_are_no_object(folder: Path) -> str:
    edited(folder, lambda content: first_layers(content)[1].update(config=[1]))
    return 'model.json: its topology cannot be read'


@case
def one_name_for_two_layers(folder: Path) -> str:
    layers = [conv('a', 2), activation('a', 'relu')]
    write_tfjs(folder, layers, random_weights(a__kernel=(3, 3, 3, 1, 2), a__bias=(2,)))
    return "the name 'a' is used twice"


@case
def pipe_for_a_description(folder: Path) -> str:
    folder.mkdir(parents=True)
    os.mkfifo(folder / 'model.json')
    (folder / 'model.safetensors').touch()
    return 'model.json: cannot be read (is a FIFO, not a regular file)'


def overridden(facts: str, said: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        write_model(folder)
        (folder / 'brainchop.json').write_text(facts)
        return said

    return write


CASES |= {
    'open_of_1e30': overridden('{"components": "largest+open:1e30"}', 'open is 1e+30; expected'),
    'components_that_are_a_list': overridden('{"components": [1]}', 'components is [1]'),
    'facts_that_are_a_list': overridden('[1, 2]', 'brainchop.json: has [1, 2]; expected keys'),
    'labels_that_are_a_number': overridden('{"labels": 7}', '"labels" is no list'),
    'name_that_is_a_number': overridden('{"name": 7}', '"name" is 7; expected text'),
    'code_beyond_images': overridden(
        '{"labels": [{"freesurfer": 1234567890123}]}', 'expected a whole number of 0 to 65535'
    ),
    'quantiles_of_text': overridden(
        '{"normalization": {"kind": "quantile", "low": "a"}}',
        'expected text, or low and high as numbers',
    ),
    'normalization_that_is_a_list': overridden('{"normalization": [1]}', 'it is [1]'),
    'smoothing_of_nan': overridden('{"smooth": {"voxels": NaN}}', 'NaN is no number'),
    'integer_of_5000_digits': overridden(f'{{"name": {"9" * 5000}}}', 'is too large'),
}
