"""Nipype workflow factories, installed as ``brainchop_bids.workflows``."""

import sys
from importlib.util import find_spec
from types import ModuleType

if find_spec('pwd') is None:  # Windows
    # Nipype imports the plugin for SGE, which alone needs this module, with all others.
    sys.modules['pwd'] = ModuleType('pwd')
    import nipype.pipeline.plugins  # noqa: F401

    del sys.modules['pwd']
