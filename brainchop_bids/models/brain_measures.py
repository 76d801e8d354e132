"""Brain measures: sums of the volumes of labels, with FreeSurfer's names and meanings.

The definitions are those of FreeSurfer 8 (`ComputeBrainVolumeStats2
<https://github.com/freesurfer/freesurfer/blob/dev/utils/cma.cpp>`_), except that the cortex is
counted in voxels, too, where FreeSurfer takes the volume between two surfaces.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .freesurfer import CALLOSUM, CORTEX, REGIONS, structure_and_side

# Structures of a measure that a model must have labels for, and those that are added where it
# has: without a label of their own they are parts of others, as choroid plexus of ventricles.
Parts = tuple[tuple[str, ...], tuple[str, ...]]
# Volumes of the labels of each structure by side, see `structure_and_side`.
Volumes = dict[str, dict[str, float]]

INTRACRANIAL = 'EstimatedTotalIntraCranialVol'

_CORTEX: Parts = (CORTEX,), ()
_WHITE: Parts = ('Cerebral-White-Matter',), ('WM-hypointensities', CALLOSUM)
_SUBCORTICAL: Parts = (
    (
        'Thalamus', 'Caudate', 'Putamen', 'Pallidum', 'Hippocampus', 'Amygdala', 'Accumbens-area',
        'VentralDC',
    ),
    ('Substancia-Nigra',),
)  # fmt: skip
_CEREBELLAR_GREY: Parts = ('Cerebellum-Cortex',), ()
_CEREBELLUM: Parts = ('Cerebellum-Cortex', 'Cerebellum-White-Matter'), ()
_VENTRICLES: Parts = ('Lateral-Ventricle', 'Inf-Lat-Vent'), ('choroid-plexus',)
_OTHER_FLUID: Parts = ('3rd-Ventricle', '4th-Ventricle'), ('5th-Ventricle', 'CSF')
_OTHER_TISSUE: Parts = (), ('vessel', 'non-WM-hypointensities')


def _join(*parts: Parts) -> Parts:
    required, optional = zip(*parts, strict=True)
    return sum(required, ()), sum(optional, ())


_TISSUE = _join(_CORTEX, _WHITE, _SUBCORTICAL, _CEREBELLUM, _OTHER_TISSUE)


@dataclass(frozen=True)
class BrainMeasure:
    """Definition of a brain measure.

    Parameters
    ----------
    description : str
        Description of the volume.
    parts : Parts
        Structures that are summed.
    side : str
        ``'left'`` or ``'right'`` if only one hemisphere counts.
    """

    description: str
    parts: Parts = ((), ())
    side: str = ''


MEASURES = {
    'BrainSeg': BrainMeasure(
        'Brain with ventricles, without brainstem', _join(_TISSUE, _VENTRICLES, _OTHER_FLUID)
    ),
    'BrainSegNotVent': BrainMeasure('Brain without ventricles and brainstem', _TISSUE),
    'lhCortex': BrainMeasure('Cortex of the left hemisphere', _CORTEX, 'left'),
    'rhCortex': BrainMeasure('Cortex of the right hemisphere', _CORTEX, 'right'),
    'Cortex': BrainMeasure('Cortex of both hemispheres', _CORTEX),
    'lhCerebralWhiteMatter': BrainMeasure('White matter, left hemisphere', _WHITE, 'left'),
    'rhCerebralWhiteMatter': BrainMeasure('White matter, right hemisphere', _WHITE, 'right'),
    'CerebralWhiteMatter': BrainMeasure('White matter of both hemispheres', _WHITE),
    'SubCortGray': BrainMeasure(
        'Thalamus, basal ganglia, hippocampus, amygdala, ventral diencephalon', _SUBCORTICAL
    ),
    'TotalGray': BrainMeasure(
        'Cortex, subcortical grey matter and cortex of the cerebellum',
        _join(_CORTEX, _SUBCORTICAL, _CEREBELLAR_GREY),
    ),
    'Cerebellum': BrainMeasure('Cortex and white matter of the cerebellum', _CEREBELLUM),
    'VentricleChoroidVol': BrainMeasure('Lateral ventricles and choroid plexus', _VENTRICLES),
    INTRACRANIAL: BrainMeasure('Intracranial volume (eTIV): brain and the fluid around it'),
}


def brain_measures(
    volumes: Mapping[int, float],
    names: Mapping[int, str],
    codes: Mapping[int, int],
    *,
    fluid: bool = False,
) -> dict[str, float]:
    """Return the brain measures that the labels of a scan give.

    Parameters
    ----------
    volumes : mapping of int to float
        Volume of each label in mm^3; a label without a volume is empty.
    names : mapping of int to str
        Names of all labels of the model.
    codes : mapping of int to int
        FreeSurfer's codes of those that have one.
    fluid : bool
        Whether the label CSF is the fluid around the brain, which is not part of the brain.

    Returns
    -------
    dict of str to float
        Volumes in mm^3 by the names in `MEASURES`. A measure is left out if the model has no
        label for one of its structures.

    Examples
    --------
    >>> names = {1: 'Cerebral-Cortex', 2: 'Caudate', 3: 'Brain-Stem'}
    >>> brain_measures({1: 5e5, 2: 7e3}, names, {3: 16})
    {'Cortex': 500000.0}
    """
    found: Volumes = {}
    for label, name in names.items():
        structure, side = structure_and_side(name, codes.get(label)) or ('', '')
        if structure == 'CSF' and fluid:
            continue
        sides = found.setdefault(structure, {})
        sides[side] = sides.get(side, 0.0) + volumes.get(label, 0.0)
    _join_regions(found)
    totals = {name: _total(measure, found) for name, measure in MEASURES.items()}
    return {name: round(total, 3) for name, total in totals.items() if total is not None}


def _join_regions(found: Volumes) -> None:
    """Add the cortex of the sides that have a label for each of its regions."""
    for side in ('left', 'right', ''):
        regions = [found[name][side] for name in REGIONS if side in found.get(name, ())]
        if len(regions) == len(REGIONS):
            cortex = found.setdefault(CORTEX, {})
            cortex[side] = cortex.get(side, 0.0) + sum(regions)


def _total(measure: BrainMeasure, found: Volumes) -> float | None:
    """Return the sum of the parts of a measure; None if one is missing."""
    required, optional = measure.parts
    total = 0.0
    for structure in (*required, *optional):
        sides = found.get(structure, {})
        volume = _of_side(structure, sides, measure.side) if measure.side else _of_both(sides)
        if volume is None and (sides or structure in required):
            return None
        total += volume or 0.0
    return total if required else None


def _of_both(sides: Mapping[str, float]) -> float | None:
    whole = '' in sides or {'left', 'right'} <= sides.keys()
    return sum(sides.values()) if whole else None


def _of_side(structure: str, sides: Mapping[str, float], side: str) -> float | None:
    if structure == CALLOSUM and '' in sides:
        return sides[''] / 2
    return None if '' in sides else sides.get(side)
