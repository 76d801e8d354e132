"""Lists of the inputs and outputs of Nipype interfaces, appended to their docstrings."""

from typing import Any

from nipype.interfaces.base import BaseInterface, CommandLineInputSpec
from sphinx.application import Sphinx


def add_traits(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """List the inputs and outputs of an interface in sections that napoleon reads."""
    if what != 'class' or not issubclass(found, BaseInterface):
        return
    for title, spec in (('Inputs', found.input_spec), ('Outputs', found.output_spec)):
        if spec is None:
            continue
        given = spec()
        # Inputs of all command-line interfaces are described in Nipype's own pages.
        traits = {
            key: trait
            for key, trait in given.traits(transient=None).items()
            if key not in CommandLineInputSpec.class_traits()
        }
        section = [title, '-' * len(title)]
        for key, trait in sorted(traits.items(), key=lambda pair: not pair[1].mandatory):
            section += [f'{key} : {_kind(given, key, trait)}', f'    {trait.desc or ""}']
        lines += ['', *section, '']


def _kind(given: Any, key: str, trait: Any) -> str:
    kind = type(trait.trait_type).__name__.lower()
    if kind == 'enum':
        kind = ' or '.join(map(repr, trait.trait_type.values))
    if trait.mandatory:
        return f'{kind}, mandatory'
    return f'{kind}, default {getattr(given, key)!r}' if trait.usedefault else kind


def hide_specs(
    app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the classes of traits, which are listed with the interfaces."""
    hidden = ('InputSpec', 'OutputSpec', 'input_spec', 'output_spec')
    return True if name.endswith(hidden) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both functions, to run before napoleon, whose priority is 500."""
    app.connect('autodoc-process-docstring', add_traits, priority=400)
    app.connect('autodoc-skip-member', hide_specs)
    return {'parallel_read_safe': True}
