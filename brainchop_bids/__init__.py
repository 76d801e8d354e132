"""BIDS App that segments brain MRI with tiny networks.

In Python, scans are segmented without files:

>>> import brainchop_bids as bc
>>> result = bc.segment('T1w.nii.gz')  # doctest: +SKIP
>>> result.labels.to_filename('labels.nii.gz')  # doctest: +SKIP

Importing the package takes milliseconds; what a name needs is imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.segmenter import Segmentation, Segmenter, segment
    from .api.steps import conform, evaluate, localise
    from .image.conform import ConformOptions
    from .system.errors import BrainchopError

__version__ = '0.2.0'
__all__ = [
    'BrainchopError',
    'ConformOptions',
    'Segmentation',
    'Segmenter',
    'conform',
    'evaluate',
    'localise',
    'segment',
]

_HOMES = {
    'BrainchopError': 'system.errors',
    'ConformOptions': 'image.conform',
    'Segmentation': 'api.segmenter',
    'Segmenter': 'api.segmenter',
    'conform': 'api.steps',
    'evaluate': 'api.steps',
    'localise': 'api.steps',
    'segment': 'api.segmenter',
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = found = getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
