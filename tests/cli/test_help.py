"""Help texts of all commands and sub-commands."""

import argparse
import importlib
from collections.abc import Iterator

import pytest

COMMANDS = ('parser', 'segment', 'train', 'evaluate', 'models', 'localise', 'web')


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


@pytest.mark.parametrize('command', COMMANDS)
def test_every_option_is_explained(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '80')
    module = importlib.import_module(f'brainchop_bids.cli.{command}')
    for parser in parsers(module.build_parser()):
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction):
                assert action.help, f'{parser.prog} {action.option_strings or action.dest}'
        assert max(map(len, parser.format_help().splitlines())) <= 80
