"""Imports between the subpackages: each may import those below it, and no others."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tools.draw_architecture import SUBPACKAGES, draw, imports, module_files, subpackage

MODULES = module_files()


@pytest.mark.parametrize('name', sorted(MODULES))
def test_no_module_imports_from_a_higher_subpackage(name: str) -> None:
    mine = SUBPACKAGES.index(subpackage(name))
    for other in imports()[name]:
        assert SUBPACKAGES.index(subpackage(other)) >= mine, f'{name} imports {other}'
    # Names in strings count as well, such as those of `python -m brainchop_bids.cli.run`.
    for text in strings(name):
        for other in re.findall(r'\bbrainchop_bids(?:\.\w+)+', text):
            if other in MODULES:
                assert SUBPACKAGES.index(subpackage(other)) >= mine, f'{name} names {other}'


def test_imports_have_no_cycle() -> None:
    graph = imports()

    @cache
    def reached(name: str) -> frozenset[str]:
        found: set[str] = set()
        wave = set(graph[name])
        while wave:
            found |= wave
            wave = {other for module in wave for other in graph[module]} - found
        return frozenset(found)

    assert [name for name in graph if name in reached(name)] == []


def test_every_subpackage_is_listed() -> None:
    assert {subpackage(name) for name in MODULES} == set(SUBPACKAGES)


def strings(name: str) -> list[str]:
    """Return the strings of a module, except docstrings."""
    tree = ast.parse(Path(MODULES[name]).read_text(encoding='utf-8'))
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def test_the_picture_shows_the_imports() -> None:
    drawn = (Path(__file__).parents[1] / 'docs' / 'architecture.svg').read_text(encoding='utf-8')
    assert drawn == draw(), 'run: python tools/draw_architecture.py'
