"""ONNX files of other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from brainchop_bids.cli.models import main
from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_plan
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import MemoryLimitError, SettingsError
from brainchop_bids.system.resources import Granted
from tests.corpus.onnx import OPEN, constant, onnx_model, save


def unet(
    *,
    given: Sequence[Any] = ('n', 2, 'x', 'y', 'z'),
    last: str = '',
    classes: int = 3,
) -> Any:
    """Return a U-Net of two levels, whose grids need even sides, and a normalisation."""
    chance = np.random.default_rng(0)

    def kernel(name: str, *sizes: int) -> Any:
        return constant(name, chance.standard_normal(sizes) / 4, np.float32)

    weights = [
        kernel('a', 4, 2, 3, 3, 3),
        kernel('b', 6, 4, 3, 3, 3),
        kernel('c', 6, 4, 2, 2, 2),
        kernel('d', classes, 8, 1, 1, 1),
        constant('ones', np.ones(6), np.float32),
        constant('halves', np.ones(6) / 2, np.float32),
    ]
    padded = {'pads': [1] * 6}
    nodes = [
        helper.make_node('Conv', ['in', 'a'], ['fine'], **padded),
        helper.make_node('Conv', ['fine', 'b'], ['coarse'], strides=[2] * 3, **padded),
        helper.make_node('InstanceNormalization', ['coarse', 'ones', 'halves'], ['normed']),
        helper.make_node('Elu', ['normed'], ['active']),
        helper.make_node('ConvTranspose', ['active', 'c'], ['up'], strides=[2] * 3),
        helper.make_node('Concat', ['fine', 'up'], ['both'], axis=1),
        helper.make_node('Conv', ['both', 'd'], ['logits' if last else 'out']),
    ]
    if last:
        more = {'axis': 1} if last == 'Softmax' else {}
        nodes.append(helper.make_node(last, ['logits'], ['out'], **more))
    return onnx_model(nodes, weights, given=given, made=('n', classes, *given[2:]))


def channels_last(model: Any) -> Any:
    """Return a model whose input and output have channels last, as TensorFlow's."""
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = {'in': 'given', 'out': 'made'}.get(name, name)
    before = helper.make_node('Transpose', ['in'], ['given'], perm=[0, 4, 1, 2, 3])
    graph.node.insert(0, before)
    graph.node.append(helper.make_node('Transpose', ['made'], ['out'], perm=[0, 2, 3, 4, 1]))
    for end in (graph.input[0], graph.output[0]):
        sides = end.type.tensor_type.shape.dim
        channels = onnx.TensorShapeProto.Dimension()
        channels.CopyFrom(sides[1])
        del sides[1]
        sides.append(channels)
    return model


def write(folder: Path, model: Any) -> None:
    """Write a model folder of a network with two channels."""
    save(folder, model)
    (folder / 'brainchop.json').write_text('{"inputs": ["T1w", "T2w"]}')


def by_onnxruntime(path: Path, volume: np.ndarray, *, first: bool = True) -> np.ndarray:
    """Return (X, Y, Z, classes) of a normalised volume (X, Y, Z, channels)."""
    session = pytest.importorskip('onnxruntime').InferenceSession(path)
    given = np.moveaxis(volume, -1, 0) if first else volume
    (made,) = session.run(None, {'in': np.ascontiguousarray(given[None])})
    return np.moveaxis(made[0], 0, -1) if first else made[0]


def scan(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a volume, and its channels as the default normalisation makes them."""
    data = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    channels = [normalise(channel, Normalization()) for channel in np.moveaxis(data, -1, 0)]
    return data, np.stack(channels, -1)


@pytest.mark.parametrize(
    ('model', 'last'),
    [
        (unet(), False),
        (channels_last(unet()), True),
        (unet(given=(1, 2, 20, 16, 24)), False),
        (channels_last(unet(given=(1, 2, 20, 16, 24), classes=2)), True),
    ],
    ids=['open sizes', 'channels last', 'one size', 'ambiguous'],
)
def test_logits_are_those_of_onnxruntime(model: Any, last: bool, tmp_path: Path) -> None:
    write(tmp_path / 'net', model)
    spec = load_spec(tmp_path / 'net')
    fixed = spec.block is not None
    assert spec.block == ((20, 16, 24) if fixed else None)
    assert (spec.in_channels, spec.classes) == (2, len(spec.labels))
    assert fixed or spec.graph.unit == 2
    data, volume = scan(20, 16, 24, 2)
    expected = by_onnxruntime(tmp_path / 'net' / 'model.onnx', volume, first=not last)
    found = OpenvinoEngine(spec, threads=1).logits(data)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_other_sizes_are_filled_with_zeros(tmp_path: Path) -> None:
    write(tmp_path / 'net', unet())
    data, volume = scan(17, 16, 9, 2)
    padded = np.pad(volume, [(0, 1), (0, 0), (0, 1), (0, 0)])
    expected = by_onnxruntime(tmp_path / 'net' / 'model.onnx', padded)[:17, :, :9]
    found = OpenvinoEngine(load_spec(tmp_path / 'net'), threads=1).logits(data)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(('last', 'classes'), [('Softmax', 3), ('Sigmoid', 1)])
@pytest.mark.parametrize('first', [True, False], ids=['channels first', 'channels last'])
def test_probabilities_are_not_transformed_twice(
    last: str, classes: int, first: bool, tmp_path: Path
) -> None:
    model = unet(last=last, classes=classes)
    # Their axes are turned after they were computed.
    write(tmp_path / 'net', model if first else channels_last(model))
    data, volume = scan(16, 16, 16, 2)
    expected = by_onnxruntime(tmp_path / 'net' / 'model.onnx', volume, first=first)
    found = np.empty((16, 16, 16, max(classes, 2)), np.float32)
    OpenvinoEngine(load_spec(tmp_path / 'net'), threads=1).probabilities(data, found)
    np.testing.assert_allclose(found[..., -classes:], expected, atol=1e-5)


def test_verify_import_and_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With weights in a file beside it, as torch.onnx.export writes them."""
    folder = tmp_path / 'net'
    write(folder, unet())
    onnx.save(
        unet(), folder / 'model.onnx', save_as_external_data=True, location='w', size_threshold=0
    )
    assert main(['verify', str(folder)]) == 0
    assert 'OpenVINO and ONNX Runtime compute a test volume to' in capsys.readouterr().out
    assert main(['import', str(folder), '--name', 'copy', '--models-dir', str(tmp_path)]) == 0
    copy, spec = load_spec(tmp_path / 'copy'), load_spec(folder)
    assert sorted(p.name for p in copy.folder.iterdir()) == ['brainchop.json', 'model.onnx', 'w']
    assert (copy.weights_sha256, copy.labels) == (spec.weights_sha256, spec.labels)
    assert main(['convert', str(folder), 'keras', str(tmp_path / 'out')]) == 1
    err = capsys.readouterr().err
    assert f'{folder}/model.onnx: is an ONNX graph, which only OpenVINO runs' in err
    assert err.count('\n') == 1
    # Other weights are another model.
    (folder / 'w').write_bytes(bytes((folder / 'w').stat().st_size))
    assert load_spec(folder).sha256 != spec.sha256


def test_plans(tmp_path: Path) -> None:
    write(tmp_path / 'net', unet())
    spec, memory = load_spec(tmp_path / 'net'), Granted(8.0, 'test')
    box = (slice(9, 30),) * 3
    plan = make_plan(spec, (64, 64, 64), memory, InferenceOptions(), box=box)
    # A normalisation takes the whole volume, which is neither cropped nor tiled.
    assert (plan.engine, plan.device) == ('openvino', 'cpu')
    assert [tile.shape for tile in plan.tiles or ()] == [(64, 64, 64)]
    with pytest.raises(SettingsError, match='ONNX graph, which runs with OpenVINO on a CPU'):
        make_plan(spec, (64, 64, 64), memory, InferenceOptions(engine='tensorflow'))
    with pytest.raises(MemoryLimitError, match='for a volume of 512x512x512'):
        make_plan(spec, (512, 512, 512), memory, InferenceOptions())


@pytest.mark.parametrize('axis', [-1, 2], ids=['one axis', 'volume'])
def test_layer_normalisation_as_exporters_write_it(axis: int, tmp_path: Path) -> None:
    """As in UNETR by PyTorch: OpenVINO computes the axes from their number."""
    shape = (8,) if axis == -1 else (8, 8, 8)
    rng = np.random.default_rng(0)
    weights = [constant(n, rng.normal(1, 0.3, shape), np.float32) for n in ('scale', 'bias')]
    nodes = [
        helper.make_node('LayerNormalization', ['in', 'scale', 'bias'], ['normed'], axis=axis),
        helper.make_node('Concat', ['in', 'normed'], ['out'], axis=1),
    ]
    one, two = (1, 1, 8, 8, 8), (1, 2, 8, 8, 8)
    save(tmp_path / 'net', onnx_model(nodes, weights, given=one, made=two))
    data, volume = scan(8, 8, 8, 1)
    expected = by_onnxruntime(tmp_path / 'net' / 'model.onnx', volume)
    found = OpenvinoEngine(load_spec(tmp_path / 'net'), threads=1).logits(data[..., 0])
    assert np.ptp(expected[..., 1]) > 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_normalisation_over_a_volume_loses_no_digits(tmp_path: Path) -> None:
    """OpenVINO's own is 0.2 % off here."""
    weights = [constant(name, [n], np.float32) for name, n in (('one', 1), ('zero', 0))]
    node = helper.make_node('InstanceNormalization', ['in', 'one', 'zero'], ['out'])
    save(tmp_path / 'net', onnx_model([node], weights, made=OPEN))
    (tmp_path / 'net' / 'brainchop.json').write_text('{"normalization": "none"}')
    data = np.full((160, 160, 160), 77, np.uint8)
    data[:40, :40, :40] = np.random.default_rng(0).integers(0, 256, (40, 40, 40))
    found = OpenvinoEngine(load_spec(tmp_path / 'net'), threads=1).logits(data)[..., 1]
    expected = (data - data.mean()) / np.sqrt(data.var() + 1e-5)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
