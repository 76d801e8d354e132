"""Downloads of published models, with checksums, resumption and atomic installation."""

import fcntl
import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ..system.atomic import writing
from ..system.errors import ModelError
from .registry import Published

_CHUNK = 1 << 16
_TIMEOUT = 30.0


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
    ModelError
        If a file cannot be downloaded or is wrong. Partial downloads are kept in a hidden
        folder, and the next call resumes them.
    OutputError
        If files cannot be written.
    """
    target, part = folder / model.name, folder / f'.{model.name}.part'
    base = model.url if mirror is None else f'{mirror.rstrip("/")}/{model.name}/'
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
                _download(f'{base}{name}', part / name, facts, target)
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


def _download(url: str, path: Path, facts: Mapping[str, Any], target: Path) -> None:
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
            with writing(path), path.open('ab' if resumed else 'wb') as file:
                _copy(response, file, facts['bytes'] - (size if resumed else 0))
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


def _copy(response: Any, file: Any, expected: int) -> None:
    # One byte more than expected shows that it is another file.
    left = expected + 1
    while left > 0:
        try:
            chunk = response.read(min(_CHUNK, left))
        except OSError as error:
            # Not to be taken for an error of the disk by `writing`.
            raise urllib.error.URLError(error) from error
        if not chunk:
            return
        file.write(chunk)
        left -= len(chunk)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process downloads the same model."""
    with writing(path):
        file = path.open('w')
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
