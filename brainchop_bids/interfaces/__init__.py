"""Nipype interfaces: thin, no numerics of their own."""

from .derivatives import Mosaic, WriteDerivatives
from .image import Conform, KeepComponents, LabelVolumes, ResampleLabels, ResampleProbabilities
from .segment import Segment

__all__ = [
    'Conform',
    'KeepComponents',
    'LabelVolumes',
    'Mosaic',
    'ResampleLabels',
    'ResampleProbabilities',
    'Segment',
    'WriteDerivatives',
]
