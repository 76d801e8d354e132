"""Rendering of pages from templates, each one file that loads nothing from elsewhere.

The content of derivatives may be hostile. Templates escape all of it, and the content security
policy of a page forbids outside resources and all scripts but its own, which has a known checksum.
"""

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__

_FOLDER = 'report'
# Not allowed in HTML even if escaped: C0 controls other than white space, and DEL.
_CONTROLS = dict.fromkeys([*range(9), 11, *range(14, 32), 127], '\ufffd')


def render_template(
    template: str,
    *,
    heading: str,
    scripts: tuple[str, ...],
    styles: tuple[str, ...] = ('style.css',),
    **context: Any,
) -> str:
    """Render a page.

    Parameters
    ----------
    template : str
        File name of a template that extends ``base.html``.
    heading : str
        Heading of the page, also in its title.
    scripts : tuple of str
        File names of the scripts that the page runs, in order.
    styles : tuple of str
        File names of the style sheets, in order.
    **context
        Variables of the template. Text is escaped.

    Returns
    -------
    str
        A whole document without characters that UTF-8 or HTML cannot hold.
    """
    environment = Environment(
        loader=PackageLoader('brainchop_bids.data', _FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters['fixed'] = fixed
    environment.filters['millilitres'] = millilitres
    script = '\n'.join(_resource(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = environment.get_template(template).render(
        heading=heading,
        version=__version__,
        # Ours, and with brackets that must not be escaped.
        style=Markup('\n'.join(_resource(name) for name in styles)),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=Markup(f"'sha256-{digest}'" if script else "'none'"),  # noqa: S704
        **context,
    )
    # Lone surrogates come from escapes in JSON and from file names that are no UTF-8.
    return html.translate(_CONTROLS).encode('utf-8', 'backslashreplace').decode('utf-8')


def fixed(value: float | None, digits: int = 0) -> str:
    """Write a number with thousands separators; a dash for None.

    Examples
    --------
    >>> fixed(1234.5, 1), fixed(None)
    ('1,234.5', '–')
    """
    return '–' if value is None else f'{value:,.{digits}f}'


def millilitres(volume: float | None) -> str:
    """Write a volume in mm^3 in millilitres; a dash for None.

    Examples
    --------
    >>> millilitres(3571.4), millilitres(None)
    ('3.57', '–')
    """
    return fixed(None if volume is None else volume / 1000, 2)


def webp_uri(content: bytes) -> str | None:
    """Return a WebP file as a data URI, or None where the bytes are no such file."""
    if content[:4] != b'RIFF' or content[8:12] != b'WEBP':
        return None
    return f'data:image/webp;base64,{base64.b64encode(content).decode()}'


def dataset_name(root: Path) -> str:
    """Return the name of the derivative dataset, or an empty string."""
    try:
        description = json.loads((root / 'dataset_description.json').read_text('utf-8-sig'))
    except (OSError, ValueError, RecursionError):
        return ''
    name = description.get('Name') if isinstance(description, dict) else None
    return name if isinstance(name, str) else ''


def _resource(name: str) -> str:
    folder = resources.files('brainchop_bids.data') / _FOLDER
    return (folder / name).read_text('utf-8')
