"""Nipype interfaces around the functions of this package."""

from .derivatives import DrawLabels, DrawScan, WriteDerivatives
from .image import (
    Conform,
    DeriveLabels,
    KeepComponents,
    LabelVolumes,
    RecodeLabels,
    ResampleLabels,
)
from .maps import ResampleMaps, ResampleProbabilities
from .mask import MoveBorder, StripSkull
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
    'MoveBorder',
    'RecodeLabels',
    'ResampleLabels',
    'ResampleMaps',
    'ResampleProbabilities',
    'Segment',
    'StripSkull',
    'WriteDerivatives',
]
