"""Rules for the clean-up of labels and for the brain mask."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..system.errors import SettingsError

RULES = ('largest', 'per-label', 'none')
# Syntax of a rule on the command line and in brainchop.json.
GRAMMAR = (
    'largest, per-label, none or groups:1,2/3, then perhaps +open:MM (with largest), '
    '+min:MM3, +within:MM and +fill'
)
# Largest radius of a ball; a larger one would join or remove whole brains.
_MOST_MM = 50
# Sizes, which are below: that radius, mm; ten litres, mm^3; and twice a head, mm.
_SIZES = {'open': _MOST_MM, 'min': 10_000_000, 'within': 500}


@dataclass(frozen=True)
class Cleanup:
    """Rule for the clean-up of a label map.

    Parameters
    ----------
    rule : {'largest', 'per-label', 'none', 'groups'}
        ``'largest'`` keeps the largest component of all labels together (brainchop's rule);
        ``'per-label'`` keeps the largest component of each label; ``'groups'`` keeps the largest
        component of each group of labels; ``'none'`` keeps all components.
    groups : tuple of tuple of int
        Groups of labels, for ``'groups'``; labels in no group are kept.
    open_mm : float
        Radius of a ball in mm, for ``'largest'``: structures connected to the largest component
        only through bridges narrower than this ball are removed. 0 for none.
    min_mm3 : float
        Components smaller than this, in mm^3, are removed.
    within_mm : float
        Labels outside the brain mask are removed; those that the mask excludes are kept up to
        this distance in mm. 0 to keep all.
    fill : bool
        True to give holes (enclosed background) the label of the nearest labelled voxel.

    Examples
    --------
    >>> Cleanup.parse('per-label+min:20')
    Cleanup(rule='per-label', groups=(), open_mm=0.0, min_mm3=20.0, within_mm=0.0, fill=False)
    >>> str(Cleanup.parse('groups:1,2/3+fill'))
    'groups:1,2/3+fill'
    """

    rule: str = 'largest'
    groups: tuple[tuple[int, ...], ...] = ()
    open_mm: float = 0.0
    min_mm3: float = 0.0
    within_mm: float = 0.0
    fill: bool = False

    @classmethod
    def parse(cls, text: str) -> 'Cleanup':
        """Parse a rule as `str` writes it.

        Raises
        ------
        SettingsError
            If the text is not a rule.
        """
        rule, *options = text.split('+')
        rule, _, listed = rule.partition(':')
        fill = 'fill' in options
        if fill:
            options.remove('fill')
        try:
            groups = tuple(
                tuple(int(label) for label in group.split(','))
                for group in (listed.split('/') if listed else ())
            )
            numbers = [option.split(':') for option in options]
            sizes = {name: float(value) for name, value in numbers}
        except ValueError:
            groups, sizes = (), {'': 0.0}
        members = [label for group in groups for label in group]
        if (
            (rule == 'groups') != bool(groups)
            or rule not in (*RULES, 'groups')
            or not set(sizes) <= set(_SIZES)
            or len(sizes) < len(options)
            or ('open' in sizes and rule != 'largest')
            or len(set(members)) < len(members)
            or min(members, default=1) < 1
        ):
            raise SettingsError(f'component rule {text!r} is not known; expected {GRAMMAR}')
        for name, size in sizes.items():
            if not 0 < size < _SIZES[name]:
                raise SettingsError(
                    f'component rule {text!r}: {name} is {size:g}; expected more than 0 and less '
                    f'than {_SIZES[name]:,}'
                )
        open_mm, min_mm3, within_mm = (sizes.get(name, 0.0) for name in _SIZES)
        return cls(rule, groups, open_mm, min_mm3, within_mm, fill)

    def __str__(self) -> str:
        """Return the rule as it is written on a command line."""
        text = self.rule
        if self.groups:
            text += ':' + '/'.join(','.join(map(str, group)) for group in self.groups)
        if self.open_mm:
            text += f'+open:{_digits(self.open_mm)}'
        if self.min_mm3:
            text += f'+min:{_digits(self.min_mm3)}'
        if self.within_mm:
            text += f'+within:{_digits(self.within_mm)}'
        return text + '+fill' * self.fill


@dataclass(frozen=True)
class MaskRule:
    """Rule for making a brain mask from labels, see `brainchop_bids.image.components.brain_mask`.

    Parameters
    ----------
    exclude : tuple of int
        Labels that are left out, such as fluid, which networks also find outside the brain.
        Enclosed by other labels, they are part of the mask all the same.
    open_mm : float
        Radius of a ball in mm. Structures connected to the brain only through bridges narrower
        than this ball, such as muscles of the neck, are left out; 0 for none.
    closing_mm : float
        Radius in mm of the ball of a morphological closing, which adds sulci and ventricles
        without a label; 0 for none.

    Examples
    --------
    >>> MaskRule.from_dict({'closing_mm': 8, 'exclude': [3]})
    MaskRule(exclude=(3,), open_mm=0.0, closing_mm=8.0)
    """

    exclude: tuple[int, ...] = ()
    open_mm: float = 0.0
    closing_mm: float = 0.0

    @classmethod
    def from_dict(cls, content: Any) -> 'MaskRule':
        """Build from a mapping as `to_dict` returns it; missing keys take their defaults.

        Raises
        ------
        SettingsError
            If a key is unknown or a value is invalid.
        """
        if not isinstance(content, Mapping) or set(content) - set(cls.__dataclass_fields__):
            known = ', '.join(f'"{key}"' for key in cls.__dataclass_fields__)
            raise SettingsError(f'"mask" is {content!r}; expected {{{known}}}')
        sizes = {}
        for key in ('open_mm', 'closing_mm'):
            size = content.get(key, 0)
            if type(size) not in (int, float) or not 0 <= size < _MOST_MM:
                raise SettingsError(f'mask {key} is {size!r}; expected 0 to {_MOST_MM} mm')
            sizes[key] = float(size)
        exclude = content.get('exclude', ())
        if not isinstance(exclude, (list, tuple)) or not all(
            type(label) is int and label > 0 for label in exclude
        ):
            raise SettingsError(f'mask exclude is {exclude!r}; expected labels above 0')
        return cls(tuple(exclude), **sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {**asdict(self), 'exclude': list(self.exclude)}


def _digits(number: float) -> str:
    """Write a number without loss and without characters that have a meaning in rules."""
    return np.format_float_positional(number, trim='-')
