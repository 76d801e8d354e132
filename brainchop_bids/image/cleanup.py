"""Rules for the clean-up of labels, and for the brain mask that is made of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..system.errors import SettingsError

RULES = ('largest', 'per-label', 'none')
# What a rule looks like on a command line and in brainchop.json.
GRAMMAR = (
    'largest, per-label, none or groups:1,2/3, then perhaps +open:MM (with largest), '
    '+min:MM3, +within:MM and +fill'
)
_SIZES = ('open', 'min', 'within')
# Of a mask's balls; a larger one joins or swallows whole brains.
_MOST_MM = 50


@dataclass(frozen=True)
class Cleanup:
    """What stays of a label map.

    Parameters
    ----------
    rule : {'largest', 'per-label', 'none', 'groups'}
        ``'largest'`` joins all labels and keeps the one largest foreground component
        (brainchop's rule); ``'per-label'`` keeps the largest component of each label;
        ``'groups'`` joins the labels of a group and keeps the largest component of each group;
        ``'none'`` keeps all.
    groups : tuple of tuple of int
        Labels that belong together, for ``'groups'``; all that are in none stay.
    open_mm : float
        Radius of a ball, for ``'largest'``: thick things that hang on the largest component by a
        bridge that this ball does not pass go too.
    min_mm3 : float
        Components smaller than that go, in mm^3, whatever the rule.
    within_mm : float
        Labels farther than that from the brain mask become background, in mm; so does, at any
        distance, what is outside the mask of the labels that the mask is made of. 0 for not.
    fill : bool
        Whether holes, background without a way out, get the label of the nearest voxel.

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
        """Read what `str` gives.

        Raises
        ------
        SettingsError
            Where the text is no rule.
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
            or not all(0 < size < float('inf') for size in sizes.values())
            or len(set(members)) < len(members)
            or min(members, default=1) < 1
        ):
            raise SettingsError(f'component rule {text!r} is not known; expected {GRAMMAR}')
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
    """How a brain mask is made of labels, see `brainchop_bids.image.components.brain_mask`.

    Parameters
    ----------
    exclude : tuple of int
        Labels that the mask is not made of, such as fluid, which looks like much else in a head.
        Where they lie between the others they are in the mask all the same.
    open_mm : float
        Radius in mm of a ball. What hangs on the brain by bridges that this ball does not pass is
        left out, such as muscle of the neck; 0 for nothing.
    closing_mm : float
        Radius in mm of the ball of a morphological closing, over sulci and ventricles that are
        none of the labels; 0 for none.

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
        """Read what `to_dict` gives; every key may be left out.

        Raises
        ------
        SettingsError
            Where a key is not known or a value is not possible.
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
        """Return what `from_dict` reads, ready for JSON."""
        return {**asdict(self), 'exclude': list(self.exclude)}


def _digits(number: float) -> str:
    """Write a number so that it is read back as it was, and with no sign of the grammar."""
    return np.format_float_positional(number, trim='-')
