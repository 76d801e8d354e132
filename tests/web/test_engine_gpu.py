"""Networks by WebGPU, in a Chromium whose GPU is computed by the processor (SwiftShader)."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.web.engine import ENGINE, box_of
from tests.web.page import static_server
from tests.web.test_engine_network import (
    SHAPE,
    TABLE,
    agrees,
    logits_of,
    meshnet,
    model_folder,
    scan,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Shaders can be changed on their way to the GPU.
LABEL = """async ({ weights, manifest, volume, dims, box, table, gpu, change: [from, to] }) => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const { createShaderModule } = GPUDevice.prototype;
  GPUDevice.prototype.createShaderModule = function ({ code }) {
    return createShaderModule.call(this, { code: code.replaceAll(from, to) });
  };
  const { label } = await import('/network.js');
  const progress = [];
  try {
    const { labels, ...found } = await label({
      model: { manifest, weights: bytes(weights).buffer }, volume: bytes(volume), dims, box,
      table: Float32Array.from(table), threads: 1, gpu,
      onProgress: (done, total) => progress.push(done / total),
    });
    return { ...found, progress, labels: [...labels] };
  } finally {
    GPUDevice.prototype.createShaderModule = createShaderModule;
  }
}"""


# With these the engine shares memory between threads.
ISOLATED = {
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
}


@pytest.fixture(scope='module')
def page(launch: 'Callable[..., Browser]') -> 'Iterator[Page]':
    """Return a page that can import the engine."""
    with static_server(ENGINE, ISOLATED) as address:
        opened = launch('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader').new_page()
        opened.goto(f'{address}README.md')
        if not opened.evaluate('navigator.gpu?.requestAdapter().then(Boolean)'):
            pytest.skip('this Chromium has no WebGPU')
        yield opened
        opened.close()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def label(
    page: 'Page', model: Path, box: Any = None, *, software: bool = True, change: Any = ('', '')
) -> tuple[np.ndarray, Any]:
    given = {
        'weights': text((model / 'model.onnx').read_bytes()),
        'manifest': json.loads((model / 'manifest.json').read_text()),
        'volume': text(scan().tobytes(order='F')),
        'dims': SHAPE,
        'box': box or box_of(SHAPE),
        'table': TABLE.tolist(),
        'gpu': {'software': software},
        'change': change if change[0] else ('\0', ''),
    }
    found = page.evaluate(LABEL, given)
    return np.array(found.pop('labels'), np.uint8).reshape(SHAPE, order='F'), found


@pytest.mark.parametrize(
    'settings',
    [
        {'channels': 5, 'dilations': (1, 2, 4, 2, 1), 'classes': 3},
        {'channels': 20, 'dilations': (1, 2, 8, 16, 2), 'classes': 33},
        {'channels': 21, 'dilations': (1, 3, 1), 'classes': 18, 'activation': 'elu'},
        {'channels': 32, 'dilations': (2, 5), 'classes': 50, 'activation': 'leaky_relu'},
        {'channels': 1, 'dilations': (1, 2), 'classes': 2},
    ],
)
def test_chains(page: 'Page', tmp_path: Path, settings: dict[str, Any]) -> None:
    network = meshnet(**settings)
    model = model_folder(network, tmp_path)
    expected = logits_of(network, scan())
    labels, found = label(page, model)
    assert (found['engine'], found.get('warnings')) == ('brainchop WebGPU', None)
    assert found['progress'] == sorted(found['progress'])
    assert found['progress'][-1] == pytest.approx(1)
    agrees(labels, expected)
    # In a box the labels are those of the whole volume.
    box = {'low': [6, 0, 11], 'high': [45, 20, 30]}
    inside = tuple(slice(a, b) for a, b in zip(*box.values(), strict=True))
    part, _ = label(page, model, box)
    agrees(part[inside], expected[inside])
    part[inside] = 0
    assert not part.any()


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        # Another activation, as a driver with a defect might compute.
        (('max(v, vec4f())', 'v'), '% of its labels are wrong'),
        (('fn main', 'fn'), ''),
    ],
)
def test_a_gpu_that_fails_is_not_used(
    page: 'Page', tmp_path: Path, change: Any, said: str
) -> None:
    network = meshnet(channels=8, dilations=(1, 2, 1), classes=4)
    labels, found = label(page, model_folder(network, tmp_path), change=change)
    assert found['engine'] == 'brainchop WebAssembly'
    (warning,) = found['warnings']
    assert warning.startswith('the GPU was not used: ')
    assert said in warning
    assert '\n' not in warning
    agrees(labels, logits_of(network, scan()))


def test_a_gpu_that_is_the_processor_is_not_used(page: 'Page', tmp_path: Path) -> None:
    network = meshnet(channels=4, dilations=(1, 2), classes=3)
    labels, found = label(page, model_folder(network, tmp_path), software=False)
    assert (found['engine'], found.get('warnings')) == ('brainchop WebAssembly', None)
    agrees(labels, logits_of(network, scan()))
