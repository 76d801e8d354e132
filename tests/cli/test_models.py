"""`brainchop-models` as a user runs it, against a server of our own."""

import contextlib
import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainchop_bids.cli.models import main
from brainchop_bids.models import convert, fetch
from brainchop_bids.models.fetch import fetch_model, verify_files
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.network import Network
from brainchop_bids.models.registry import Published, published_models
from brainchop_bids.system.errors import ModelError, OutputError
from tests.tfjs_folder import two_layers, write_colormap


class Server(SimpleHTTPRequestHandler):
    """Serves a folder, with ranges, and may cut an answer short."""

    cut: int | None = None
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get('Range')
        self.seen.append((path.name, wanted))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(wanted.removeprefix('bytes=').removesuffix('-')) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        end = len(content) if self.cut is None else start + self.cut
        self.wfile.write(content[start:end])
        self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """Serve ``tmp_path/there``; what was asked for is in ``.seen``."""
    (tmp_path / 'there').mkdir()
    handler = type('Handler', (Server,), {'seen': [], 'cut': None})
    made = ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(handler, directory=str(tmp_path / 'there'))
    )
    threading.Thread(target=made.serve_forever, daemon=True).start()
    handler.url = f'http://127.0.0.1:{made.server_port}'
    yield handler
    made.shutdown()
    made.server_close()


def publish(tmp_path: Path, url: str) -> Published:
    folder = two_layers(tmp_path / 'there' / 'net')
    files = {
        path.name: {
            'bytes': path.stat().st_size,
            'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
    }
    return Published('net', '', 'tissue', 3, 'MIT', f'{url}/net/', files)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.lock')


def test_a_model_is_fetched_once(tmp_path: Path, server: Any) -> None:
    model = publish(tmp_path, server.url)
    target = fetch_model(model, tmp_path / 'cache')
    assert not verify_files(target, model)
    assert left(tmp_path / 'cache') == ['net']
    read_network(target)
    asked = len(server.seen)
    assert fetch_model(model, tmp_path / 'cache') == target
    assert len(server.seen) == asked


def test_a_cut_connection_is_gone_on_with(tmp_path: Path, server: Any) -> None:
    model = publish(tmp_path, server.url)
    server.cut = 100
    for _ in range(2):
        with pytest.raises(ModelError, match=r'run the command again|cannot be downloaded'):
            fetch_model(model, tmp_path / 'cache')
        assert left(tmp_path / 'cache') == ['.net.part']
    server.cut = None
    fetch_model(model, tmp_path / 'cache')
    assert left(tmp_path / 'cache') == ['net']
    first = next(iter(model.files))
    assert (first, 'bytes=100-') in server.seen
    assert (first, 'bytes=200-') in server.seen


def test_another_file_than_it_should_be(tmp_path: Path, server: Any) -> None:
    model = publish(tmp_path, server.url)
    path = next((tmp_path / 'there' / 'net').glob('*.bin'))
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    for wrong in (bytes(content), bytes(content) + b'x'):
        path.write_bytes(wrong)
        with pytest.raises(ModelError, match='the server has another file'):
            fetch_model(model, tmp_path / 'cache')
        assert 'net' not in left(tmp_path / 'cache')
    content[5] ^= 1
    path.write_bytes(bytes(content))
    assert not verify_files(fetch_model(model, tmp_path / 'cache'), model)


def test_a_damaged_folder_is_mended(tmp_path: Path, server: Any) -> None:
    model = publish(tmp_path, server.url)
    target = fetch_model(model, tmp_path / 'cache')
    (target / 'model.json').write_text('{}')
    assert len(verify_files(target, model)) == 1
    fetch_model(model, tmp_path / 'cache')
    assert not verify_files(target, model)


def test_what_the_server_has_not(tmp_path: Path, server: Any) -> None:
    model = publish(tmp_path, server.url)
    (tmp_path / 'there' / 'net' / 'model.json').unlink()
    with pytest.raises(ModelError) as caught:
        fetch_model(model, tmp_path / 'cache')
    assert '404' in str(caught.value)
    assert str(tmp_path / 'cache' / 'net' / 'model.json') in str(caught.value)


def test_without_a_network(tmp_path: Path) -> None:
    model = publish(tmp_path, 'http://127.0.0.1:9')
    with pytest.raises(ModelError, match=r'cannot be downloaded .*put it at') as caught:
        fetch_model(model, tmp_path / 'cache')
    assert '\n' not in str(caught.value)


def test_a_full_disk(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = publish(tmp_path, server.url)
    copy = fetch._copy

    def full(answer: Any, file: Any, limit: int, given_up: Any) -> None:
        copy(answer, file, 50, given_up)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch, '_copy', full)
    with pytest.raises(OutputError, match='No space left'):
        fetch_model(model, tmp_path / 'cache')
    assert 'net' not in left(tmp_path / 'cache')
    monkeypatch.setattr(fetch, '_copy', copy)
    assert not verify_files(fetch_model(model, tmp_path / 'cache'), model)


@pytest.mark.parametrize('part', ['headers', 'content'])
def test_a_server_that_sends_byte_by_byte(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    model = publish(tmp_path, server.url)

    def dribble(self: Any) -> None:
        path = Path(self.translate_path(self.path))
        head = f'HTTP/1.0 200 OK\r\nContent-Length: {path.stat().st_size}\r\n'.encode()
        start = head + b'\r\n' if part == 'content' else b''
        rest = path.read_bytes() if part == 'content' else head
        with contextlib.suppress(ConnectionError):
            self.wfile.write(start)
            for value in rest:
                self.wfile.write(bytes([value]))
                time.sleep(0.05)

    monkeypatch.setattr(server, 'do_GET', dribble)
    monkeypatch.setattr(fetch, '_PATIENCE_SECONDS', 0.5)
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r'not complete after 1 s.*to resume.*another --mirror'):
        fetch_model(model, tmp_path / 'cache')
    assert time.monotonic() - begun < 5
    first = tmp_path / 'cache' / '.net.part' / next(iter(model.files))
    # What has come is kept for the next time.
    assert (first.exists() and first.stat().st_size > 0) == (part == 'content')


@pytest.mark.parametrize(
    'url',
    ['foo', '', 'example.org/models', 'ftp://example.org', 'http://', 'http://[', 'http://a b'],
)
def test_a_mirror_that_is_no_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    command = ['get', '--all', '--models-dir', str(tmp_path / 'models'), '--mirror', url]
    assert main(command) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f'--mirror {url!r} is no address of a folder; give one such as https://' in line
    assert not (tmp_path / 'models').exists()


def test_two_processes_at_once(tmp_path: Path, server: Any, shared: Path) -> None:
    os.symlink(shared / 'models' / 'brainchop' / 'mindgrab', tmp_path / 'there' / 'mindgrab')
    command = [sys.executable, '-m', 'brainchop_bids.cli.models', 'get', 'mindgrab']
    command += ['--mirror', server.url, '--models-dir', str(tmp_path / 'cache')]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    target = str(tmp_path / 'cache' / 'mindgrab')
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert (run.returncode, out.strip()) == (0, target), err
    assert left(tmp_path / 'cache') == ['mindgrab']
    # The first of them fetched, the others waited.
    assert len(server.seen) == 3


def test_through_a_proxy(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our server plays the proxy: it is asked for a whole address."""
    model = publish(tmp_path, 'http://nowhere.invalid')
    monkeypatch.setenv('http_proxy', server.url)
    monkeypatch.setattr(
        server,
        'translate_path',
        lambda self, path: str(tmp_path / 'there' / path.removeprefix('http://nowhere.invalid/')),
    )
    assert not verify_files(fetch_model(model, tmp_path / 'cache'), model)


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path / 'cache'))
    assert main(['list']) == 0
    table = capsys.readouterr().out
    assert re.search(r'^tissue .* provisional {3}Apache-2.0  /', table, re.M)
    for name in published_models():
        assert f'get {name}' in table
    assert main(['info', 'tissue']) == 0
    assert 'Gray Matter' in capsys.readouterr().out
    assert main(['get', 'tissue']) == 0
    said = capsys.readouterr()
    assert 'tissue comes with the package' in said.err
    assert Path(said.out.strip()).joinpath('model.json').is_file()
    assert main(['get']) == 2
    assert main(['get', 'nobody']) == 2
    assert main(['get', 'mindgrab', '--mirror', 'http://127.0.0.1:9']) == 1
    error = capsys.readouterr().err
    assert 'nobody' in error
    assert 'put it at' in error
    assert 'Traceback' not in error


def test_a_custom_model_goes_all_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('BRAINCHOP_MODELS', str(tmp_path / 'cache'))
    folder = two_layers(tmp_path / 'mine')
    write_colormap(folder / 'colormap.json', ['nothing', 'left', 'right'])
    assert main(['convert', str(folder), 'safetensors', str(tmp_path / 'out')]) == 0
    assert main(['import', str(tmp_path / 'out'), '--name', 'again']) == 0
    made = tmp_path / 'cache' / 'again'
    assert json.loads((made / 'brainchop.json').read_text())['labels'][1]['name'] == 'left'
    for op, other in zip(read_network(folder)[0].ops, read_network(made)[0].ops, strict=True):
        for name, values in op.weights.items():
            np.testing.assert_array_equal(values, other.weights[name])
    assert main(['verify', 'again']) == 0
    assert 'both engines compute' in capsys.readouterr().out
    # Nothing is overwritten.
    assert main(['import', str(tmp_path / 'out'), '--name', 'again']) == 2
    assert main(['convert', str(folder), 'tfjs', str(tmp_path / 'out')]) == 2
    (tmp_path / 'file').touch()
    assert main(['convert', str(folder), 'tfjs', str(tmp_path / 'file')]) == 2
    shard = next(made.glob('*.bin'))
    shard.write_bytes(shard.read_bytes()[:-4])
    assert main(['verify']) == 1
    assert 'bytes' in capsys.readouterr().err


def test_import_folds_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from brainchop_bids.system.tensorflow_runtime import load_tensorflow

    load_tensorflow()
    import keras

    from tests.models.networks import randomised

    layers = keras.layers
    inputs = keras.Input((16, 16, 16, 1))
    x = layers.BatchNormalization()(layers.Conv3D(3, 3, padding='same')(inputs))
    x = layers.BatchNormalization()(layers.ReLU()(x))
    (tmp_path / 'unet').mkdir()
    model = randomised(keras.Model(inputs, layers.Conv3D(2, 1)(x)))
    model.save(tmp_path / 'unet' / 'model.keras')
    cache = tmp_path / 'cache'
    monkeypatch.setenv('BRAINCHOP_MODELS', str(cache))
    real = convert.save_tfjs

    def worse(network: Network, folder: Path) -> object:
        conv = network.ops[1]
        bias = conv.weights['bias'] + np.float32(1)
        changed = replace(conv, weights={**conv.weights, 'bias': bias})
        return real(replace(network, ops=(network.ops[0], changed, *network.ops[2:])), folder)

    monkeypatch.setitem(convert._WRITERS, 'tfjs', worse)
    assert main(['import', str(tmp_path / 'unet')]) == 1
    assert 'differs' in capsys.readouterr().err
    assert list(cache.iterdir()) == []
    monkeypatch.setitem(convert._WRITERS, 'tfjs', real)
    assert main(['import', str(tmp_path / 'unet')]) == 0
    kinds = [op.kind for op in read_network(cache / 'unet')[0].ops]
    assert kinds == ['input', 'conv', 'activation', 'batch_norm', 'conv']
    assert main(['verify', 'unet']) == 0
