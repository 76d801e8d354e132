"""Measures and flags of one scan with its labels, in the scan's own grid.

Not in the conformed one: that is interpolated and has 8 bits, so its noise differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..image.background import void_mask, void_value
from ..image.components import fill_holes
from ..image.geometry import Geometry
from ..image.io import Volume
from ..image.lookup import histogram, lookup
from ..models.labels import Label
from ..models.sides import lateral_pairs
from .flags import Flag, Quantities, find_flags
from .histogram import Distribution
from .limits import LIMITS
from .measures import efc, fber, sharpness, tissue_measures, wm2max
from .regions import BlockGrid, air_blocks, box_of, head_blocks
from .symmetry import mirror_asymmetry

# BIDS' common labels that are tissues.
_TISSUE_CODES = {'gm': 1, 'wm': 2, 'csf': 3}
# Structures absent from many brains, and some models' labels for lesions.
_OPTIONAL = (
    'vessel',
    'hypointensities',
    'lesion',
    '5th-ventricle',
    'choroid-plexus',
    'optic-chiasm',
    'unknown',
)
# Noise cannot be measured in fewer voxels of air, nor where half of them are exactly 0.
_LEAST_AIR = 1000
_MOST_ZEROS = 0.5
_EDGE_MM = 2.0
# What is darker than this percentile of the brain, outside of its mask, is no brain.
_DARK_PERCENT = 10
# Planes with less brain hold spinal cord or poles.
_LEAST_CM2 = 3.0
_OPPOSITE = {'L': 'R', 'R': 'L', 'P': 'A', 'A': 'P', 'I': 'S', 'S': 'I'}
_LITRE = 1e6  # mm^3


@dataclass(frozen=True)
class LabelScheme:
    """Meaning of the values of a label image.

    Parameters
    ----------
    names : mapping of int to str
        Value to name, of all labels that the model has; 0 is background.
    tissues : mapping of int to int
        Value to BIDS' common label: 1 grey matter, 2 white matter, 3 fluid.
    covers_brain : bool
        Whether the labels are those of a whole brain.
    """

    names: Mapping[int, str]
    tissues: Mapping[int, int]
    covers_brain: bool = True

    @classmethod
    def of(cls, labels: Mapping[int, Label], *, covers_brain: bool) -> 'LabelScheme':
        """Take names and tissues from labels by value."""
        return cls(
            {value: label.name for value, label in labels.items()},
            {value: label.mapping for value, label in labels.items() if label.mapping},
            covers_brain,
        )


@dataclass(frozen=True)
class Assessment:
    """Quality of a scan and plausibility of its labels.

    Parameters
    ----------
    measures : dict of str to float
        Image quality by MRIQC's names.
    flags : tuple of Flag
        Reasons to look at the result.
    quantities : Quantities
        All numbers that have limits.
    """

    measures: dict[str, float]
    flags: tuple[Flag, ...]
    quantities: Quantities


def assess(
    volume: Volume,
    labels: np.ndarray,
    mask: np.ndarray | None,
    scheme: LabelScheme,
    *,
    removed_mm3: float = 0.0,
) -> Assessment:
    """Measure the quality of a scan and check its labels for plausibility.

    Parameters
    ----------
    volume : Volume
        The scan with its own intensities.
    labels : (X, Y, Z) array of unsigned integers
        Labels in its grid.
    mask : (X, Y, Z) array or None
        Brain mask in its grid; ignored where the labels do not cover the brain.
    scheme : LabelScheme
        Meaning of the labels.
    removed_mm3 : float
        Volume that the component rule removed.

    Returns
    -------
    Assessment
        Measures that cannot be computed are left out, see `measures`.

    Raises
    ------
    ValueError
        If the arrays have different shapes.
    """
    shapes = {volume.data.shape, labels.shape} | ({mask.shape} if mask is not None else set())
    if len(shapes) > 1:
        raise ValueError(f'scan, labels and mask have shapes {sorted(shapes)}, expected one')
    empty = void_value(volume.data)
    void = void_mask(volume.data, empty)
    counts = histogram(labels, max(scheme.names, default=0) + 1)
    quantities = _label_quantities(counts, volume.geometry, scheme, removed_mm3)
    if not scheme.covers_brain or mask is None or not mask.any():
        image = Distribution.of(volume.data, ~void).scaled(1)
        return _assessment({'efc': efc(image)}, quantities)
    return _assess_brain(volume, labels, mask != 0, (void, empty), scheme, quantities)


def _assess_brain(
    volume: Volume,
    labels: np.ndarray,
    brain: np.ndarray,
    background: tuple[np.ndarray, float],
    scheme: LabelScheme,
    quantities: Quantities,
) -> Assessment:
    """Assess a scan whose labels cover the brain, given what the labels alone say.

    ``background`` is the mask of empty background, and the value of empty voxels.
    """
    void, empty = background
    blocks = BlockGrid.of(volume.data, void, brain, volume.geometry)
    head = head_blocks(blocks)
    measures = _background_measures(volume.data, void, blocks, head)
    regions = _tissue_intensities(volume.data, labels, brain, scheme)
    air = _air_intensities(volume.data, void, blocks, head, empty)
    measures |= tissue_measures(regions, air)
    if 'summary_wm_median' in measures:
        measures['wm2max'] = wm2max(Distribution.of(volume.data).scaled(1), regions['wm'].median)
    box = box_of(brain)
    measures |= sharpness(volume.data[box], brain[box], volume.geometry.orientation)
    quantities = _brain_quantities(quantities, labels[box], brain, blocks, volume.geometry)
    quantities = _head_quantities(quantities, blocks, head)
    stripped = (
        quantities.surround_filled is not None
        and quantities.surround_filled < LIMITS.surround_filled
    )
    if stripped:
        lost = _lost_fraction(volume.data, brain, empty)
        quantities = replace(quantities, lost_fraction=lost)
    quantities = _edge_quantities(quantities, brain, void, volume.geometry, padded=not stripped)
    return _assessment(measures, replace(quantities, cjv=measures.get('cjv')))


def _assessment(measures: Mapping[str, float | None], quantities: Quantities) -> Assessment:
    finite = {
        name: float(f'{value:.6g}')
        for name, value in sorted(measures.items())
        if value is not None and np.isfinite(value)
    }
    return Assessment(finite, tuple(find_flags(quantities)), quantities)


def _label_quantities(
    counts: np.ndarray, geometry: Geometry, scheme: LabelScheme, removed_mm3: float
) -> Quantities:
    """Return the quantities that follow from the volumes of the labels."""
    voxel = geometry.voxel_volume
    volumes = {value: float(counts[value]) * voxel for value in scheme.names}
    labelled = float(counts[1:].sum()) * voxel
    pairs = lateral_pairs(scheme.names)
    left, right = (sum(volumes[pair[end]] for pair in pairs) for end in (0, 1))
    grey, white = (
        sum(volumes.get(value, 0.0) for value, code in scheme.tissues.items() if code == tissue)
        for tissue in (1, 2)
    )
    kinds = set(scheme.tissues.values())
    whole = scheme.covers_brain and {1, 2} <= kinds
    total = removed_mm3 + labelled
    return Quantities(
        labelled_ml=labelled / 1e3,
        voxel_mm=float(geometry.zooms.max()),
        covers_brain=scheme.covers_brain,
        missing=tuple(
            name
            for value, name in scheme.names.items()
            if value and not counts[value] and not name.lower().endswith(_OPTIONAL)
        ),
        grey_white=grey / max(white, voxel) if whole else None,
        lateral_difference=abs(left - right) / (left + right) if left + right else None,
        removed_fraction=removed_mm3 / total if total and scheme.covers_brain else None,
        has_fluid=3 in kinds or not kinds & {1, 2},
    )


def _tissue_intensities(
    data: np.ndarray, labels: np.ndarray, brain: np.ndarray, scheme: LabelScheme
) -> dict[str, Distribution]:
    """Return the intensities of each tissue that the model labels."""
    table = np.zeros(int(labels.max()) + 1, dtype=np.uint8)
    for value, code in scheme.tissues.items():
        if value < table.size:
            table[value] = code
    box = box_of(labels != 0)
    values, codes = data[box], lookup(table, np.asarray(labels[box], order='F'))
    known = set(scheme.tissues.values())
    return {
        name: Distribution.of(values, codes == code)
        for name, code in _TISSUE_CODES.items()
        if code in known
    }


def _air_intensities(
    data: np.ndarray, void: np.ndarray, blocks: BlockGrid, head: np.ndarray, empty: float
) -> Distribution | None:
    """Return the intensities of air; None for too little air, or air that is mostly empty."""
    inside = blocks.expand(air_blocks(blocks, head), data.shape)
    air = Distribution.of(data, inside & ~void)
    if air.size < _LEAST_AIR:
        return None
    zeros = int(air.counts[air.values == empty].sum())
    return air if zeros < _MOST_ZEROS * air.size else None


def _lost_fraction(data: np.ndarray, brain: np.ndarray, empty: float) -> float:
    """Return the share of brain outside the mask, in a scan that holds little but brain.

    Fluid and meninges, which stripping may leave, are darker than nearly all of the brain.
    """
    bright = (data >= np.percentile(data[brain], _DARK_PERCENT)) & (data != empty)
    return int(np.count_nonzero(bright & ~brain)) / max(1, int(np.count_nonzero(bright)))


def _background_measures(
    data: np.ndarray, void: np.ndarray, blocks: BlockGrid, head: np.ndarray
) -> dict[str, float | None]:
    """Return the measures of head and background."""
    inside = blocks.expand(head, data.shape)
    within, around = (
        Distribution.of(data, region & ~void).scaled(1) for region in (inside, ~inside)
    )
    both = Distribution(
        np.concatenate([within.values, around.values]),
        np.concatenate([within.counts, around.counts]),
    )
    measures = {'efc': efc(both)}
    if around.size >= _LEAST_AIR:
        measures['fber'] = fber(within, around)
    return measures


def _brain_quantities(
    quantities: Quantities,
    labels: np.ndarray,
    brain: np.ndarray,
    blocks: BlockGrid,
    geometry: Geometry,
) -> Quantities:
    """Add quantities of the brain's shape; ``labels`` are those of the box around it."""
    size = int(np.count_nonzero(brain))
    foreground = labels != 0
    holes = np.count_nonzero(fill_holes(foreground)) - np.count_nonzero(foreground)
    return replace(
        quantities,
        brain_l=size * geometry.voxel_volume / _LITRE,
        mirror_asymmetry=mirror_asymmetry(blocks.brain, blocks.affine),
        hole_fraction=holes / size,
    )


def _head_quantities(quantities: Quantities, blocks: BlockGrid, head: np.ndarray) -> Quantities:
    """Add quantities of the head around the brain."""
    brain, none = blocks.brain > 0, blocks.brain == 0
    core = blocks.brain > 0.5
    shell = ndimage.binary_dilation(brain, iterations=4)
    shell &= ~ndimage.binary_dilation(brain, iterations=1)
    quantities = replace(
        quantities,
        surround_filled=float((blocks.filled[shell] > 0.5).mean()) if shell.any() else None,
    )
    outside = none & (blocks.filled == 1)
    if not core.any() or not none.any():
        return quantities
    inner = float(np.median(blocks.mean[core]))
    if inner > 0:
        outside = float(np.median(blocks.mean[none])) / inner
        quantities = replace(quantities, surround_intensity=outside)
    rest = head & none
    if not rest.any():
        return quantities
    offset = blocks.places(rest).mean(axis=0) - blocks.places(core).mean(axis=0)
    length = float(np.linalg.norm(offset))
    return replace(
        quantities,
        extracerebral_l=float(rest.sum()) * blocks.volume / _LITRE,
        extracerebral_mm=length,
        head_angle_degrees=float(np.degrees(np.arccos(-offset[2] / length))) if length else None,
    )


def _edge_quantities(
    quantities: Quantities,
    brain: np.ndarray,
    void: np.ndarray,
    geometry: Geometry,
    *,
    padded: bool,
) -> Quantities:
    """Add the length of the brain, and its area at the faces of the field of view.

    Empty background (padding) is outside the field of view, except in skull-stripped scans, where
    it begins at the brain itself.
    """
    field = box_of(~void) if padded else tuple(slice(0, n) for n in brain.shape)
    areas: dict[str, float] = {}
    lengths = []
    for axis, letter in enumerate(geometry.orientation):
        zoom = float(geometry.zooms[axis])
        others = tuple(other for other in range(3) if other != axis)
        planes = np.count_nonzero(brain, axis=others) * geometry.voxel_volume / zoom / 100
        held = np.flatnonzero(planes > _LEAST_CM2)
        lengths.append(float(np.ptp(held) + 1) * zoom if held.size else 0.0)
        within = planes[field[axis]]
        depth = max(1, round(_EDGE_MM / zoom))
        areas[letter] = float(within[-depth:].max())
        areas[_OPPOSITE[letter]] = float(within[:depth].max())
    base = areas.pop('I')
    return replace(quantities, edge_cm2=max(areas.values()), base_cm2=base, extent_mm=max(lengths))
