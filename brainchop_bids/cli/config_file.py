"""Config files of ``brainchop``, whose values pass the checks of the options' own parser."""

import argparse
from pathlib import Path
from typing import Any

from ..system.errors import SettingsError
from ..system.text import near
from ..system.toml import read_toml

# Options that only mean something on the command line.
_COMMAND_LINE = ('help', 'version', 'config_file')


def apply_config(parser: argparse.ArgumentParser, path: Path) -> None:
    """Make the values of a config file the defaults of a parser.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Gets the defaults. Positional arguments in the file become optional.
    path : Path
        TOML file with a table ``[brainchop]``, of names of options, with underscores, to values.

    Raises
    ------
    SettingsError
        If the file cannot be read, an option is unknown, or its value would not be accepted on
        the command line.
    """
    actions = {
        action.dest: action for action in parser._actions if action.dest not in _COMMAND_LINE
    }
    table = read_toml(path).get('brainchop')
    if not isinstance(table, dict):
        raise SettingsError(f'{path}: expected a table [brainchop] with options in it')
    for name, value in table.items():
        if name not in actions:
            hint = near(name, actions) or '; brainchop --help lists all'
            raise SettingsError(f'{path}: unknown option {name!r}{hint}')
        action = actions[name]
        try:
            parser.set_defaults(**{name: _value(action, value)})
        except ValueError as error:
            raise SettingsError(f'{path}: {name} is {value!r}; {error}') from error
        if not action.option_strings:
            action.nargs, action.required = '?', False


def _value(action: argparse.Action, value: Any) -> Any:
    """Return the value of an option, converted as on the command line."""
    if action.nargs == 0 and action.const is not None:
        if type(value) is not bool:
            raise ValueError('expected true or false')
        return value
    if action.nargs == 0:
        # Counted, as in -vv.
        if type(value) is not int or value < 0:
            raise ValueError('expected a whole number of 0 or more')
        return value
    if action.nargs == '+':
        values = value if isinstance(value, list) else [value]
        return [_single(action, item) for item in values] or action.default
    return _single(action, value)


def _single(action: argparse.Action, value: Any) -> Any:
    if type(value) not in (str, int, float):
        raise ValueError('expected text or a number')
    convert: Any = action.type or str
    try:
        converted = convert(str(value))
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f'expected a {convert.__name__}') from error
    if action.choices is not None and converted not in action.choices:
        raise ValueError(f'expected one of {", ".join(map(str, action.choices))}')
    return converted
