"""A server of one folder, for browsers on this machine only."""

import errno
import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from ..system.errors import SettingsError

HOST = '127.0.0.1'
# A page of another site can have its name resolve to this machine, but it cannot choose the name.
_OWN = re.compile(r'(127\.0\.0\.1|localhost)(:\d+)?', re.IGNORECASE)
# As in the page itself, which works behind servers that send no policy.
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "img-src 'self' data: blob:; style-src 'self'; worker-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    'Content-Security-Policy': f"{POLICY}; frame-ancestors 'none'",
    # Both are needed for threads.
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    # Another version, or another model, may be served at this address later.
    'Cache-Control': 'no-cache',
}


class _Handler(SimpleHTTPRequestHandler):
    """Handler of GET and HEAD."""

    server_version, sys_version = 'brainchop-web', ''
    # Complete, because a system's own table can be wrong.
    extensions_map = {  # noqa: RUF012
        '': 'application/octet-stream',
        '.css': 'text/css; charset=utf-8',
        '.html': 'text/html; charset=utf-8',
        '.js': 'text/javascript; charset=utf-8',
        '.json': 'application/json',
        '.md': 'text/plain; charset=utf-8',
        '.mjs': 'text/javascript; charset=utf-8',
        '.svg': 'image/svg+xml',
        '.wasm': 'application/wasm',
    }

    def send_head(self) -> Any:
        """Answer a request, unless it was addressed to another host."""
        if not _OWN.fullmatch(self.headers.get('Host', '')):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, 'This is not the host that was asked')
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """Refuse lists of files."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def guess_type(self, path: Any) -> str:
        """Return the type of a file by the table above alone."""
        suffix = Path(path).suffix.lower()
        return self.extensions_map.get(suffix, self.extensions_map[''])

    def end_headers(self) -> None:
        """Send the headers of all answers."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # On Windows two servers would share the port.
    allow_reuse_address = os.name != 'nt'

    def server_bind(self) -> None:
        """Bind without looking up a name for the address, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that went away."""


@contextmanager
def serving(folder: Path, port: int) -> Iterator[ThreadingHTTPServer]:
    """Bind a server of a folder to a port of the loopback address.

    Parameters
    ----------
    folder : Path
        The folder.
    port : int
        Port; 0 for any that is free.

    Yields
    ------
    ThreadingHTTPServer
        For `serve_forever`.

    Raises
    ------
    SettingsError
        If the port is taken or not allowed.
    """
    try:
        server = _Server((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        reason = {
            errno.EADDRINUSE: 'is taken, perhaps by another brainchop-web',
            errno.EACCES: 'is not allowed here',
        }.get(error.errno or 0, f'cannot be used ({error.strerror})')
        raise SettingsError(
            f'port {port} {reason}; give another one with --port, or --port 0 for any'
        ) from error
    with server:
        yield server


def address(server: ThreadingHTTPServer) -> str:
    """Return the address of a server's page."""
    return f'http://{HOST}:{server.server_port}/'


def open_browser(url: str) -> bool:
    """Open an address in a browser, where there is a screen for it.

    Returns
    -------
    bool
        Whether a browser was started.
    """
    # Without a screen it would be a browser in the terminal, which stops all else there.
    variables = ('DISPLAY', 'WAYLAND_DISPLAY', 'BROWSER')
    shown = sys.platform in ('darwin', 'win32') or any(map(os.environ.get, variables))
    return shown and webbrowser.open(url)
