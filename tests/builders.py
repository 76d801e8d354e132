"""Small BIDS datasets and models, made by code."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

# The dataset of `make demo`.
DEMO = Path(__file__).parents[1] / 'examples' / 'bids'
DESCRIPTION = {'Name': 'made by a test', 'BIDSVersion': '1.10.0'}


def head(shape: tuple[int, int, int] = (48, 56, 48), seed: int = 0) -> np.ndarray:
    """Return a bright noisy ellipsoid in air, int16."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij'))
    inside = (grid**2).sum(0) < 0.6
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    return np.where(inside, 600 + 200 * grid[0] + noise, np.abs(noise)).astype(np.int16)


def write_scan(path: Path, data: np.ndarray | None = None, zoom: float = 4.0) -> Path:
    """Write a scan whose field of view is that of a head."""
    data = head() if data is None else data
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = -zoom * np.array(data.shape[:3]) / 2
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def extension_text(extension: nib.nifti1.Nifti1Extension) -> bytes:
    """Return the content of an extension of a NIfTI header, without padding."""
    # Before nibabel 5.3 there is no `content`, and since 5.4 `get_content` is for some kinds only.
    content: bytes = (
        extension.content if hasattr(extension, 'content') else extension.get_content()
    )
    return content.rstrip(b'\0')


def write_dataset(root: Path, names: list[str]) -> Path:
    """Write a dataset with one scan for each name, such as ``'sub-01/anat/sub-01_T1w.nii.gz'``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / 'dataset_description.json').write_text(json.dumps(DESCRIPTION))
    for number, name in enumerate(names):
        write_scan(root / name, head(seed=number))
    return root


def write_model(
    folder: Path,
    *,
    channels: int = 2,
    classes: int = 3,
    dilations: tuple[int, ...] = (1, 2),
    in_channels: int = 1,
) -> Path:
    """Write a tfjs MeshNet that labels by intensity: air 0, dark 1, bright 2.

    The centre taps carry the intensity through unchanged; the last layer draws the borders at
    0.2 and 0.6 of the normalised range. Of several input channels it looks at the last one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers = [_layer('InputLayer', 'input', batch_input_shape=[None, 256, 256, 256, in_channels])]
    blob, weights = b'', []
    inputs = in_channels
    for number, dilation in enumerate(dilations):
        kernel = np.zeros((3, 3, 3, inputs, channels), '<f4')
        kernel[1, 1, 1, inputs - 1 if number == 0 else 0, 0] = 1
        layers.append(_conv(f'conv_{number}', channels, 3, dilation))
        layers.append(_layer('Activation', f'activation_{number}', activation='relu'))
        blob, weights = _add(blob, weights, f'conv_{number}', kernel, np.zeros(channels, '<f4'))
        inputs = channels
    kernel = np.zeros((1, 1, 1, inputs, classes), '<f4')
    known = min(classes, 3)
    kernel[0, 0, 0, 0, :known] = (0.0, 10.0, 20.0)[:known]
    bias = np.full(classes, -100.0, '<f4')
    bias[:known] = (0.0, -2.0, -8.0)[:known]
    layers.append(_conv('output', classes, 1, 1))
    blob, weights = _add(blob, weights, 'output', kernel, bias)
    for before, layer in zip([None, *layers], layers, strict=False):
        layer['inbound_nodes'] = [[[before['name'], 0, 0, {}]]] if before else []
    config = {
        'name': 'model',
        'layers': layers,
        'input_layers': [['input', 0, 0]],
        'output_layers': [['output', 0, 0]],
    }
    topology = {'model_config': {'class_name': 'Functional', 'config': config}}
    model = {
        'format': 'layers-model',
        'modelTopology': topology,
        'weightsManifest': [{'paths': ['weights.bin'], 'weights': weights}],
    }
    (folder / 'model.json').write_text(json.dumps(model))
    (folder / 'weights.bin').write_bytes(blob)
    names = ['background', 'White Matter', 'Grey Matter', *(f'extra {i}' for i in range(3, 99))]
    colors = {'labels': names[:classes]}
    for channel, step in zip('RGB', (83, 57, 31), strict=True):
        colors[channel] = [index * step % 256 for index in range(classes)]
    (folder / 'colormap.json').write_text(json.dumps(colors))
    if in_channels == 2:
        (folder / 'brainchop.json').write_text('{"inputs": ["T1w", "T2w"]}')
    return folder


def _layer(kind: str, name: str, **config: object) -> dict:
    return {'class_name': kind, 'name': name, 'config': {'name': name, **config}}


def _conv(name: str, filters: int, size: int, dilation: int) -> dict:
    return _layer(
        'Conv3D',
        name,
        filters=filters,
        kernel_size=[size] * 3,
        strides=[1] * 3,
        padding='same',
        data_format='channels_last',
        dilation_rate=[dilation] * 3,
        activation='linear',
        use_bias=True,
    )


def _add(
    blob: bytes, weights: list, name: str, kernel: np.ndarray, bias: np.ndarray
) -> tuple[bytes, list]:
    entries = [('kernel', kernel), ('bias', bias)]
    added = [
        {'name': f'{name}/{kind}', 'shape': list(array.shape), 'dtype': 'float32'}
        for kind, array in entries
    ]
    return blob + b''.join(array.tobytes() for _, array in entries), [*weights, *added]


def write_localiser(folder: Path) -> Path:
    """Write a localiser, a tfjs network of images, that finds what is brighter than 300."""
    folder.mkdir(parents=True, exist_ok=True)
    conv = _conv('output', 2, 1, 1)
    conv['class_name'] = 'Conv2D'
    for key in ('kernel_size', 'strides', 'dilation_rate'):
        conv['config'][key] = [1, 1]
    conv['inbound_nodes'] = [[['input', 0, 0, {}]]]
    given = _layer('InputLayer', 'input', batch_input_shape=[None, 64, 64, 1])
    config = {
        'name': 'localiser',
        'layers': [{**given, 'inbound_nodes': []}, conv],
        'input_layers': [['input', 0, 0]],
        'output_layers': [['output', 0, 0]],
    }
    kernel = np.array([0, 0.1], '<f4').reshape(1, 1, 1, 2)
    blob, weights = _add(b'', [], 'output', kernel, np.array([0, -30], '<f4'))
    model = {
        'format': 'layers-model',
        'modelTopology': {'model_config': {'class_name': 'Functional', 'config': config}},
        'weightsManifest': [{'paths': ['weights.bin'], 'weights': weights}],
    }
    (folder / 'model.json').write_text(json.dumps(model))
    (folder / 'weights.bin').write_bytes(blob)
    (folder / 'labels.json').write_text('{"0": "background", "1": "Brain"}')
    facts = {'task': 'localise', 'normalization': 'none'}
    (folder / 'brainchop.json').write_text(json.dumps(facts))
    return folder
