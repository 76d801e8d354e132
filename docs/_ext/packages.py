"""Directive ``package``, which documents all public modules of a package with autodoc."""

import pkgutil
from importlib import import_module
from types import ModuleType

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles


class Package(SphinxDirective):
    """Document the public modules of a package; with ``:flat:`` without its subpackages."""

    required_arguments = 1
    option_spec = {'flat': lambda argument: True}  # noqa: RUF012, as docutils wants it

    def run(self) -> list[nodes.Node]:
        """Return the nodes that replace the directive."""
        package = import_module(self.arguments[0])
        lines = []
        for name in public_modules(package, flat='flat' in self.options):
            lines += [name, '-' * len(name), '', f'.. automodule:: {name}', '   :members:', '']
        parent = nodes.section()
        parent.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, source=package.__name__), parent)
        return parent.children


def public_modules(package: ModuleType, *, flat: bool) -> list[str]:
    """Return the names of the public modules of a package."""
    prefix = f'{package.__name__}.'
    walk = pkgutil.iter_modules if flat else pkgutil.walk_packages
    found = [module for module in walk(package.__path__, prefix) if not (flat and module.ispkg)]
    return [module.name for module in found if '._' not in module.name]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive('package', Package)
    return {'parallel_read_safe': True}
