"""Published models from upstream's addresses: checked, resumable, and never half there."""

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

_PIECE = 1 << 16
_TIMEOUT = 30.0


def fetch_model(
    model: Published,
    folder: Path,
    *,
    mirror: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch a model's files, or what is missing of them.

    Parameters
    ----------
    model : Published
        Which one.
    folder : Path
        Gets a folder of the model's name, once all its files have their checksums.
    mirror : str, optional
        Address of a folder of model folders, in place of upstream's.
    tell : callable
        Is given a line for each file.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    ModelError
        Where a file cannot be had or is another one than it should be. What came is kept
        beside the folder's place, and the next call goes on from there.
    OutputError
        Where it cannot be written.
    """
    target, part = folder / model.name, folder / f'.{model.name}.part'
    base = model.url if mirror is None else f'{mirror.rstrip("/")}/{model.name}/'
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f'.{model.name}.lock'):
        if not faults(target, model):
            tell(f'{target}: is there already')
            return target
        with writing(part):
            part.mkdir(exist_ok=True)
        for name, facts in model.files.items():
            if _fault(part / name, facts):
                tell(f'{base}{name} ({facts["bytes"]:,} bytes)')
                _fetch(f'{base}{name}', part / name, facts, target)
        with writing(target):
            if target.exists():
                # A folder that failed its checks: its files are replaced, all at once.
                shutil.rmtree(target)
            os.replace(part, target)
    return target


def faults(folder: Path, model: Published) -> list[str]:
    """Return what is wrong with a published model's folder, a line for each file at fault."""
    found = []
    for name, facts in model.files.items():
        reason = _fault(folder / name, facts)
        if reason:
            found.append(f'{folder / name}: {reason}')
    return found


def _fault(path: Path, facts: Mapping[str, Any]) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 'is missing'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    if len(content) != facts['bytes']:
        return f'has {len(content)} bytes, expected {facts["bytes"]}'
    digest = hashlib.sha256(content).hexdigest()
    if digest != facts['sha256']:
        return f'has the sha256 {digest[:12]}..., expected {facts["sha256"][:12]}...'
    return ''


def _fetch(url: str, path: Path, facts: Mapping[str, Any], target: Path) -> None:
    have = path.stat().st_size if path.exists() else 0
    if have >= facts['bytes']:
        # As long as it should be, and yet not it.
        path.unlink()
        have = 0
    request = urllib.request.Request(url, headers={'User-Agent': 'brainchop-bids'})  # noqa: S310
    if have:
        request.add_header('Range', f'bytes={have}-')
    by_hand = f'on a machine that can, fetch it and put it at {target / path.name}'
    try:
        # Proxies are those of the environment.
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT) as answer:
            goes_on = answer.status == 206
            with writing(path), path.open('ab' if goes_on else 'wb') as file:
                _copy(answer, file, facts['bytes'] - (have if goes_on else 0))
    except urllib.error.HTTPError as error:
        raise ModelError(
            f'{url}: the server says {error.code} {error.reason}; {by_hand}'
        ) from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, 'reason', None) or error or type(error).__name__
        raise ModelError(f'{url}: cannot be fetched ({reason}); {by_hand}') from error
    reason = _fault(path, facts)
    if reason:
        short = path.stat().st_size < facts['bytes']
        if not short:
            path.unlink()
        again = 'run the command again to go on' if short else 'the server has another file'
        raise ModelError(f'{url}: what came {reason}; {again}')


def _copy(answer: Any, file: Any, limit: int) -> None:
    # One byte more than wanted is enough to know that it is another file.
    left = limit + 1
    while left > 0:
        try:
            piece = answer.read(min(_PIECE, left))
        except OSError as error:
            # Not the disk's fault, which `writing` would make of it.
            raise urllib.error.URLError(error) from error
        if not piece:
            return
        file.write(piece)
        left -= len(piece)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process fetches the same model."""
    with writing(path):
        file = path.open('w')
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
