"""Configuration of Sphinx, which builds these pages: ``make docs``."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / '_ext')]
# Keep Nipype from using the network, and TensorFlow from printing messages.
os.environ.update(NO_ET='1', TF_CPP_MIN_LOG_LEVEL='3')

from brainchop_bids import __version__  # noqa: E402

project = 'brainchop-bids'
author = 'The brainchop-bids developers'
project_copyright = author
version = release = __version__
extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'commands',
    'interfaces',
    'names',
    'packages',
]
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'brainchop-bids {version}'
# Names in single backticks refer to objects of this package.
default_role = 'py:obj'
# Literal blocks are command lines by default.
highlight_language = 'none'
smartquotes = False
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [('Inputs', 'params_style'), ('Outputs', 'params_style')]
