"""Nipype interfaces: thin, no numerics of their own."""

from .derivatives import Mosaic, WriteDerivatives
from .image import (
    Conform,
    KeepComponents,
    LabelVolumes,
    RecodeLabels,
    ResampleLabels,
    ResampleProbabilities,
    StripSkull,
)
from .quality import AssessQuality
from .segment import Segment

__all__ = [
    'AssessQuality',
    'Conform',
    'KeepComponents',
    'LabelVolumes',
    'Mosaic',
    'RecodeLabels',
    'ResampleLabels',
    'ResampleProbabilities',
    'Segment',
    'StripSkull',
    'WriteDerivatives',
]
