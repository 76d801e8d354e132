"""Flags: reasons to look at a result, each with its number and its limit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..bids.names import MODALITIES
from .limits import LIMITS, Limits


@dataclass(frozen=True)
class Flag:
    """One reason to look at a result.

    Parameters
    ----------
    name : str
        Lower-case words with hyphens.
    value : float or None
        The number that is beyond its limit; None where a sidecar does not say.
    reason : str
        A sentence with number and limit.
    """

    name: str
    value: float | None
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Return the entry of a sidecar."""
        return {'Name': self.name, 'Value': self.value, 'Reason': self.reason}


@dataclass(frozen=True)
class Quantities:
    """The numbers that have limits; None for those that do not apply.

    Parameters
    ----------
    labelled_ml : float
        Volume of all labels, mL.
    voxel_mm : float
        Largest voxel size, mm.
    covers_brain : bool
        Whether the labels are those of a whole brain.
    missing : tuple of str
        Names of labels that were not found.
    brain_l : float or None
        Volume of the brain mask, L.
    grey_white : float or None
        Volume of grey over white matter.
    mirror_asymmetry : float or None
        Share of the brain mask that its best mirror image misses.
    lateral_difference : float or None
        Difference of left and right labels over their sum.
    removed_fraction : float or None
        Share of the labelled volume that the component rule removed.
    hole_fraction : float or None
        Background inside the labels over the volume of the brain mask.
    has_fluid : bool
        Whether ventricles have a label, or the labels do not distinguish tissues.
    extent_mm : float or None
        Length of the brain along the longest of its axes, mm.
    edge_cm2, base_cm2 : float or None
        Area of brain at the lower face of the field of view (`base_cm2`) and at any other, cm^2.
    cjv : float or None
        Coefficient of joint variation.
    surround_filled : float or None
        Share of non-empty blocks around the brain.
    lost_fraction : float or None
        Share of the voxels of a skull-stripped scan as bright as brain that lie outside its mask.
    surround_intensity : float or None
        Median intensity outside the brain over that inside.
    head_angle_degrees, extracerebral_l, extracerebral_mm : float or None
        Angle between down and the direction from the brain's centre to that of the rest of the
        head; volume of that rest; distance of the centres.
    """

    labelled_ml: float
    voxel_mm: float
    covers_brain: bool = True
    missing: tuple[str, ...] = ()
    brain_l: float | None = None
    grey_white: float | None = None
    mirror_asymmetry: float | None = None
    lateral_difference: float | None = None
    removed_fraction: float | None = None
    hole_fraction: float | None = None
    has_fluid: bool = True
    extent_mm: float | None = None
    edge_cm2: float | None = None
    base_cm2: float | None = None
    cjv: float | None = None
    surround_filled: float | None = None
    lost_fraction: float | None = None
    surround_intensity: float | None = None
    head_angle_degrees: float | None = None
    extracerebral_l: float | None = None
    extracerebral_mm: float | None = None


@dataclass(frozen=True)
class _Rule:
    """A number, its limits, and a sentence with both."""

    name: str
    value: Callable[[Quantities], float | None]
    range: Callable[[Quantities, Limits], tuple[float, float]]
    reason: str
    digits: int = 3

    def check(self, measured: Quantities, limits: Limits) -> Flag | None:
        value, (low, high) = self.value(measured), self.range(measured, limits)
        if value is None or low <= value <= high:
            return None
        value = round(value, self.digits)
        names = ', '.join(measured.missing[:4]) + f' and {len(measured.missing) - 4} more' * (
            len(measured.missing) > 4
        )
        return Flag(
            self.name, value, self.reason.format(value=value, low=low, high=high, names=names)
        )


def find_flags(measured: Quantities, limits: Limits = LIMITS) -> list[Flag]:
    """Compare measurements with their limits.

    Parameters
    ----------
    measured : Quantities
        The measurements.
    limits : Limits
        The plausible ranges.

    Returns
    -------
    list of Flag
        In a fixed order, one of each name; empty where all is plausible. An empty result has that
        flag and possibly ``voxel-size``, no others.

    Examples
    --------
    >>> [flag.name for flag in find_flags(Quantities(1500, 1.0, brain_l=2.5))]
    ['brain-volume']
    """
    flags: dict[str, Flag] = {}
    for rule in _RULES:
        if _EMPTY in flags and rule.name != 'voxel-size':
            continue
        flag = rule.check(measured, limits)
        if flag is not None:
            flags.setdefault(flag.name, flag)
    return list(flags.values())


def _up_to(most: float) -> tuple[float, float]:
    return -math.inf, most


def _from(least: float) -> tuple[float, float]:
    return least, math.inf


def _labelled(measured: Quantities, limits: Limits) -> tuple[float, float]:
    # Labels of a small structure alone may be small.
    return _from(limits.labelled_ml if measured.covers_brain else math.ulp(0.0))


def _most_holes(measured: Quantities, limits: Limits) -> tuple[float, float]:
    return _up_to(limits.hole_fraction if measured.has_fluid else limits.hole_fraction_no_fluid)


def _turned(measured: Quantities, limits: Limits) -> tuple[float, float]:
    rest, distance = measured.extracerebral_l, measured.extracerebral_mm
    low, high = limits.extracerebral_l
    if (
        rest is None
        or distance is None
        or not low <= rest <= high
        or distance < limits.extracerebral_mm
    ):
        # The rest of the head was not seen, or lies all around: it has no direction.
        return _up_to(math.inf)
    return _up_to(limits.head_angle_degrees)


_EMPTY = 'empty-result'
_INVERTED = 'intensity-inverted'
# Of several rules with one name the first that applies counts.
_RULES = (
    _Rule(
        _EMPTY,
        lambda measured: measured.labelled_ml,
        _labelled,
        'All labels have {value:g} mL together; expected more than {low:.0f} mL.',
        2,
    ),
    _Rule(
        'brain-volume',
        lambda measured: measured.brain_l,
        lambda _, limits: limits.brain_l,
        'The brain has {value:.2f} L; expected {low:g} to {high:g} L.',
    ),
    _Rule(
        'brain-extent',
        lambda measured: measured.extent_mm,
        lambda _, limits: _up_to(limits.extent_mm),
        'The brain measures {value:.0f} mm from end to end; expected at most {high:g} mm: neck or '
        'scalp may be labelled.',
        1,
    ),
    _Rule(
        'grey-white-ratio',
        lambda measured: measured.grey_white,
        lambda _, limits: limits.grey_white,
        'There is {value:.2f} times as much grey as white matter; expected {low:g} to {high:g} '
        'times.',
    ),
    _Rule(
        'asymmetry',
        lambda measured: measured.lateral_difference,
        lambda _, limits: _up_to(limits.lateral_difference),
        'The labels of left and right differ by {value:.1%} of their sum; expected at most '
        '{high:.0%}.',
    ),
    _Rule(
        'asymmetry',
        lambda measured: measured.mirror_asymmetry,
        lambda _, limits: _up_to(limits.mirror_asymmetry),
        '{value:.1%} of the brain has no counterpart on the other side; expected at most '
        '{high:.0%}.',
    ),
    _Rule(
        'components-removed',
        lambda measured: measured.removed_fraction,
        lambda _, limits: _up_to(limits.removed_fraction),
        '{value:.1%} of the labelled volume lay apart and was removed; expected at most '
        '{high:.0%}.',
    ),
    _Rule(
        'holes',
        lambda measured: measured.hole_fraction,
        _most_holes,
        'Holes in the labels are {value:.1%} of the brain; expected at most {high:.0%}.',
        4,
    ),
    _Rule(
        'field-edge',
        lambda measured: measured.edge_cm2,
        lambda _, limits: _up_to(limits.edge_cm2),
        '{value:g} cm² of brain lie at the edge of the field of view; expected at most {high:g} '
        'cm².',
        1,
    ),
    _Rule(
        'field-edge',
        lambda measured: measured.base_cm2,
        lambda _, limits: _up_to(limits.base_cm2),
        '{value:g} cm² of brain lie at the lower edge of the field of view; expected at most '
        '{high:g} cm².',
        1,
    ),
    _Rule(
        'labels-missing',
        lambda measured: len(measured.missing),
        lambda *_: _up_to(0),
        'Labels not found: {value} ({names}); expected all.',
    ),
    _Rule(
        'low-contrast',
        lambda measured: measured.cjv,
        lambda _, limits: _up_to(limits.cjv),
        'Grey and white matter vary {value:.2f} times as much as they differ (cjv); expected at '
        'most {high:g} times.',
    ),
    _Rule(
        'voxel-size',
        lambda measured: measured.voxel_mm,
        # Headers round: 2.0001 mm is 2 mm.
        lambda _, limits: _up_to(limits.voxel_mm * 1.001),
        'Voxels measure up to {value:g} mm; expected at most {high:.3g} mm.',
    ),
    _Rule(
        'skull-stripped',
        lambda measured: measured.surround_filled,
        lambda _, limits: _from(limits.surround_filled),
        'Only {value:.0%} of what surrounds the brain is not empty; expected at least {low:.0%}: '
        'the skull seems to be removed already.',
    ),
    _Rule(
        'brain-lost',
        lambda measured: measured.lost_fraction,
        lambda _, limits: _up_to(limits.lost_fraction),
        '{value:.1%} of what is as bright as brain in this skull-stripped scan lies outside the '
        'brain mask; expected at most {high:.0%}: parts of the brain may be missing from it.',
    ),
    _Rule(
        _INVERTED,
        lambda measured: measured.surround_intensity,
        lambda _, limits: _up_to(limits.surround_intensity),
        'What surrounds the brain is {value:.2f} times as bright as the brain; expected at most '
        '{high:g} times in a T1-weighted scan.',
    ),
    _Rule(
        'orientation',
        lambda measured: measured.head_angle_degrees,
        _turned,
        'The rest of the head lies {value:.0f}° from straight below the brain; expected at most '
        '{high:g}°: the scan may be upside down.',
        1,
    ),
)


def flags_of_modality(
    flags: Sequence[dict[str, object]], suffix: str, model: str
) -> list[dict[str, object]]:
    """Return the flags of a scan that is not T1-weighted.

    Parameters
    ----------
    flags : sequence of dict
        Its flags as `Flag.to_dict` returns them.
    suffix : str
        BIDS suffix of the scan, none of `brainchop_bids.bids.names.T1_LIKE`.
    model : str
        Name of the model.

    Returns
    -------
    list of dict
        The flags that hold for this modality, and ``other-contrast``, since models are trained
        on T1-weighted contrasts first of all.

    Examples
    --------
    >>> [flag['Name'] for flag in flags_of_modality([], 'T2w', 'tissue')]
    ['other-contrast']
    """
    reason = (
        f'The scan is {MODALITIES.get(suffix, suffix)}; expected T1-weighted ones, for which the '
        f'model {model} is made: look at the labels.'
    )
    kept = [flag for flag in flags if flag['Name'] != _INVERTED]
    return [*kept, Flag('other-contrast', None, reason).to_dict()]
