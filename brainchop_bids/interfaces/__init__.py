"""Nipype interfaces around the functions of this package."""

from .derivatives import DrawLabels, DrawScan, WriteDerivatives
from .image import (
    Conform,
    DeriveLabels,
    KeepComponents,
    LabelVolumes,
    RecodeLabels,
    ResampleLabels,
    ResampleProbabilities,
    StripSkull,
)
from .model import FindModel
from .quality import AssessQuality
from .segment import Segment

__all__ = [
    'AssessQuality',
    'Conform',
    'DeriveLabels',
    'DrawLabels',
    'DrawScan',
    'FindModel',
    'KeepComponents',
    'LabelVolumes',
    'RecodeLabels',
    'ResampleLabels',
    'ResampleProbabilities',
    'Segment',
    'StripSkull',
    'WriteDerivatives',
]
