"""Pages in a headless Chromium that has no network, and what npm's checkers say of them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request, Route

OpenPage = Callable[..., 'Page']
NpmPackages = Callable[..., Path]

# Whatever a page may load without leaving the machine; blob: is what it offers for download.
_LOCAL = ('file:', 'data:', 'blob:', 'about:')
_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
_ARGUMENTS = ['--no-sandbox', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']


def find_chromium(folder: Path) -> str | None:
    """Return the Chromium on the path, or one that Playwright installs into a folder.

    None where there is neither.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found:
        return found
    command = [sys.executable, '-m', 'playwright', 'install', 'chromium']
    environ = {**os.environ, 'PLAYWRIGHT_BROWSERS_PATH': str(folder)}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return None
    # Its folders are named after versions and systems.
    installed = [*folder.glob('chromium-*/*/chrome'), *folder.glob('chromium-*/**/Chromium')]
    return str(installed[0]) if done.returncode == 0 and installed else None


@pytest.fixture(scope='session')
def launch(tmp_path_factory: pytest.TempPathFactory) -> 'Iterator[Callable[..., Browser]]':
    """Return a function that starts a headless Chromium with further arguments."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        pytest.skip('browser: pip install playwright')
    executable = find_chromium(tmp_path_factory.mktemp('browsers'))
    if executable is None:
        pytest.skip('browser: there is no Chromium on PATH and Playwright could not install one')
    browsers = []

    def start(*arguments: str) -> 'Browser':
        try:
            started = playwright.chromium.launch(
                executable_path=executable, args=[*_ARGUMENTS, *arguments]
            )
        except Error as error:
            pytest.skip(f'browser: {executable} does not start: {error.message[:300]}')
        browsers.append(started)
        return started

    # Only one may be started in a process.
    with sync_playwright() as playwright:
        yield start
        for started in browsers:
            started.close()


@pytest.fixture(scope='session')
def browser(launch: 'Callable[..., Browser]') -> 'Browser':
    """Return a headless Chromium."""
    return launch()


@pytest.fixture
def open_page(browser: 'Browser') -> Iterator[OpenPage]:
    """Return a function that opens a file as a page, see `watched_pages`."""
    with watched_pages(browser) as open_one:
        yield open_one


@contextmanager
def watched_pages(browser: 'Browser', server: str | None = None) -> Iterator[OpenPage]:
    """Give a function that opens a file as a page; keywords are those of a browser context.

    With the address of a server on this machine it opens pages of that server instead. Requests
    that leave the page, or the server, are refused. At the end no page may have asked for
    anything outside, written an error to its console or thrown one.
    """
    local = _LOCAL if server is None else (server, *_LOCAL[1:])
    contexts: list[Any] = []
    faults: list[str] = []

    def watch(route: 'Route', request: 'Request') -> None:
        if request.url.startswith(local):
            route.continue_()
        else:
            route.abort()

    def note(request: 'Request') -> None:
        if not request.url.startswith(local):
            faults.append(f'asked for {request.url[:200]}')

    def open_one(path: str | Path, *, fragment: str = '', **options: Any) -> 'Page':
        context = browser.new_context(**{'accept_downloads': True, **options})
        contexts.append(context)
        context.set_offline(server is None)
        context.route('**/*', watch)
        context.on('request', note)
        context.on('weberror', lambda fault: faults.append(f'threw {fault.error}'))
        context.on(
            'console',
            lambda message: (
                faults.append(f'console: {message.text}') if message.type == 'error' else None
            ),
        )
        page = context.new_page()
        start = Path(path).resolve().as_uri() if server is None else f'{server}{path}'
        page.goto(start + fragment)
        return page

    yield open_one
    for context in contexts:
        context.close()
    if faults:
        pytest.fail('\n'.join(faults))


@pytest.fixture(scope='session')
def npm_packages(tmp_path_factory: pytest.TempPathFactory) -> NpmPackages:
    """Return a function that gives a ``node_modules`` with some packages (``'name@version'``).

    A folder named by BRAINCHOP_NODE_MODULES is taken where it has them all.
    """

    def install(*packages: str) -> Path:
        names = [package[0] + package[1:].partition('@')[0] for package in packages]
        given = os.environ.get('BRAINCHOP_NODE_MODULES')
        if given and all((Path(given) / name).is_dir() for name in names):
            return Path(given)
        npm = shutil.which('npm')
        if npm is None:
            pytest.skip(f'npm: {", ".join(names)} need Node and npm')
        folder = tmp_path_factory.mktemp('node')
        command = [npm, 'install', '--no-audit', '--no-fund', '--ignore-scripts', *packages]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f'npm: cannot install {", ".join(names)}: {done.stderr.strip()[-200:]}')
        return folder / 'node_modules'

    return install


@pytest.fixture(scope='session')
def axe(npm_packages: NpmPackages) -> 'Callable[[Page], list[str]]':
    """Return a function that lists what axe-core finds serious or critical in a page."""
    script = (npm_packages('axe-core@4') / 'axe-core' / 'axe.min.js').read_text('utf-8')

    def check(page: 'Page') -> list[str]:
        # A script tag would be refused by the page's own policy.
        page.evaluate(script)
        found = page.evaluate('() => axe.run(document, {resultTypes: ["violations"]})')
        return [
            f'{violation["id"]}: {violation["help"]}: {node["html"][:200]}'
            for violation in found['violations']
            if violation['impact'] in ('serious', 'critical')
            for node in violation['nodes']
        ]

    return check


@pytest.fixture(scope='session')
def html_faults(
    npm_packages: NpmPackages, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], list[str]]:
    """Return a function that lists what html-validate finds wrong in a file."""
    modules = npm_packages('html-validate@10')
    config = tmp_path_factory.mktemp('html') / 'config.json'
    # The standard's rules and those of accessibility; not the ones of mere style.
    rules = {'extends': ['html-validate:standard', 'html-validate:a11y'], 'root': True}
    config.write_text(json.dumps(rules))

    def check(path: Path) -> list[str]:
        program = modules / 'html-validate' / 'bin' / 'html-validate.mjs'
        command = ['node', str(program), '--config', str(config), '--formatter', 'json', str(path)]
        # A pipe would lose the end of long answers: the program does not wait for it.
        answer = config.with_name('answer.json')
        with answer.open('w') as file:
            done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, check=False)
        assert answer.stat().st_size, done.stderr[-2000:]
        return [
            f'{fault["line"]}:{fault["column"]} {fault["ruleId"]}: {fault["message"]}'
            for file in json.loads(answer.read_text('utf-8'))
            for fault in file['messages']
            if fault['severity'] == 2
        ]

    return check
