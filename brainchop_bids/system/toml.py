"""Reading of TOML files."""

import sys
from pathlib import Path
from typing import Any

from .errors import SettingsError
from .files import require_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Configs have a few kB.
_LARGEST = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict

    Raises
    ------
    SettingsError
        If it cannot be read or is not TOML.
    """
    try:
        require_regular(path)
        with path.open('rb') as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise SettingsError(f'{path}: cannot be read ({error.strerror})') from error
    if len(content) > _LARGEST:
        raise SettingsError(f'{path}: is not TOML (it has over {_LARGEST >> 20} MB)')
    try:
        return tomllib.loads(content.decode('utf-8'))
    except RecursionError as error:
        raise SettingsError(f'{path}: is not TOML (it has too many levels)') from error
    except ValueError as error:
        raise SettingsError(f'{path}: is not TOML ({error})') from error


def parse_value(text: str) -> Any:
    """Parse one TOML value; what is none is taken as text.

    Examples
    --------
    >>> parse_value('[1, 2]'), parse_value('tissue ')
    ([1, 2], 'tissue')
    """
    try:
        return tomllib.loads(f'value = {text}')['value']
    except (ValueError, RecursionError):
        return text.strip()
