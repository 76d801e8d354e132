"""Write ``boutiques.json`` (a Boutiques descriptor) and ``version``, which platforms read.

    python tools/describe_app.py [FOLDER]

Both are made from the parser of ``brainchop``. `make descriptor` runs this; a test checks that the
committed files are current. The descriptor follows schema 0.5 of
https://github.com/boutiques/boutiques, and ``version`` that of https://github.com/BIDS-Apps/example.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from brainchop_bids import __version__
from brainchop_bids.cli.options import border, count, positive
from brainchop_bids.cli.parser import build_parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
# Platforms check that input files exist; these are created by a run.
_MADE = ('output_dir', 'work_dir', 'bids_database_dir')


def describe(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the descriptor of a command.

    Parameters
    ----------
    parser : ArgumentParser
        Parser with an epilog that lists exit codes, ``0 all done, 1 some scan failed, ...``.

    Returns
    -------
    dict
        Descriptor, ready for JSON. It has no defaults, because platforms would write them on the
        command line, where they take precedence over a ``--config-file``.
    """
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))['project']
    members = {
        group.title or '': [describe_input(parser, action) for action in _actions(group)]
        for group in parser._action_groups
    }
    inputs = [entry for group in members.values() for entry in group]
    return {
        'schema-version': '0.5',
        'name': parser.prog,
        'tool-version': __version__,
        'description': parser.description,
        'author': ', '.join(author['name'] for author in project['authors']),
        'url': project['urls']['Homepage'],
        'command-line': ' '.join([parser.prog, *(entry['value-key'] for entry in inputs)]),
        'inputs': inputs,
        'groups': [
            {
                'id': title.replace(' ', '_'),
                'name': title,
                'members': [entry['id'] for entry in entries],
            }
            for title, entries in members.items()
            if entries and 'command-line-flag' in entries[0]
        ],
        'output-files': [
            {
                'id': 'derivatives',
                'name': 'BIDS derivatives and reports',
                'path-template': '[OUTPUT_DIR]',
            }
        ],
        'error-codes': [
            {'code': int(code), 'description': meaning}
            for code, meaning in re.findall(r'(\d+) ([^,.]+)', parser.epilog or '')
            if code != '0'
        ],
        'tags': {'domain': ['neuroinformatics', 'bids-app'], 'modality': ['T1w']},
    }


def describe_input(parser: argparse.ArgumentParser, action: argparse.Action) -> dict[str, Any]:
    """Return the part of the descriptor for one argument.

    Parameters
    ----------
    parser : ArgumentParser
        Parser of the argument.
    action : Action
        The argument.

    Returns
    -------
    dict
    """
    flags = [option for option in action.option_strings if option.startswith('--')]
    name = flags[0][2:].replace('-', '_') if flags else action.dest
    entry: dict[str, Any] = {
        'id': name,
        'name': name.replace('_', ' '),
        'description': (action.help or '') % {**vars(action), 'prog': parser.prog},
        'value-key': f'[{name.upper()}]',
        'optional': not action.required,
        **_kind(action),
    }
    if flags:
        entry['command-line-flag'] = flags[0]
    if action.choices:
        entry['value-choices'] = list(action.choices)
    if action.nargs == '+':
        entry |= {'list': True, 'min-list-entries': 1}
    return entry


def _kind(action: argparse.Action) -> dict[str, Any]:
    if action.nargs == 0:
        return {'type': 'Flag'}
    if action.type in (positive, count):
        return {'type': 'Number', 'integer': True, 'minimum': int(action.type is positive)}
    if action.type is border:
        return {'type': 'Number'}
    is_file = action.type is Path and action.dest not in _MADE
    return {'type': 'File' if is_file else 'String'}


def _actions(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    """Return the arguments of a group, except --help and --version."""
    return [action for action in group._group_actions if action.dest not in ('help', 'version')]


def write(folder: Path) -> None:
    """Write both files into a folder."""
    text = json.dumps(describe(build_parser()), indent=2, ensure_ascii=False)
    (folder / 'boutiques.json').write_text(text + '\n', 'utf-8')
    (folder / 'version').write_text(f'{__version__}\n', 'utf-8')


if __name__ == '__main__':
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
