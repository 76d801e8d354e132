"""Downloads of published models, with checksums, resumption and atomic installation."""

import hashlib
import os
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ..system.atomic import writing
from ..system.errors import ModelError, SettingsError
from ..system.locks import lock_file, open_lock
from .registry import Published

_CHUNK = 1 << 16
_TIMEOUT = 30.0
# A server that answers slowly, but answers, has this long for a file, s, and for its bytes.
_PATIENCE_SECONDS, _BYTES_A_SECOND = 60.0, 20_000
_SCHEMES = ('http', 'https', 'file')


def fetch_model(
    model: Published,
    folder: Path,
    *,
    mirror: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Download the files of a model, unless they are complete.

    Parameters
    ----------
    model : Published
        The model.
    folder : Path
        Folder of model folders. The model's folder appears when all its files are verified.
    mirror : str, optional
        URL of a folder of model folders, in place of upstream's.
    report : callable
        Called with a line for each file.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    SettingsError
        If the mirror is no URL.
    ModelError
        If a file cannot be downloaded, is wrong, or takes longer than a minute and a second for
        each 20 kB. Partial downloads are kept in a hidden folder, and the next call resumes them.
    OutputError
        If files cannot be written.
    """
    target, part = folder / model.name, folder / f'.{model.name}.part'
    base = model.url if mirror is None else f'{check_mirror(mirror)}/{model.name}/'
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f'.{model.name}.lock'):
        if not verify_files(target, model):
            report(f'{target}: exists already')
            return target
        with writing(part):
            part.mkdir(exist_ok=True)
        for name, facts in model.files.items():
            if _check_file(part / name, facts):
                report(f'{base}{name} ({facts["bytes"]:,} bytes)')
                _download_in_time(f'{base}{name}', part / name, facts, target)
        with writing(target):
            if target.exists():
                # A damaged folder is replaced as a whole.
                shutil.rmtree(target)
            os.replace(part, target)
    return target


def verify_files(folder: Path, model: Published) -> list[str]:
    """Compare a published model's folder with its checksums; return a line for each error."""
    errors = []
    for name, facts in model.files.items():
        if reason := _check_file(folder / name, facts):
            errors.append(f'{folder / name}: {reason}')
    return errors


def _check_file(path: Path, facts: Mapping[str, Any]) -> str:
    try:
        # Before it is read, which could take for ever.
        size = path.stat().st_size
        if size != facts['bytes']:
            return f'has {size} bytes, expected {facts["bytes"]}'
        content = path.read_bytes()
    except FileNotFoundError:
        return 'is missing'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    digest = hashlib.sha256(content).hexdigest()
    if digest != facts['sha256']:
        return f'has the sha256 {digest[:12]}..., expected {facts["sha256"][:12]}...'
    return ''


def check_mirror(url: str) -> str:
    """Check the address of a mirror; return it without a slash at its end.

    Raises
    ------
    SettingsError
        If it is not an address that files can be downloaded from.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        fits = parts.scheme in _SCHEMES and bool(parts.netloc or parts.scheme == 'file')
        # Raises for a port that is no number.
        fits = fits and parts.port != 0 and not any(char <= ' ' for char in url)
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError(
            f'--mirror {url!r} is no address of a folder; give one such as '
            'https://example.org/models'
        )
    return url.rstrip('/')


def _download_in_time(url: str, path: Path, facts: Mapping[str, Any], target: Path) -> None:
    """Download a file, but not for longer than the server is given for it."""
    patience = _PATIENCE_SECONDS + facts['bytes'] / _BYTES_A_SECOND
    given_up, errors = threading.Event(), []

    def attempt() -> None:
        try:
            _download(url, path, facts, target, given_up)
        except BaseException as error:
            errors.append(error)

    # A timeout of the socket starts anew with each byte, so that only another thread can keep
    # time. It does not keep the process from ending.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        given_up.set()
        raise ModelError(
            f'{url}: is not complete after {patience:.0f} s, the server is too slow; run the '
            'command again to resume, or use another --mirror'
        )
    if errors:
        raise errors[0]


def _download(
    url: str,
    path: Path,
    facts: Mapping[str, Any],
    target: Path,
    given_up: threading.Event,
) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size >= facts['bytes']:
        # Complete, but wrong.
        path.unlink()
        size = 0
    request = urllib.request.Request(url, headers={'User-Agent': 'brainchop-bids'})  # noqa: S310
    if size:
        request.add_header('Range', f'bytes={size}-')
    manually = f'on a machine with access, download it and put it at {target / path.name}'
    try:
        # Uses the proxies of the environment.
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT) as response:
            resumed = response.status == 206
            with writing(path), path.open('ab' if resumed else 'wb', buffering=0) as file:
                _copy(response, file, facts['bytes'] - (size if resumed else 0), given_up)
    except urllib.error.HTTPError as error:
        raise ModelError(
            f'{url}: the server answers {error.code} {error.reason}; {manually}'
        ) from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, 'reason', None) or error or type(error).__name__
        raise ModelError(f'{url}: cannot be downloaded ({reason}); {manually}') from error
    if reason := _check_file(path, facts):
        partial = path.stat().st_size < facts['bytes']
        if not partial:
            path.unlink()
        advice = 'run the command again to resume' if partial else 'the server has another file'
        raise ModelError(f'{url}: the download {reason}; {advice}')


def _copy(response: Any, file: Any, expected: int, given_up: threading.Event) -> None:
    # One byte more than expected shows that it is another file.
    left = expected + 1
    while left > 0:
        try:
            # What has come, so that it is kept if the rest does not come in time.
            chunk = response.read1(min(_CHUNK, left))
        except OSError as error:
            # Not to be taken for an error of the disk by `writing`.
            raise urllib.error.URLError(error) from error
        if not chunk or given_up.is_set():
            return
        file.write(chunk)
        left -= len(chunk)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process downloads the same model."""
    with open_lock(path) as file:
        with writing(path):
            lock_file(file, wait=True)
        yield
