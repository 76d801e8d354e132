"""``brainchop-web`` and ``brainchop-models convert NAME web``: who gets what, and how they end."""

import http.client
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from brainchop_bids.cli.models import main as models
from brainchop_bids.cli.web import main
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import list_models, search_folders
from brainchop_bids.web import folder as web_folder
from brainchop_bids.web.server import open_browser
from tests.builders import write_model
from tests.web.page import require_page, served

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope='module', autouse=True)
def page() -> None:
    require_page()


@pytest.fixture(scope='module')
def address() -> Iterator[str]:
    with served('--model', 'tissue') as (url, _):
        yield url


def ask(
    address: str, path: str, *, host: str | None = None, method: str = 'GET'
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    # As it is: a client would tidy the path.
    connection.putrequest(method, path, skip_host=True)
    connection.putheader('Host', host or urlsplit(address).netloc)
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read()


def test_the_page_comes_with_its_policy_and_the_headers_of_threads(address: str) -> None:
    answer, content = ask(address, '/')
    assert answer.status == 200
    assert answer.headers['Cross-Origin-Opener-Policy'] == 'same-origin'
    assert answer.headers['Cross-Origin-Embedder-Policy'] == 'require-corp'
    policy = answer.headers['Content-Security-Policy']
    directives = dict(part.strip().split(' ', 1) for part in policy.split(';'))
    for name in ('default-src', 'connect-src', 'worker-src'):
        assert directives[name] == "'self'"
    assert directives['script-src'] == "'self' 'wasm-unsafe-eval'"
    assert not re.search(r'https?:|\*', policy)
    # The page has the same one for servers that send none.
    written = re.search(rb'Content-Security-Policy" content="([^"]+)"', content)
    assert written
    assert policy == f"{written[1].decode()}; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ('suffix', 'kind'),
    [('.js', 'text/javascript'), ('.css', 'text/css'), ('.wasm', 'application/wasm')],
)
def test_types_are_those_that_browsers_insist_on(address: str, suffix: str, kind: str) -> None:
    names = [path.name for path in (web_folder._PAGE / 'assets').iterdir()]
    name = next(name for name in names if name.endswith(suffix))
    answer, _ = ask(address, f'/assets/{name}')
    assert answer.headers['Content-Type'].partition(';')[0] == kind


def test_models_that_were_chosen_are_there_with_their_localiser(address: str) -> None:
    _, content = ask(address, '/models/index.json')
    listed = json.loads(content)['models']
    assert [model['name'] for model in listed] == ['tissue', 'locate-brain']
    spec = load_spec(search_folders()[0] / 'tissue')
    assert listed[0]['sha256'] == spec.sha256
    assert [label['name'] for label in listed[0]['labels']] == [one.name for one in spec.labels]
    for model in listed:
        for file in model['files']:
            answer, _ = ask(address, f'/models/{model["name"]}/{file}')
            assert answer.status == 200


@pytest.mark.parametrize(
    'path',
    [
        '/models/', '/assets', '/../../../../etc/passwd', '/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
        '//etc/passwd', '/models/subcortical/manifest.json',
    ],
)  # fmt: skip
def test_nothing_else_is_served(address: str, path: str) -> None:
    answer, content = ask(address, path)
    # A folder without its slash is first sent to the one with it.
    if answer.status == 301:
        assert answer.headers['Location'].startswith('/assets/')
        answer, content = ask(address, answer.headers['Location'])
    assert answer.status == 404
    assert b'root:' not in content


@pytest.mark.parametrize(
    ('host', 'status'),
    [
        ('localhost:9000', 200), ('127.0.0.1', 200), ('evil.example', 421),
        ('127.0.0.1.evil.example:80', 421), ('127.0.0.1@evil.example', 421), ('', 421),
    ],
)  # fmt: skip
def test_other_hosts_are_refused(address: str, host: str, status: int) -> None:
    answer, content = ask(address, '/models/index.json', host=host or ' ')
    assert answer.status == status
    assert (b'tissue' in content) == (status == 200)


def test_only_reading_is_answered(address: str) -> None:
    assert ask(address, '/', method='POST')[0].status == 501
    answer, content = ask(address, '/', method='HEAD')
    assert answer.status == 200
    assert content == b''


def test_only_this_machine_is_served(address: str) -> None:
    port = urlsplit(address).port
    assert port
    for found in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET):
        place = found[4][0]
        if str(place).startswith('127.'):
            continue
        with socket.socket() as client:
            client.settimeout(5)
            assert client.connect_ex((place, port))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_and_leaves_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    with served('--model', 'tissue') as (url, process):
        assert ask(url, '/')[0].status == 200
        assert list(tmp_path.iterdir())
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert said == ''
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_one_line(capsys: Captured) -> None:
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        assert main(['--model', 'tissue', '--no-browser', '--port', str(port)]) == 2
    said = capsys.readouterr()
    assert said.out == ''
    assert re.fullmatch(
        f'brainchop-web: error: port {port} is taken.*--port 0 for any\n', said.err
    )


@pytest.mark.parametrize('port', ['65536', '-1', 'http'])
def test_a_port_that_is_none_is_one_line(port: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['--port', port])
    assert capsys.readouterr().err.count('\n') == 1


def test_a_model_that_is_not_there_is_one_line(capsys: Captured) -> None:
    assert main(['--model', 'nothing', '--no-browser']) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert 'nothing: no such model folder' in said


def test_a_localiser_alone_labels_nothing(capsys: Captured) -> None:
    assert main(['--model', 'locate-brain', '--no-browser']) == 2
    assert 'labels nothing' in capsys.readouterr().err


def test_without_the_page_a_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(web_folder, '_PAGE', tmp_path / 'web')
    assert main(['--no-browser', '--port', '0']) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert 'make web' in said
    assert models(['convert', 'tissue', 'web', str(tmp_path / 'out')]) == 2
    assert not (tmp_path / 'out').exists()


def test_a_folder_for_any_server(tmp_path: Path) -> None:
    out = tmp_path / 'site'
    assert models(['convert', 'tissue', 'web', str(out)]) == 0
    names = {path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file()}
    for name in ('index.html', 'sw.js', 'LICENSE', 'licenses.md', 'models/index.json'):
        assert name in names
    for name in ('tissue', 'locate-brain'):
        for file in ('model.onnx', 'manifest.json', 'README.md'):
            assert f'models/{name}/{file}' in names
    license_text = (Path(__file__).parents[2] / 'LICENSE').read_text('utf-8')
    assert (out / 'LICENSE').read_text('utf-8') == license_text
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_a_model_that_the_page_cannot_run_leaves_nothing(tmp_path: Path, capsys: Captured) -> None:
    write_model(tmp_path / 'two', in_channels=2)
    assert models(['convert', str(tmp_path / 'two'), 'web', str(tmp_path / 'site')]) == 1
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert 'takes 2 scans' in said
    assert [path.name for path in tmp_path.iterdir()] == ['two']


def test_all_packaged_models_can_be_served() -> None:
    specs = web_folder.web_models([])
    assert specs[0].name == 'tissue'
    assert {spec.name for spec in specs} == set(list_models(search_folders()[0]))


def test_no_browser_of_the_terminal_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Debian calls the text browser.
    mark, browser = tmp_path / 'opened', tmp_path / 'www-browser'
    browser.write_text(f'#!/bin/sh\ntouch {mark}\n')
    browser.chmod(0o755)
    for name in ('DISPLAY', 'WAYLAND_DISPLAY', 'BROWSER'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr('sys.platform', 'linux')
    assert not open_browser('http://127.0.0.1/')
    assert not mark.exists()
