"""State dicts that torch itself has written, and pickles that want more than tensors."""

import json
import os
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainchop_bids.inference.selftest import compute, self_test
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow

load_tensorflow()

from brainchop_bids.models.keras_model import build_model  # noqa: E402

torch = pytest.importorskip('torch', reason='torch writes what is read: pip install torch')
nn = torch.nn


def described(folder: Path, count: int, **more: Any) -> None:
    layers = [{'kernel_size': 3, 'padding': d, 'stride': 1, 'dilation': d} for d in (1, 2)]
    layers.append({'kernel_size': 1, 'padding': 0, 'stride': 1, 'dilation': 1})
    (folder / 'model.json').write_text(json.dumps({'layers': layers[:count], **more}))


def meshnet(norm: Any = None, activation: Any = nn.ReLU) -> Any:
    torch.manual_seed(0)
    layers = []
    for channels, dilation in ((1, 1), (4, 2)):
        layers.append(nn.Conv3d(channels, 4, 3, padding=dilation, dilation=dilation))
        layers += [norm(4)] if norm else []
        layers.append(activation())
    return nn.Sequential(*layers, nn.Conv3d(4, 3, 1)).eval()


@torch.no_grad()
def same(folder: Path, model: Any) -> None:
    volume = np.random.default_rng(0).random((1, 7, 8, 9, 1), np.float32)
    expected = model(torch.from_numpy(volume.transpose(0, 4, 1, 2, 3)))
    found = build_model(read_network(folder)[0])(volume)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 4, 1), rtol=1e-5, atol=1e-5)


def write(model: Any, folder: Path, suffix: str) -> None:
    if suffix == 'safetensors':
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / 'model.safetensors')
    else:
        torch.save(model.state_dict(), folder / f'model.{suffix}')


@pytest.mark.parametrize('suffix', ['pth', 'pt', 'safetensors'])
def test_what_torch_writes_computes_the_same(tmp_path: Path, suffix: str) -> None:
    model = meshnet()
    write(model, tmp_path, suffix)
    described(tmp_path, 3)
    same(tmp_path, model)


def test_activations_and_norms(tmp_path: Path) -> None:
    for name, model, more in (
        ('silu', meshnet(None, nn.SiLU), {'activation': 'silu'}),
        ('elu', meshnet(None, nn.ELU), {'elu': True}),
        ('gelu', meshnet(None, lambda: nn.GELU('tanh')), {'gelu': True}),
        ('batch', meshnet(nn.BatchNorm3d), {'bnorm': True}),
        ('channel', meshnet(lambda n: nn.GroupNorm(n, n, affine=False)), {'bnorm': True}),
    ):
        (tmp_path / name).mkdir()
        for buffer in model.buffers():
            if buffer.dtype == torch.float32:
                buffer.uniform_(0.5, 1.5)
        write(model, tmp_path / name, 'pth')
        described(tmp_path / name, 3, **more)
        same(tmp_path / name, model)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_normalised_channels_with_biases_run_with_both_engines(
    tmp_path: Path, suffix: str
) -> None:
    """Weights of an archive are read-only, and OpenVINO gets those before a normalisation."""
    model = meshnet(lambda n: nn.GroupNorm(n, n, affine=False))
    write(model, tmp_path, suffix)
    described(tmp_path, 3, bnorm=True)
    same(tmp_path, model)
    assert self_test(load_spec(tmp_path)) < 1e-5


def test_a_checkpoint_with_more_in_it(tmp_path: Path) -> None:
    model = meshnet()
    state = {f'module.{name}': value.double() for name, value in model.state_dict().items()}
    torch.save({'epoch': 3, 'state_dict': state}, tmp_path / 'model.pth')
    described(tmp_path, 3)
    same(tmp_path, model)


def test_a_view_into_a_larger_storage(tmp_path: Path) -> None:
    model = meshnet()
    model[0].weight.data = torch.rand(2, 3, 3, 3, 4, 5).permute(4, 0, 1, 2, 3, 5)[:, 1:, ..., 2]
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    described(tmp_path, 3)
    same(tmp_path, model)


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_network(folder)
    message = str(caught.value)
    assert '\n' not in message
    for part in (str(folder), *parts):
        assert part in message


class Evil:
    """Runs a command wherever it is unpickled as Python would."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f'touch {self.mark}',)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / 'mark'
    torch.save({'0.weight': Evil(mark)}, tmp_path / 'model.pth')
    refused(tmp_path, 'could run code', 'system')
    assert not mark.exists()
    # The test's own proof: torch's old way of loading does run it.
    torch.load(tmp_path / 'model.pth', weights_only=False)
    assert mark.exists()


def archive(path: Path, pickled: bytes, data: bytes = b'', **options: Any) -> None:
    with zipfile.ZipFile(path, 'w', **options) as file:
        file.writestr('m/data.pkl', pickled)
        file.writestr('m/data/0', data)


def test_archives_that_lie(tmp_path: Path) -> None:
    path = tmp_path / 'model.pth'
    torch.save(meshnet().state_dict(), path)
    whole = path.read_bytes()
    for part in (whole[:4], whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(part)
        refused(tmp_path, 'not a valid archive of torch.save')
    path.write_bytes(b'')
    refused(tmp_path, 'not a safetensors file or an archive')
    archive(path, pickle.dumps({}), bytes(1 << 20), compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path, 'is compressed')
    archive(path, pickle.dumps([1]))
    refused(tmp_path, 'has a list')
    archive(path, pickle.dumps({'a': 1}))
    refused(tmp_path, 'has no weights')
    torch.save(meshnet().state_dict(), path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in members.items():
            file.writestr(name, content[:8] if name.endswith('data/0') else content)
    refused(tmp_path, 'in 2 numbers')


def test_programs_are_named_as_such(tmp_path: Path) -> None:
    model = meshnet()
    volume = torch.zeros(1, 1, 4, 4, 4)
    torch.jit.trace(model, volume).save(tmp_path / 'model.pt')
    refused(tmp_path, 'is a TorchScript program', 'state_dict', 'torch.onnx.export')
    torch.export.save(torch.export.export(model, (volume,)), tmp_path / 'model.pt')
    refused(tmp_path, 'is a program of torch.export', 'state_dict', 'torch.onnx.export')


def test_a_description_that_does_not_fit(tmp_path: Path) -> None:
    torch.save(meshnet().state_dict(), tmp_path / 'model.pth')
    refused(tmp_path, 'has weights without a description')
    described(tmp_path, 2)
    refused(tmp_path, '2 layers for 3 convolutions')
    (tmp_path / 'model.json').write_text('[]')
    refused(tmp_path, 'does not match its weights')
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'model.pth')
    described(tmp_path, 3)
    refused(tmp_path, 'other than convolutions')


@pytest.mark.parametrize(('width', 'classes', 'like'), [(16, 3, 'robust_tissue'), (32, 18, 'big')])
def test_an_autoencoder_is_recognised_by_its_shapes(
    tmp_path: Path, width: int, classes: int, like: str
) -> None:
    """Weights of the layers of brainchop's SAE models, which nobody has published."""
    torch.manual_seed(0)
    widths = [1, *[width] * 5, *[2 * width] * 6]
    parts: list[nn.Module] = []
    for (given, made), d in zip(
        pairwise(widths), (1, 2, 4, 6, 8, 0, 10, 12, 16, 12, 10), strict=True
    ):
        parts += [nn.Conv3d(given, made, 3, 1 if d else 2, d or 1, d or 1), nn.SiLU()]
    parts.append(nn.ConvTranspose3d(2 * width, width, 2, 2))
    for d in (8, 6, 4, 2, 1):
        parts += [nn.Conv3d(width, width, 3, 1, d, d), nn.SiLU()]
    net = nn.Sequential(*parts, nn.Conv3d(width, classes, 1))
    torch.save(net.state_dict(), tmp_path / 'model.pth')
    spec = load_spec(tmp_path)
    assert (spec.classes, str(spec.normalization)) == (classes, 'quantile:0.02:0.98:clip')
    assert not spec.known
    assert any(f'has the layers of {like}' in line for line in spec.warnings)
    volume = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        expected = net(volume)[0].permute(1, 2, 3, 0).numpy()
    found = compute(read_network(tmp_path)[0], volume[0, 0, ..., None].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
