"""Our networks against PyTorch convolutions built from the same files, by other code."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.models.spec import load_spec

torch = pytest.importorskip(
    'torch', reason='PyTorch is the independent reference: pip install torch'
)

MODELS = (
    'model5_gw_ae',
    'model11_gw_ae',
    'model20chan3cls',
    'model18cls',
    'model30chan18cls',
    'model30chan50cls',
    'model21_104class',
    'mindgrab',
)


@torch.no_grad()
def reference_logits(folder: Path, volume: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Compute a MeshNet's logits with PyTorch, straight from the bytes of its tfjs folder."""
    model = json.loads((folder / 'model.json').read_text())
    (group,) = model['weightsManifest']
    values = np.concatenate([np.fromfile(folder / path, '<f4') for path in group['paths']])
    weights, start = {}, 0
    for weight in group['weights']:
        size = int(np.prod(weight['shape']))
        weights[weight['name']] = values[start : start + size].reshape(weight['shape'])
        start += size
    x = torch.from_numpy(np.ascontiguousarray(volume))[None, None].to(dtype)
    functional = torch.nn.functional
    for layer in model['modelTopology']['model_config']['config']['layers']:
        name, config = layer['config']['name'], layer['config']
        if layer['class_name'] == 'Conv3D':
            kernel = torch.from_numpy(
                weights[f'{name}/kernel'].transpose(4, 3, 0, 1, 2).copy()
            ).to(dtype)
            bias = weights.get(f'{name}/bias')
            bias = None if bias is None else torch.from_numpy(bias.copy()).to(dtype)
            dilation = config['dilation_rate'][0]
            padding = dilation * (kernel.shape[2] - 1) // 2
            x = functional.conv3d(x, kernel, bias, padding=padding, dilation=dilation)
            if name.endswith('_gn'):
                x = functional.group_norm(x, x.shape[1], eps=1e-5)
        elif layer['class_name'] == 'Activation':
            x = {
                'relu': functional.relu,
                'elu': functional.elu,
                'gelu': lambda x: functional.gelu(x, approximate='tanh'),
            }[config['activation']](x)
    return x[0].permute(1, 2, 3, 0).numpy()


def head_scan(shared: Path) -> np.ndarray:
    return np.asarray(nib.load(shared / 'data' / 't1w' / 'brainchop_t1_crop.nii.gz').dataobj)


@pytest.mark.parametrize('name', MODELS)
def test_logits_of_a_crop(shared: Path, name: str) -> None:
    """Double precision: on such a crop PyTorch's float32 is itself up to 1.4e-4 away from it."""
    spec = load_spec(shared / 'models' / 'brainchop' / name)
    crop = head_scan(shared)[90:154, 90:138, 100:140]
    volume = normalise(crop, spec.normalization)
    expected = reference_logits(spec.folder, volume, torch.float64)
    found = KerasEngine(spec, threads=2).logits(crop)
    # model11's logits reach 91, where one float32 step is 8e-6.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_the_autoencoder(shared: Path) -> None:
    """robust_tissue, built from the numbers of ``spec/models.md`` and torch's own reader."""
    spec = load_spec(shared / 'models' / 'brainchop_pth' / 'robust_tissue')
    assert [label.abbreviation for label in spec.labels] == ['BG', 'GM', 'WM']
    assert (spec.parameters, str(spec.normalization)) == (219_219, 'quantile:0.02:0.98:clip')

    def conv(before: int, after: int, dilation: int, stride: int = 1) -> list[torch.nn.Module]:
        padding = dilation if stride == 1 else 1
        layer = torch.nn.Conv3d(before, after, 3, stride, padding, dilation if stride == 1 else 1)
        return [layer, torch.nn.SiLU()]

    layers = [*conv(1, 16, 1)]
    for dilation in (2, 4, 6, 8):
        layers += conv(16, 16, dilation)
    layers += conv(16, 32, 1, stride=2)
    for dilation in (10, 12, 16, 12, 10):
        layers += conv(32, 32, dilation)
    layers += [torch.nn.ConvTranspose3d(32, 16, 2, 2)]
    for dilation in (8, 6, 4, 2, 1):
        layers += conv(16, 16, dilation)
    network = torch.nn.Sequential(*layers, torch.nn.Conv3d(16, 3, 1)).double()
    network.load_state_dict(torch.load(spec.folder / 'model.pth', weights_only=True))
    crop = head_scan(shared)[90:154, 90:138, 100:140]
    volume = torch.from_numpy(normalise(crop, spec.normalization))[None, None].double()
    expected = network(volume)[0].permute(1, 2, 3, 0).numpy()
    found = KerasEngine(spec, threads=2).logits(crop)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('name', ['model5_gw_ae', 'model21_104class', 'mindgrab'])
def test_the_command_lines_files_hold_the_same_networks(shared: Path, name: str) -> None:
    found = load_spec(shared / 'models' / 'brainchop_pth' / name)
    web = load_spec(shared / 'models' / 'brainchop' / name)
    assert found.format == 'pth'
    assert found.known
    assert found.weights_sha256 == web.weights_sha256
    assert found.labels == web.labels
    crop = np.asarray(head_scan(shared)[90:122, 90:122, 100:132])
    ours = KerasEngine(found, threads=2).logits(crop)
    np.testing.assert_array_equal(ours, KerasEngine(web, threads=2).logits(crop))


def test_labels_and_logits_of_a_whole_head(shared: Path) -> None:
    spec = load_spec(shared / 'models' / 'brainchop' / 'model5_gw_ae')
    rule = Normalization.parse('quantile:0.02:0.98:clip')
    scan = head_scan(shared)
    assert scan.shape == (256, 256, 256)
    found = KerasEngine(spec, threads=2, normalization=rule).logits(scan)
    counts = np.bincount(found.argmax(-1).ravel(), minlength=3)
    np.testing.assert_allclose(counts[1:], (502_702, 751_235), rtol=1e-3)
    expected = reference_logits(spec.folder, normalise(scan, rule), torch.float32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
