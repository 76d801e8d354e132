"""The rule by which connected components of a label map stay or go."""

from dataclasses import dataclass

import numpy as np

from ..errors import SettingsError

RULES = ('largest', 'per-label', 'none')
# What a rule looks like on a command line and in brainchop.json.
GRAMMAR = (
    'largest, per-label, none or groups:1,2/3, then perhaps +open:MM (with largest), '
    '+min:MM3 and +fill'
)
_SIZES = ('open', 'min')


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
    fill : bool
        Whether holes, background without a way out, get the label of the nearest voxel.

    Examples
    --------
    >>> Cleanup.parse('per-label+min:20')
    Cleanup(rule='per-label', groups=(), open_mm=0.0, min_mm3=20.0, fill=False)
    >>> str(Cleanup.parse('groups:1,2/3+fill'))
    'groups:1,2/3+fill'
    """

    rule: str = 'largest'
    groups: tuple[tuple[int, ...], ...] = ()
    open_mm: float = 0.0
    min_mm3: float = 0.0
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
        return cls(rule, groups, sizes.get('open', 0.0), sizes.get('min', 0.0), fill)

    def __str__(self) -> str:
        """Return the rule as it is written on a command line."""
        text = self.rule
        if self.groups:
            text += ':' + '/'.join(','.join(map(str, group)) for group in self.groups)
        if self.open_mm:
            text += f'+open:{_digits(self.open_mm)}'
        if self.min_mm3:
            text += f'+min:{_digits(self.min_mm3)}'
        return text + '+fill' * self.fill


def _digits(number: float) -> str:
    """Write a number so that it is read back as it was, and with no sign of the grammar."""
    return np.format_float_positional(number, trim='-')
