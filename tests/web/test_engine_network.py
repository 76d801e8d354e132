"""Networks in the browser, against ONNX Runtime, on all kinds of chains and on tiles."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainchop_bids.models.formats.onnx_files import onnx_model
from brainchop_bids.models.formats.tfjs import save_tfjs
from brainchop_bids.models.formats.web_manifest import write_model
from brainchop_bids.models.keras_model import network_of
from brainchop_bids.models.meshnet import build_meshnet
from brainchop_bids.models.network import Network, fold_batchnorm
from brainchop_bids.models.spec import load_spec
from tests.browser import NpmPackages
from tests.models.networks import randomised, unet, write_localiser
from tests.web.engine import EngineError, ask, box_of, got, put

TABLE = (np.arange(256) / 120 - 0.5).astype(np.float32)
SHAPE = (45, 38, 41)


def scan(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, shape).astype(np.uint8)


def meshnet(**settings: Any) -> Network:
    return fold_batchnorm(network_of(randomised(build_meshnet(**settings))))


def single() -> Network:
    """Return a network with one logit, that of class 1."""
    return meshnet(channels=4, dilations=(1, 2), classes=1)


def single_sigmoid() -> Network:
    """Return one with the probability of class 1."""
    network = single()
    last = network.ops[-1]
    settings = {'function': 'sigmoid', 'alpha': 0.0}
    sigmoid = replace(
        last, name='probability', kind='activation', inputs=(last.name,), settings=settings,
        weights={},
    )  # fmt: skip
    return replace(network, ops=(*network.ops, sigmoid))


def logits_of(network: Network, volume: np.ndarray) -> np.ndarray:
    """Return ONNX Runtime's logits of a volume, channels last."""
    runtime = pytest.importorskip('onnxruntime', reason='pip install onnxruntime')
    pytest.importorskip('onnx', reason='pip install onnx')
    session = runtime.InferenceSession(onnx_model(network))
    (found,) = session.run(None, {'input': TABLE[volume][None, None]})
    return np.moveaxis(found[0], 0, -1)


def agrees(labels: np.ndarray, logits: np.ndarray) -> None:
    """Check labels where the largest logit is not one of two that are nearly the same."""
    best = np.sort(logits, -1)
    clear = best[..., -1] - best[..., -2] > 1e-4 * np.abs(logits).max()
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(labels[clear], logits.argmax(-1)[clear])
    assert np.unique(labels).size > 1


def model_folder(network: Network, folder: Path, **facts: Any) -> Path:
    """Write a model for the browser; return its folder."""
    source, target = folder / 'source', folder / 'web'
    source.mkdir()
    target.mkdir()
    save_tfjs(network, source)
    (source / 'brainchop.json').write_text(json.dumps({'normalization': 'minmax', **facts}))
    write_model(load_spec(source), target)
    return target


def label(folder: Path, model: Path, box: Any = None, **more: Any) -> tuple[np.ndarray, Any]:
    volume = scan()
    out = folder / 'labels.raw'
    found = ask(
        'label', model=model, volume=put(folder / 'volume.raw', volume), dims=SHAPE,
        box=box or box_of(SHAPE), table=TABLE.tolist(), out=out, **{'threads': 1, **more},
    )  # fmt: skip
    return got(out, np.uint8, SHAPE), found


@pytest.mark.parametrize(
    ('settings', 'threads'),
    [
        ({'channels': 5, 'dilations': (1, 2, 4, 2, 1), 'classes': 3}, 1),
        ({'channels': 16, 'dilations': (1, 2, 8, 16, 1), 'classes': 4}, 3),
        ({'channels': 21, 'dilations': (1, 3, 1), 'classes': 18, 'activation': 'elu'}, 2),
        ({'channels': 30, 'dilations': (2, 5), 'classes': 50, 'activation': 'elu'}, 1),
        ({'channels': 7, 'dilations': (1, 1), 'classes': 2, 'activation': 'leaky_relu'}, 2),
        ({'channels': 1, 'dilations': (1, 2), 'classes': 2}, 1),
    ],
)
def test_chains(tmp_path: Path, settings: dict[str, Any], threads: int) -> None:
    network = meshnet(**settings)
    model = model_folder(network, tmp_path)
    expected = logits_of(network, scan())
    labels, found = label(tmp_path, model, threads=threads)
    assert found['engine'] == 'brainchop WebAssembly'
    agrees(labels, expected)
    # In a box the labels are those of the whole volume.
    for low, high in (((6, 0, 11), (45, 20, 30)), ((17, 13, 14), (29, 25, 26))):
        inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        part, _ = label(tmp_path, model, {'low': low, 'high': high}, threads=threads)
        agrees(part[inside], expected[inside])
        part[inside] = 0
        assert not part.any()


@pytest.mark.parametrize('threads', [1, 3])
def test_chains_in_parts(tmp_path: Path, threads: int) -> None:
    model = model_folder(meshnet(channels=8, dilations=(1, 4, 2, 1), classes=3), tmp_path)
    whole, _ = label(tmp_path, model, threads=threads)
    said = r'needs 0\.0 GB of memory, more than the 0\.0 GB'
    with pytest.raises(EngineError, match=said) as error:
        label(tmp_path, model, threads=threads, most=100_000)
    assert '\n' not in error.value.args[1]
    # In two parts, and in three or four.
    for most in (1.7e6, 1.2e6):
        part, _ = label(tmp_path, model, threads=threads, most=most)
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize('make', [unet, single, single_sigmoid])
def test_other_networks_by_onnx_runtime(
    tmp_path: Path, npm_packages: NpmPackages, make: Callable[[], Network]
) -> None:
    modules = npm_packages('onnxruntime-web@1.30.0')
    network = make()
    model = model_folder(network, tmp_path)
    volume = scan((48, 40, 44))
    out = tmp_path / 'labels.raw'
    found = ask(
        'label', model=model, volume=put(tmp_path / 'volume.raw', volume), dims=volume.shape,
        box=box_of(volume.shape), table=TABLE.tolist(), threads=1, modules=modules, out=out,
    )  # fmt: skip
    assert found['engine'].startswith('onnxruntime-web')
    logits = logits_of(network, volume)
    if network.classes == 1:
        # Of a background of the same size on the other side.
        logits = logits - 0.5 * (make is single_sigmoid)
        logits = np.concatenate([-logits, logits], -1)
    agrees(got(out, np.uint8, volume.shape), logits)


@pytest.mark.parametrize('tables', ['brainchop.json', 'pair', 'colormap.json', 'none'])
def test_dropped_model(tmp_path: Path, tables: str) -> None:
    network = meshnet(channels=6, dilations=(1, 4, 1), classes=3, activation='elu')
    save_tfjs(network, tmp_path)
    names = ['background', 'White Matter', 'Grey Matter']
    contents: dict[str, Any] = {
        'brainchop.json': {'normalization': 'max', 'labels': [{'name': name} for name in names]},
        'labels.json': dict(enumerate(names)),
        'colorLUT.json': {'0': 'rgb(0,0,0)', '1': 'rgb(255,128,0)', '2': 'rgb(1, 2, 3)'},
        'colormap.json': {'R': [0, 255, 1], 'G': [0, 128, 2], 'B': [0, 0, 3], 'labels': names},
    }
    chosen = {'pair': ['labels.json', 'colorLUT.json'], 'none': []}.get(tables, [tables])
    for name in chosen:
        (tmp_path / name).write_text(json.dumps(contents[name]))
    files = sorted(tmp_path.iterdir())
    volume, out = scan(), tmp_path / 'labels.raw'
    found = ask(
        'dropped', files=files, volume=put(tmp_path / 'volume.raw', volume), dims=SHAPE,
        box=box_of(SHAPE), table=TABLE.tolist(), out=out,
    )  # fmt: skip
    agrees(got(out, np.uint8, SHAPE), logits_of(network, volume))
    labels = found['manifest']['labels']
    assert [one['index'] for one in labels] == [0, 1, 2]
    if tables == 'none':
        assert [one['name'] for one in labels] == ['background', 'Label-1', 'Label-2']
    else:
        assert [one['name'] for one in labels] == names
        assert labels[1]['abbreviation'] == 'WhiteMatter'
    if tables in ('pair', 'colormap.json'):
        assert [one['color'] for one in labels] == ['#000000', '#ff8000', '#010203']
    said = ' '.join(found['warnings'])
    assert ('normalisation' in said) == (tables != 'brainchop.json')
    assert ('has no labels' in said) == (tables == 'none')


def drop(files: list[Path], folder: Path) -> str:
    with pytest.raises(EngineError) as error:
        ask(
            'dropped', files=files, volume=put(folder / 'volume.raw', scan()), dims=SHAPE,
            box=box_of(SHAPE), table=TABLE.tolist(), out=folder / 'out.raw',
        )  # fmt: skip
    kind, message = error.value.args
    assert kind == 'UserError'
    assert '\n' not in message
    return message


def test_dropped_models_that_cannot_run(tmp_path: Path) -> None:
    folder = tmp_path / 'model'
    folder.mkdir()
    save_tfjs(meshnet(channels=4, dilations=(1,), classes=3), folder)
    content, weights = folder / 'model.json', next(folder.glob('*.bin'))
    assert 'choose model.json' in drop([weights], tmp_path)
    assert weights.name in drop([content], tmp_path)
    given = tmp_path / 'given'
    given.mkdir()
    (given / weights.name).write_bytes(weights.read_bytes()[:-8])
    assert 'cut short' in drop([content, given / weights.name], tmp_path)
    (given / 'model.json').write_text(content.read_text()[:-9])
    assert 'no valid JSON' in drop([given / 'model.json', weights], tmp_path)
    (given / 'labels.json').write_text('{"0": "background"}')
    assert '3 classes, but 1 labels' in drop([content, weights, given / 'labels.json'], tmp_path)
    (given / 'model.onnx').write_bytes(b'no graph' * 40)
    assert 'not a valid ONNX file' in drop([given / 'model.onnx'], tmp_path)
    other = tmp_path / 'unet'
    other.mkdir()
    save_tfjs(unet(), other)
    assert 'brainchop-models convert' in drop(sorted(other.iterdir()), tmp_path)


def test_manifest(tmp_path: Path) -> None:
    network = meshnet(channels=4, dilations=(1, 2), classes=3)
    facts = {'components': 'per-label+min:20', 'smooth': {'voxels': 0.5}, 'mask': {'exclude': [2]}}
    folder = model_folder(network, tmp_path, **facts)
    found = json.loads((folder / 'manifest.json').read_text())
    assert found['format'] == 'brainchop-web-1'
    assert found['weights'] == 'model.onnx'
    assert found['components'] == 'per-label+min:20'
    assert found['smooth'] == {'voxels': 0.5, 'below': 1.0}
    assert found['mask']['exclude'] == [2]
    assert found['reach'] == [3, 1]
    assert (found['block'], found['of_images']) == (None, False)
    assert [label['index'] for label in found['labels']] == [0, 1, 2]
    assert found['sha256'] == load_spec(tmp_path / 'source').sha256
    assert found['parameters'] == sum(
        values.size for op in network.ops for values in op.weights.values()
    )


def test_manifest_of_a_localiser(tmp_path: Path) -> None:
    target = tmp_path / 'web'
    target.mkdir()
    write_model(load_spec(write_localiser(tmp_path / 'heart')), target)
    found = json.loads((target / 'manifest.json').read_text())
    assert (found['task'], found['of_images']) == ('localise', True)
    assert found['normalization'] == 'quantile:0.001:0.999:clip'
