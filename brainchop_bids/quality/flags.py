"""What makes a result implausible, each with its number and its limit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .limits import LIMITS, Limits


@dataclass(frozen=True)
class Flag:
    """One reason to look at a result.

    Parameters
    ----------
    name : str
        Lower-case words with hyphens.
    value : float
        The number that is beyond its limit.
    reason : str
        A sentence with number and limit.
    """

    name: str
    value: float
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Return it as it stands in sidecars."""
        return {'Name': self.name, 'Value': self.value, 'Reason': self.reason}


@dataclass(frozen=True)
class Quantities:
    """The numbers that have limits; None where one does not apply.

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
    mirror : float or None
        Share of the brain mask that its best mirror image misses.
    sides : float or None
        Difference of left and right labels over their sum.
    removed : float or None
        Share of the labelled volume that was taken away.
    holes : float or None
        Background inside the labels over the volume of the brain mask.
    has_fluid : bool
        Whether ventricles have a label, or the labels do not tell tissues apart.
    extent_mm : float or None
        Length of the brain along the longest of its axes, mm.
    edge_cm2, base_cm2 : float or None
        Brain at any other face of the field of view and at its lower one, cm^2.
    cjv : float or None
        Coefficient of joint variation.
    around : float or None
        Share of non-empty blocks around the brain.
    outside : float or None
        Median intensity outside the brain over that inside.
    below_degrees, rest_l, rest_mm : float or None
        Angle between down and the way from the brain to the rest of the head; volume of that
        rest; length of the way.
    """

    labelled_ml: float
    voxel_mm: float
    covers_brain: bool = True
    missing: tuple[str, ...] = ()
    brain_l: float | None = None
    grey_white: float | None = None
    mirror: float | None = None
    sides: float | None = None
    removed: float | None = None
    holes: float | None = None
    has_fluid: bool = True
    extent_mm: float | None = None
    edge_cm2: float | None = None
    base_cm2: float | None = None
    cjv: float | None = None
    around: float | None = None
    outside: float | None = None
    below_degrees: float | None = None
    rest_l: float | None = None
    rest_mm: float | None = None


def find_flags(found: Quantities, limits: Limits = LIMITS) -> list[Flag]:
    """Compare numbers with their limits.

    Parameters
    ----------
    found : Quantities
        What was measured.
    limits : Limits
        What is plausible.

    Returns
    -------
    list of Flag
        In a fixed order; empty where nothing is odd. Of an empty result only that is said, and
        how large the voxels are.

    Examples
    --------
    >>> [flag.name for flag in find_flags(Quantities(1500, 1.0, brain_l=2.5))]
    ['brain-volume']
    """
    empty = _empty(found, limits)
    if empty is not None:
        return [empty, *_voxels(found, limits)]
    return [flag for check in _CHECKS for flag in check(found, limits)]


def _empty(found: Quantities, limits: Limits) -> Flag | None:
    least = limits.result_ml if found.covers_brain else 0.0
    if found.labelled_ml > least:
        return None
    value = round(found.labelled_ml, 2)
    if not value:
        return Flag('empty-result', value, 'No voxel has a label: 0 mL.')
    reason = f'All labels have {value:g} mL together; a brain has more than {least:g} mL.'
    return Flag('empty-result', value, reason)


def _volume(found: Quantities, limits: Limits) -> Iterator[Flag]:
    low, high = limits.brain_l
    if found.brain_l is not None and not low <= found.brain_l <= high:
        value = round(found.brain_l, 3)
        yield Flag(
            'brain-volume', value, f'The brain has {value:.2f} L; expected {low:g} to {high:g} L.'
        )


def _extent(found: Quantities, limits: Limits) -> Iterator[Flag]:
    if found.extent_mm is not None and found.extent_mm > limits.extent_mm:
        value = round(found.extent_mm, 1)
        yield Flag(
            'brain-extent',
            value,
            f'The brain measures {value:.0f} mm from end to end; expected at most '
            f'{limits.extent_mm:g} mm: neck or scalp may be labelled.',
        )


def _grey_white(found: Quantities, limits: Limits) -> Iterator[Flag]:
    low, high = limits.grey_white
    if found.grey_white is not None and not low <= found.grey_white <= high:
        value = round(found.grey_white, 3)
        yield Flag(
            'grey-white-ratio',
            value,
            f'There is {value:.2f} times as much grey as white matter; expected {low:g} to '
            f'{high:g} times.',
        )


def _asymmetry(found: Quantities, limits: Limits) -> Iterator[Flag]:
    if found.sides is not None and found.sides > limits.sides:
        value = round(found.sides, 3)
        reason = (
            f'The labels of left and right differ by {value:.1%} of their sum; expected at most '
            f'{limits.sides:.0%}.'
        )
        yield Flag('asymmetry', value, reason)
    elif found.mirror is not None and found.mirror > limits.mirror:
        value = round(found.mirror, 3)
        reason = (
            f'{value:.1%} of the brain has no counterpart on the other side; expected at most '
            f'{limits.mirror:.0%}.'
        )
        yield Flag('asymmetry', value, reason)


def _removed(found: Quantities, limits: Limits) -> Iterator[Flag]:
    if found.removed is not None and found.removed > limits.removed:
        value = round(found.removed, 3)
        yield Flag(
            'components-removed',
            value,
            f'{value:.1%} of the labelled volume lay apart and was removed; expected at most '
            f'{limits.removed:.0%}.',
        )


def _holes(found: Quantities, limits: Limits) -> Iterator[Flag]:
    most = limits.holes if found.has_fluid else limits.holes_without_fluid
    if found.holes is not None and found.holes > most:
        value = round(found.holes, 4)
        yield Flag(
            'holes',
            value,
            f'Holes in the labels are {value:.1%} of the brain; expected at most {most:.0%}.',
        )


def _edge(found: Quantities, limits: Limits) -> Iterator[Flag]:
    pairs = (
        (found.edge_cm2, limits.edge_cm2, 'the edge'),
        (found.base_cm2, limits.base_cm2, 'the lower edge'),
    )
    for area, most, where in pairs:
        if area is not None and area > most:
            value = round(area, 1)
            reason = (
                f'{value:g} cm² of brain lie at {where} of the field of view; expected at most '
                f'{most:g} cm².'
            )
            yield Flag('field-edge', value, reason)
            return


def _missing(found: Quantities, limits: Limits) -> Iterator[Flag]:
    count = len(found.missing)
    if count:
        names = ', '.join(found.missing[:4]) + f' and {count - 4} more' * (count > 4)
        verb = 'label was' if count == 1 else 'labels were'
        yield Flag('labels-missing', count, f'{count} {verb} not found, expected all: {names}.')


def _contrast(found: Quantities, limits: Limits) -> Iterator[Flag]:
    if found.cjv is not None and found.cjv > limits.cjv:
        value = round(found.cjv, 3)
        yield Flag(
            'low-contrast',
            value,
            f'Grey and white matter vary {value:.2f} times as much as they differ (cjv); expected '
            f'at most {limits.cjv:g} times.',
        )


def _voxels(found: Quantities, limits: Limits) -> Iterator[Flag]:
    # Headers round: 2.0001 mm is 2 mm.
    if found.voxel_mm > limits.voxel_mm * 1.001:
        value = round(found.voxel_mm, 3)
        yield Flag(
            'voxel-size',
            value,
            f'Voxels measure up to {value:g} mm; expected at most {limits.voxel_mm:g} mm.',
        )


def _stripped(found: Quantities, limits: Limits) -> Iterator[Flag]:
    if found.around is not None and found.around < limits.around:
        value = round(found.around, 3)
        yield Flag(
            'skull-stripped',
            value,
            f'Only {value:.0%} of what surrounds the brain is not empty; expected at least '
            f'{limits.around:.0%}: the skull seems to be removed already.',
        )


def _inverted(found: Quantities, limits: Limits) -> Iterator[Flag]:
    if found.outside is not None and found.outside > limits.outside:
        value = round(found.outside, 3)
        yield Flag(
            'intensity-inverted',
            value,
            f'What surrounds the brain is {value:.2f} times as bright as the brain; expected at '
            f'most {limits.outside:g} times in a T1-weighted scan.',
        )


def _orientation(found: Quantities, limits: Limits) -> Iterator[Flag]:
    angle, rest, way = found.below_degrees, found.rest_l, found.rest_mm
    if angle is None or rest is None or way is None or way < limits.rest_mm:
        return
    low, high = limits.rest_l
    if low <= rest <= high and angle > limits.below_degrees:
        value = round(angle, 1)
        yield Flag(
            'orientation',
            value,
            f'The rest of the head lies {value:.0f}° from straight below the brain; expected at '
            f'most {limits.below_degrees:g}°: the scan may be upside down.',
        )


_CHECKS: tuple[Callable[[Quantities, Limits], Iterator[Flag]], ...] = (
    _volume,
    _extent,
    _grey_white,
    _asymmetry,
    _removed,
    _holes,
    _edge,
    _missing,
    _contrast,
    _voxels,
    _stripped,
    _inverted,
    _orientation,
)
