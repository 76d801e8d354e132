"""Resolution of names in docstrings within their own module."""

import inspect
from importlib import import_module

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def resolve(app: Sphinx, doctree: nodes.document) -> None:
    """Replace the names in references by the full names that they have in their module.

    By itself Sphinx looks in all modules for an object whose name ends with that name.
    """
    for reference in doctree.findall(addnodes.pending_xref):
        if reference.get('refdomain') != 'py':
            continue
        name, module = reference.get('reftarget', ''), reference.get('py:module')
        found = getattr(import_module(module), name, None) if module else None
        if inspect.isclass(found) or inspect.isfunction(found):
            reference['reftarget'] = f'{found.__module__}.{found.__qualname__}'
        elif name.islower() and '_' not in name:
            # Words of a description, such as the type "shape", are not attributes.
            reference.attributes.pop('refspecific', None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect('doctree-read', resolve)
    return {'parallel_read_safe': True}
