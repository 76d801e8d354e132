"""Directive ``command``, which inserts the help of a command from its parser."""

import argparse
import re
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Command(SphinxDirective):
    """Describe all arguments of ``package.module``, which has a function ``build_parser``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes that replace the directive."""
        self.env.note_dependency(import_module(self.arguments[0]).__file__)
        return list(describe(import_module(self.arguments[0]).build_parser()))


def describe(parser: argparse.ArgumentParser) -> Any:
    """Yield description, usage and arguments of a command."""
    if parser.description:
        yield nodes.paragraph(text=parser.description)
    # The default is the width of the terminal.
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    usage = parser.format_usage().rstrip()
    yield nodes.literal_block(text=re.sub(f'^(usage:|{" " * 6}) ', '', usage, flags=re.MULTILINE))
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        commands = [a for a in shown if isinstance(a, argparse._SubParsersAction)]
        listed = [action for action in shown if action not in commands]
        if listed:
            yield nodes.rubric(text=group.title)
            yield nodes.definition_list('', *(_item(parser, action) for action in listed))
        for name, command in [pair for a in commands for pair in a.choices.items()]:
            section = nodes.section('', nodes.title(text=name), ids=[nodes.make_id(command.prog)])
            section.extend(describe(command))
            yield section
    if parser.epilog:
        yield nodes.paragraph(text=parser.epilog)


def _item(parser: argparse.ArgumentParser, action: argparse.Action) -> nodes.Node:
    formatter = parser._get_formatter()
    called = formatter._format_action_invocation(action)
    text = formatter._expand_help(action) if action.help else ''
    body = nodes.paragraph(text=text)
    term = nodes.term('', '', nodes.literal(text=called))
    return nodes.definition_list_item('', term, nodes.definition('', body))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive('command', Command)
    return {'parallel_read_safe': True}
