"""Names in docstrings mean what they mean in their module, and no other object of that name."""

import inspect
from importlib import import_module

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def resolve(app: Sphinx, doctree: nodes.document) -> None:
    """Give references the full names that their modules know them by.

    Sphinx alone looks for any object whose name ends so, in all modules.
    """
    for reference in doctree.findall(addnodes.pending_xref):
        if reference.get('refdomain') != 'py':
            continue
        name, module = reference.get('reftarget', ''), reference.get('py:module')
        found = getattr(import_module(module), name, None) if module else None
        if inspect.isclass(found) or inspect.isfunction(found):
            reference['reftarget'] = f'{found.__module__}.{found.__qualname__}'
        elif name.islower() and '_' not in name:
            # A word of a description, such as the type "shape", is no attribute elsewhere.
            reference.attributes.pop('refspecific', None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.connect('doctree-read', resolve)
    return {'parallel_read_safe': True}
