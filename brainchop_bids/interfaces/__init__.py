"""Nipype interfaces: thin, no numerics of their own."""

from .derivatives import DrawLabels, DrawScan, WriteDerivatives
from .image import (
    Conform,
    KeepComponents,
    LabelVolumes,
    RecodeLabels,
    ResampleLabels,
    ResampleProbabilities,
    StripSkull,
)
from .segment import Segment

__all__ = [
    'Conform',
    'DrawLabels',
    'DrawScan',
    'KeepComponents',
    'LabelVolumes',
    'RecodeLabels',
    'ResampleLabels',
    'ResampleProbabilities',
    'Segment',
    'StripSkull',
    'WriteDerivatives',
]
