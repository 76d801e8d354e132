"""The built page, and servers of it."""

import http.server
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from brainchop_bids.system.locks import lock_file
from brainchop_bids.web import folder as web_folder

ROOT = Path(__file__).parents[2]


def require_page() -> None:
    """Build the page if it is missing or old; skip the test where that cannot be done."""
    if shutil.which('npm') is None or shutil.which('make') is None:
        if not (web_folder._PAGE / 'index.html').is_file():
            pytest.skip('npm: the page is not built, which needs Node and npm')
        return
    # Several processes may run tests.
    with (ROOT / 'Makefile').open('rb') as file:
        lock_file(file, wait=True)
        done = subprocess.run(['make', 'web'], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'npm: the page cannot be built: {done.stderr.strip()[-500:]}')


@contextmanager
def served(*options: str) -> Iterator[tuple[str, 'subprocess.Popen[str]']]:
    """Run ``brainchop-web`` on a free port; give its address and process."""
    # Where tests run in a shell's background, Ctrl-C is ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, '-m', 'brainchop_bids.cli.web', '--no-browser', '--port', '0']
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen([*command, *options], stdout=pipe, stderr=pipe, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r'(http://127\.0\.0\.1:\d+/) ', line)
        assert found, line + process.communicate(timeout=60)[1]
        yield found[1], process
    finally:
        process.kill()
        process.communicate()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, more: dict[str, str], **kwargs: Any) -> None:
        self.more = more
        super().__init__(*args, **kwargs)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def end_headers(self) -> None:
        for name, value in self.more.items():
            self.send_header(name, value)
        super().end_headers()


@contextmanager
def static_server(folder: Path, headers: dict[str, str] | None = None) -> Iterator[str]:
    """Serve a folder as any server does, with further headers if wanted; give its address."""
    handler = partial(_Silent, directory=str(folder), more=headers or {})
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_port}/'
        finally:
            server.shutdown()
